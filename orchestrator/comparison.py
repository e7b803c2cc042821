"""The cells of an ablation beside their reference: what the records show, and what they don't."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.analysis import Analysis
from orchestrator.evidence import Arm, Evidence, Looks, take_looks, weigh
from orchestrator.factorial import FactorEffects, factor_effects
from orchestrator.results import TrialRecord
from orchestrator.stats import Estimate, estimate, paired
from orchestrator.study import Objective
from orchestrator.units import is_share, scale_of

ENOUGH_HEADROOM = 0.08
"""mIoU of the ceiling minus that of the baseline. Below it labels are hardly what limits this schedule: a method can
recover a part of little, and seeds and splits move an mIoU by one to three points."""

Verdict = Literal[
    "reference",
    "better",
    "worse",
    "smaller than the margin",
    "no difference shown",
    "one block: no interval",
    "equal differences: no interval",
    "no look yet",
    "the same runs",
    "not compared",
]


@dataclass(frozen=True)
class Cell:
    """A cell, the runs that it asks for now, and what they come to."""

    name: str
    levels: dict[str, str]
    """Of each factor of the design; empty for a cell that is listed in the file."""
    changes: dict[str, Any]
    runs: tuple[TrialRecord | None, ...]
    """By block; None if it was not handed out yet."""
    value: Estimate | None
    """The objective over the blocks that are complete."""
    evidence: Evidence | None
    """Of its difference to the reference. None of the reference itself, and without a common block."""
    verdict: Verdict
    is_small: bool
    """Shown to be smaller than the margin; what is better or worse can be that as well."""
    is_starred: bool
    """Better or worse also by the exact sign-flip test, which asks for no normal distribution: six blocks at least."""

    @property
    def versus(self) -> Estimate | None:
        """Its difference to the reference."""
        return None if self.evidence is None else self.evidence.versus

    @property
    def complete(self) -> dict[int, TrialRecord]:
        """By block."""
        return {block: run for block, run in enumerate(self.runs) if run is not None and run.state == "complete"}

    @property
    def failed(self) -> int:
        return len(self.failures)

    @property
    def failures(self) -> list[str]:
        """The reason of each run that failed."""
        return [run.failure["reason"] for run in self.runs if run is not None and run.failure is not None]

    @property
    def adjusted(self) -> list[TrialRecord]:
        """Complete runs that were made in smaller micro-batches than asked for, as memory ran out."""
        return [run for run in self.complete.values() if run.adjusted is not None]

    @property
    def seconds(self) -> float | None:
        """Of training, stages included, the mean of the complete runs."""
        found = estimate([run.seconds_in_all for run in self.complete.values()])
        return None if found is None else found.mean

    def values(self, metric: str) -> dict[int, float]:
        """By block, of the complete runs that have it."""
        return {block: run.metrics[metric] for block, run in self.complete.items() if metric in run.metrics}

    def pairs(self, other: Cell, metric: str) -> tuple[dict[int, float], dict[int, float]]:
        """Of both, by block, where the runs may be paired."""
        both = self.complete.keys() & other.complete.keys()
        alike = {block for block in both if self.complete[block].is_alike(other.complete[block])}
        own, theirs = self.values(metric), other.values(metric)
        return {block: own[block] for block in alike & own.keys()}, theirs


@dataclass(frozen=True)
class Comparison:
    """All cells in the order of the file."""

    cells: tuple[Cell, ...]
    reference: Cell
    ceiling: Cell | None
    objective: Objective
    analysis: Analysis
    blocks: int
    """In which every cell has a run. A study that adds blocks has more of some cells."""
    looks: Looks | None
    """Of a study that adds blocks."""
    effects: FactorEffects | None
    """Of the factors, if they vary independently of one another."""
    family: tuple[Cell, ...]
    """What the correction is for: of equal cells the first."""

    @property
    def margin_words(self) -> str:
        """`0.3 points`; empty without a margin."""
        margin = self.analysis.margin
        unit = f" point{'s' * (margin != 1)}" if is_share(self.objective.metric) else ""
        return "" if margin is None else f"{margin:g}{unit}"

    @property
    def baseline(self) -> Cell:
        """What few labels alone give: the reference; where that is a method, the cell that makes it supervised."""
        alone = {"method.name": "supervised"}
        if self.reference.changes.get("method.name") == "supervised":
            return self.reference
        return next((cell for cell in self.cells if cell.changes == alone), self.reference)

    @property
    def headroom(self) -> Estimate | None:
        """What there is to gain: the ceiling's difference to the baseline."""
        if self.ceiling is None or self.baseline is self.reference:
            return None if self.ceiling is None else self.ceiling.versus
        return paired(*self.ceiling.pairs(self.baseline, self.objective.metric), self.analysis.interval)

    @property
    def has_headroom(self) -> bool | None:
        """None if nothing is known of it, or no rule: there is one for the mIoU."""
        if self.headroom is None or self.objective.metric != "val/miou":
            return None
        return self.headroom.mean >= ENOUGH_HEADROOM


def compare(request: Mapping[str, Any], records: Iterable[TrialRecord]) -> Comparison:
    """Of the content of an ablation's `study.yaml` and its records. Equal cells share their runs."""
    objective = Objective.model_validate(request["objectives"][0])
    analysis = Analysis.model_validate(request.get("analysis", {}))  # older folders have none
    found = {record.fingerprint: record for record in records}
    runs = {name: tuple(found.get(fingerprint) for fingerprint in row) for name, row in request["runs"].items()}
    reference, ceiling = request["reference"], request["ceiling"]
    arms = {name: _arm(row, runs[reference]) for name, row in runs.items()}
    twins = {name for name, row in request["runs"].items() if row == request["runs"][reference]} - {reference}
    rivals = {name: tuple(request["runs"][name]) for name in runs if name not in (reference, ceiling, *twins)}
    firsts = {row: name for name, row in reversed(rivals.items())}  # equal cells are one comparison
    family = [name for name, row in rivals.items() if firsts[row] == name]
    margin = None if analysis.margin is None else analysis.margin / scale_of(objective.metric)
    blocks, looks = len(runs[reference]), None
    if request.get("sequential"):
        blocks, most = request["first_look"], request["sequential"]["max_blocks"]
        looks = take_looks(arms, reference, family, analysis, margin, blocks, most)
    evidence = weigh(arms, reference, family, analysis, margin, looks)
    cells = {}
    for name, changes in request["cells"].items():
        own = evidence.get(firsts[rivals[name]] if name in rivals else name)
        value = estimate([*arms[name].values.values()], analysis.interval)
        roles: dict[str, Verdict] = {reference: "reference", **dict.fromkeys(twins, "the same runs")}
        verdict = roles.get(name) or _verdict(own, objective, analysis)
        is_small = own is not None and _reaches(own.p_smaller_adjusted, analysis)
        is_starred = verdict in ("better", "worse") and own is not None and _reaches(own.p_sign_flip, analysis)
        levels = request.get("levels", {}).get(name, {})
        is_starred &= name != ceiling
        cells[name] = Cell(name, levels, changes, runs[name], value, own, verdict, is_small, is_starred)
    values = {
        name: {block: value for block, value in arm.values.items() if block not in {*arm.halvings, *arm.changed}}
        for name, arm in arms.items()
    }
    effects = factor_effects(request.get("levels", {}), values, reference, analysis.interval)
    return Comparison(
        tuple(cells.values()),
        cells[reference],
        ceiling and cells[ceiling],
        objective,
        analysis,
        blocks,
        looks,
        effects,
        tuple(cells[name] for name in family if (own := evidence.get(name)) is not None and own.p is not None),
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


def _arm(runs: Iterable[TrialRecord | None], reference: Iterable[TrialRecord | None]) -> Arm:
    """A run that failed or was stopped has no value of a whole run."""
    pairs = enumerate(zip(runs, reference, strict=False))
    changed = {block for block, (run, other) in pairs if run and other and run.has_other_data(other)}
    ended = {block: run for block, run in enumerate(runs) if run is not None and run.state != "running"}
    values = {
        block: run.objective
        for block, run in ended.items()
        if run.state == "complete" and run.objective is not None and math.isfinite(run.objective)
    }
    halvings = {block: run.halvings for block, run in ended.items() if run.halvings}
    return Arm(values, frozenset(ended) - frozenset(values), halvings, frozenset(changed))


def _verdict(evidence: Evidence | None, objective: Objective, analysis: Analysis) -> Verdict:
    """Nothing is called better or worse unless its interval excludes zero, and its p is small after the correction.

    The first follows from the second: interval and p belong to one test, and the correction makes p larger.
    """
    if evidence is None:
        return "not compared"
    versus = evidence.versus
    if _reaches(evidence.p_adjusted, analysis):
        return "better" if (versus.mean > 0) == (objective.mode == "max") else "worse"
    if _reaches(evidence.p_smaller_adjusted, analysis):
        return "smaller than the margin"
    if versus.n == 1:
        return "one block: no interval"
    if versus.sd == 0:
        return "equal differences: no interval"
    if evidence.basis == "repeated looks" and evidence.p is None:
        return "no look yet"
    return "no difference shown"


def _reaches(p: float | None, analysis: Analysis) -> bool:
    return p is not None and p <= analysis.alpha
