"""The runs of an ablation: a list that nothing changes, and no run is stopped early."""

from __future__ import annotations

from itertools import count

from guidedmix_core import Tree
from orchestrator.ablation import AblationStudy, CellRun
from orchestrator.folder import StudyFolder, read_json, write_json
from orchestrator.proposals import Proposal
from orchestrator.results import TrialRecord
from orchestrator.stage_tree import Chain, StageStore, chain_of, first_free, in_order


class Cells:
    """What has no end yet: what was interrupted, then block by block, the longest first. Numbers count on from those of
    the journal.

    A run is held back while another one makes a stage that it needs: it would wait for a lock in a worker's place.
    """

    def __init__(self, study: AblationStudy, base: Tree, folder: StudyFolder) -> None:
        asked = {
            (event["cell"], event["block"], event["fingerprint"]): event["number"]
            for event in folder.events()
            if event["event"] == "asked"
        }
        new = count(1 + max(asked.values(), default=-1))
        interrupted: dict[int, CellRun] = {}
        fresh: list[CellRun] = []
        for run in _named(study.runs(base), folder):
            number = asked.get((run.cell, run.block, run.fingerprint))
            is_canary = (run.cell, run.block) == (study.reference, 0)  # the driver looks at its end at each start
            if number is None:
                fresh.append(run)
            elif is_canary or not folder.trial(run.fingerprint).result.exists():
                interrupted[number] = run

        def chain(run: CellRun) -> Chain:
            return chain_of(run.config, run.block, run.cell == study.reference)

        ordered = [fresh[i] for i in in_order([chain(run) for run in fresh])]
        self._runs = dict([*sorted(interrupted.items()), *zip(new, ordered, strict=False)])
        self._waiting = {number: chain(run) for number, run in self._runs.items()}
        self._out: dict[int, Chain] = {}
        self._stages = StageStore(folder.stages)

    @property
    def waits(self) -> bool:
        return bool(self._waiting)

    def ask(self) -> Proposal | None:
        if (number := first_free(self._waiting, self._out.values(), self._stages)) is None:
            return None
        self._out[number] = self._waiting.pop(number)
        run = self._runs.pop(number)
        return Proposal(number, run.params, run.label, run.cell, run.block)

    def report(self, number: int, step: int, value: float) -> bool:
        return False

    def tell(self, number: int, record: TrialRecord) -> None:
        del self._out[number]


def _named(runs: list[CellRun], folder: StudyFolder) -> list[CellRun]:
    """The runs, after what was made under an older name has its present one; of equal cells the first gives it."""
    for digest, run in {run.fingerprint: run for run in reversed(runs)}.items():
        record = folder.trial(digest).trial
        names = {"label": run.label, "params": run.params, "cell": run.cell, "block": run.block}
        if record.exists() and (found := read_json(record)) != {**found, **names}:
            write_json(record, {**found, **names})
    return runs
