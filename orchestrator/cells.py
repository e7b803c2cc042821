"""The runs of an ablation, block by block. No run is stopped early; a cell may get more blocks until it is decided."""

from __future__ import annotations

from itertools import count

from guidedmix_core import Tree
from orchestrator.ablation import AblationStudy, CellRun
from orchestrator.comparison import compare
from orchestrator.folder import StudyFolder, read_json, write_json
from orchestrator.proposals import Proposal
from orchestrator.results import TrialRecord, load_trials
from orchestrator.stage_tree import Chain, StageStore, chain_of, first_free, in_order


class Cells:
    """What has no end yet: what was interrupted, then block by block, the longest first. Numbers count on from those of
    the journal.

    A run is held back while another one makes a stage that it needs: it would wait for a lock in a worker's place. With
    `sequential`, a block after the listed ones is of the reference and the cells that are undecided by then.
    """

    def __init__(self, study: AblationStudy, base: Tree, folder: StudyFolder) -> None:
        self._study, self._folder = study, folder
        self._asked = {
            (event["cell"], event["block"], event["fingerprint"]): event["number"]
            for event in folder.events()
            if event["event"] == "asked"
        }
        self._new = count(1 + max(self._asked.values(), default=-1))
        self._stages = StageStore(folder.stages)
        self._runs: dict[int, CellRun] = {}
        self._waiting: dict[int, Chain] = {}
        self._out: dict[int, Chain] = {}
        runs = _named(study.runs(base), folder)
        listed = len(study.listed_blocks)
        self._later = [run for run in runs if run.block >= listed]
        self._line_up([run for run in runs if run.block < listed])

    def ask(self) -> Proposal | None:
        """None also while a look, or a stage, has to wait for runs that are out."""
        if not self._waiting and self._later:
            self._line_up(self._next_block())
        if (number := first_free(self._waiting, self._out.values(), self._stages)) is None:
            return None
        self._out[number] = self._waiting.pop(number)
        run = self._runs.pop(number)
        return Proposal(number, run.params, run.label, run.cell, run.block)

    def report(self, number: int, step: int, value: float) -> bool:
        return False

    def tell(self, number: int, record: TrialRecord) -> None:
        del self._out[number]

    def _next_block(self) -> list[CellRun]:
        """Of the reference and the cells that no look has decided; once each."""
        looks = compare(self._folder.request(), load_trials(self._folder)).looks
        if looks is None or not looks.undecided:
            return []
        wanted = {self._study.reference, *looks.undecided}
        due = [run for run in self._later if run.block == looks.blocks and run.cell in wanted]
        self._later = [run for run in self._later if run.block > (looks.blocks or 0)]
        return due

    def _line_up(self, runs: list[CellRun]) -> None:
        """What has no end yet; what was interrupted first, under its old number."""
        interrupted: dict[int, CellRun] = {}
        fresh: list[CellRun] = []
        for run in runs:
            number = self._asked.get((run.cell, run.block, run.fingerprint))
            is_canary = (run.cell, run.block) == (self._study.reference, 0)  # the driver looks at its end at each start
            if number is None:
                fresh.append(run)
            elif is_canary or not self._folder.trial(run.fingerprint).result.exists():
                interrupted[number] = run
        ordered = [fresh[i] for i in in_order([self._chain(run) for run in fresh])]
        new = {number: run for run, number in zip(ordered, self._new, strict=False)}
        lined_up = {**dict(sorted(interrupted.items())), **new}
        self._runs |= lined_up
        self._waiting |= {number: self._chain(run) for number, run in lined_up.items()}

    def _chain(self, run: CellRun) -> Chain:
        return chain_of(run.config, run.block, run.cell == self._study.reference)


def _named(runs: list[CellRun], folder: StudyFolder) -> list[CellRun]:
    """The runs, after what was made under an older name has its present one; of equal cells the first gives it."""
    for digest, run in {run.fingerprint: run for run in reversed(runs)}.items():
        record = folder.trial(digest).trial
        names = {"label": run.label, "params": run.params, "cell": run.cell, "block": run.block}
        if record.exists() and (found := read_json(record)) != {**found, **names}:
            write_json(record, {**found, **names})
    return runs
