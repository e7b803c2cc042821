"""The runs of an ablation, one after another: a list that nothing changes, and no run is stopped early."""

from __future__ import annotations

from collections import deque
from itertools import count

from guidedmix_core import Tree
from orchestrator.ablation import AblationStudy, CellRun
from orchestrator.folder import StudyFolder, read_json, write_json
from orchestrator.proposals import Proposal
from orchestrator.results import TrialRecord


class Cells:
    """What has no end yet: what was interrupted, then block by block. Numbers count on from those of the journal."""

    def __init__(self, study: AblationStudy, base: Tree, folder: StudyFolder) -> None:
        asked = {
            (event["cell"], event["block"], event["fingerprint"]): event["number"]
            for event in folder.events()
            if event["event"] == "asked"
        }
        new = count(1 + max(asked.values(), default=-1))
        interrupted, fresh = [], []
        for run in _named(study.runs(base), folder):
            number = asked.get((run.cell, run.block, run.fingerprint))
            is_canary = (run.cell, run.block) == (study.reference, 0)  # the driver looks at its end at each start
            if number is None:
                fresh.append(_proposal(next(new), run))
            elif is_canary or not folder.trial(run.fingerprint).result.exists():
                interrupted.append(_proposal(number, run))
        self._waiting = deque([*sorted(interrupted, key=lambda proposal: proposal.number), *fresh])

    def ask(self) -> Proposal | None:
        return self._waiting.popleft() if self._waiting else None

    def report(self, number: int, step: int, value: float) -> bool:
        return False

    def tell(self, number: int, record: TrialRecord) -> None:
        return


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
