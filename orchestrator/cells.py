"""The runs of an ablation, block by block. No run is stopped early; a cell may get more blocks until it is decided."""

from __future__ import annotations

from collections import deque
from itertools import count

from guidedmix_core import Tree
from orchestrator.ablation import AblationStudy, CellRun
from orchestrator.comparison import compare
from orchestrator.folder import StudyFolder, read_json, write_json
from orchestrator.proposals import Proposal
from orchestrator.results import TrialRecord, load_trials


class Cells:
    """What has no end yet: what was interrupted, then block by block. Numbers count on from those of the journal.

    With `sequential`, a block after the listed ones is of the reference and the cells that are undecided by then."""

    def __init__(self, study: AblationStudy, base: Tree, folder: StudyFolder) -> None:
        self._study, self._folder = study, folder
        self._asked = {
            (event["cell"], event["block"], event["fingerprint"]): event["number"]
            for event in folder.events()
            if event["event"] == "asked"
        }
        self._new = count(1 + max(self._asked.values(), default=-1))
        runs = _named(study.runs(base), folder)
        listed = len(study.listed_blocks)
        self._later = [run for run in runs if run.block >= listed]
        self._waiting = deque(self._proposals([run for run in runs if run.block < listed]))

    def ask(self) -> Proposal | None:
        """None also while a look has to wait for runs that are out."""
        if not self._waiting and self._later:
            self._waiting.extend(self._next_block())
        return self._waiting.popleft() if self._waiting else None

    def report(self, number: int, step: int, value: float) -> bool:
        return False

    def tell(self, number: int, record: TrialRecord) -> None:
        return

    def _next_block(self) -> list[Proposal]:
        """Of the reference and the cells that no look has decided; once each."""
        looks = compare(self._folder.request(), load_trials(self._folder)).looks
        if looks is None or not looks.undecided:
            return []
        wanted = {self._study.reference, *looks.undecided}
        due = [run for run in self._later if run.block == looks.blocks and run.cell in wanted]
        self._later = [run for run in self._later if run.block > (looks.blocks or 0)]
        return self._proposals(due)

    def _proposals(self, runs: list[CellRun]) -> list[Proposal]:
        """Of what has no end yet, what was interrupted first."""
        interrupted, fresh = [], []
        for run in runs:
            number = self._asked.get((run.cell, run.block, run.fingerprint))
            is_canary = (run.cell, run.block) == (self._study.reference, 0)  # the driver looks at its end at each start
            if number is None:
                fresh.append(_proposal(next(self._new), run))
            elif is_canary or not self._folder.trial(run.fingerprint).result.exists():
                interrupted.append(_proposal(number, run))
        return [*sorted(interrupted, key=lambda proposal: proposal.number), *fresh]


def _proposal(number: int, run: CellRun) -> Proposal:
    return Proposal(number, run.params, run.label, run.cell, run.block)


def _named(runs: list[CellRun], folder: StudyFolder) -> list[CellRun]:
    """The runs, after what was made under an older name has its present one; of equal cells the first gives it."""
    for digest, run in {run.fingerprint: run for run in reversed(runs)}.items():
        record = folder.trial(digest).trial
        names = {"label": run.label, "params": run.params, "cell": run.cell, "block": run.block}
        if record.exists() and (found := read_json(record)) != {**found, **names}:
            write_json(record, {**found, **names})
    return runs
