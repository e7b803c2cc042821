"""The cells of an ablation beside their reference: what the records show, and what they don't."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.results import TrialRecord
from orchestrator.stats import Estimate, estimate, paired
from orchestrator.study import Objective

ENOUGH_HEADROOM = 0.08
"""mIoU of the ceiling minus that of the reference. Below it no semi-supervised method can show a gain: at best it
recovers a part of it, and seeds and splits move an mIoU by one to three points."""

Verdict = Literal[
    "reference", "better", "worse", "no difference shown", "one block: no interval", "the same runs", "not compared"
]


@dataclass(frozen=True)
class Cell:
    """A cell, the runs that it asks for now, and what they come to."""

    name: str
    changes: dict[str, Any]
    runs: tuple[TrialRecord | None, ...]
    """By block; None if it was not handed out yet."""
    value: Estimate | None
    """The objective over the blocks that are complete."""
    versus: Estimate | None
    """Its difference to the reference over the blocks that both have; None for the reference itself."""
    verdict: Verdict

    @property
    def complete(self) -> dict[int, TrialRecord]:
        """By block."""
        return {block: run for block, run in enumerate(self.runs) if run is not None and run.state == "complete"}

    @property
    def failed(self) -> int:
        return sum(run is not None and run.state == "failed" for run in self.runs)

    @property
    def seconds(self) -> float | None:
        """Of training, the mean of the complete runs."""
        found = estimate([run.seconds for run in self.complete.values()])
        return None if found is None else found.mean

    def values(self, metric: str) -> dict[int, float]:
        """By block, of the complete runs that have it."""
        return {block: run.metrics[metric] for block, run in self.complete.items() if metric in run.metrics}


@dataclass(frozen=True)
class Comparison:
    """All cells in the order of the file."""

    cells: tuple[Cell, ...]
    reference: Cell
    ceiling: Cell | None
    objective: Objective
    blocks: int

    @property
    def headroom(self) -> Estimate | None:
        """What there is to gain: the ceiling's difference to the reference."""
        return None if self.ceiling is None else self.ceiling.versus

    @property
    def has_headroom(self) -> bool | None:
        """None if nothing is known of it, or no rule: there is one for the mIoU."""
        if self.headroom is None or self.objective.metric != "val/miou":
            return None
        return self.headroom.mean >= ENOUGH_HEADROOM


def compare(request: Mapping[str, Any], records: Iterable[TrialRecord]) -> Comparison:
    """Of the content of an ablation's `study.yaml` and its records. Equal cells share their runs."""
    objective = Objective.model_validate(request["objectives"][0])
    found = {record.fingerprint: record for record in records}
    runs = {name: tuple(found.get(fingerprint) for fingerprint in row) for name, row in request["runs"].items()}
    known = {name: _objectives(row) for name, row in runs.items()}
    reference, ceiling = request["reference"], request["ceiling"]
    cells = {}
    for name, changes in request["cells"].items():
        versus = None if name == reference else paired(known[name], known[reference])
        verdict = "reference" if name == reference else _verdict(versus, objective)
        if name != reference and request["runs"][name] == request["runs"][reference]:
            verdict = "the same runs"
        cells[name] = Cell(name, changes, runs[name], estimate([*known[name].values()]), versus, verdict)
    return Comparison(
        tuple(cells.values()), cells[reference], ceiling and cells[ceiling], objective, len(runs[reference])
    )


def asked_for(request: Mapping[str, Any], records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Without what an ablation does not ask for any more: runs of a cell as it was, or of one that is gone; and
    without the fresh runs of what is no longer the winner of a search."""
    is_ablation = request["kind"] == "ablate"
    runs = request["runs"] if is_ablation else request.get("confirmation", {}).get("runs", {})
    wanted = {fingerprint for row in runs.values() for fingerprint in row}
    return [
        record for record in records if record.fingerprint in wanted or not (is_ablation or record.role == "confirm")
    ]


def _objectives(runs: Iterable[TrialRecord | None]) -> dict[int, float]:
    """By block, of what is complete: a run that failed or was stopped has no value of a whole run."""
    complete = ((block, run) for block, run in enumerate(runs) if run is not None and run.state == "complete")
    return {block: run.objective for block, run in complete if run.objective is not None}


def _verdict(versus: Estimate | None, objective: Objective) -> Verdict:
    """Nothing is called better or worse unless its interval excludes zero."""
    if versus is None:
        return "not compared"
    if versus.n == 1:
        return "one block: no interval"
    if not versus.excludes_zero:
        return "no difference shown"
    return "better" if (versus.mean > 0) == (objective.mode == "max") else "worse"
