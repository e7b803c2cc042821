"""The rows of an ablation's tables: cells, pseudo masks, classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.comparison import Cell, Comparison
from orchestrator.factors import leaves
from orchestrator.failures import counted
from orchestrator.image_bootstrap import ImageGaps, with_gaps
from orchestrator.report.choice import shown_cells
from orchestrator.report.curves import HARM, late_accuracies
from orchestrator.report.facts import Facts
from orchestrator.report.panels import Swatch
from orchestrator.report.paper import factors_of, marks, n_of_blocks, p_words
from orchestrator.report.wording import count, difference, duration, listed, metric_value, parameter
from orchestrator.spending import Spending
from orchestrator.stats import Estimate, estimate, paired
from orchestrator.units import is_share

MASKS = ("coverage", "precision", "recall", "target_accuracy", "plain_accuracy")
DEEPEST = 0.5
"""Opacity of the color of the largest difference."""


@dataclass(frozen=True)
class CellRow:
    name: str
    marks: tuple[str, ...]
    """By factor, as `paper.level_mark` writes it."""
    kind: str
    """reference, is-better, is-worse or open: how the row looks."""
    is_designed: bool
    """Its marks say what it changes."""
    changes: str
    n: str
    is_short: bool
    mean: str
    half: str
    difference: str
    interval: str
    p: str
    """After the correction, with a star where the comparison gives one."""
    verdict: str
    failed: str
    time: str
    total: str
    """Of all its runs, also those that failed: GPU-hours and their price, or time."""
    is_ceiling: bool


@dataclass(frozen=True)
class MaskRow:
    name: str
    n: int
    values: list[str]
    gap: str
    is_worse: bool


@dataclass(frozen=True)
class ClassRow:
    name: str
    color: str
    cells: list[tuple[str, str, str]]
    """(mean IoU, difference to the reference, background) of each cell."""


@dataclass(frozen=True)
class ImageRow:
    name: str
    images: int
    difference: str
    interval: str
    counts: tuple[int, int, int]


def cell_rows(comparison: Comparison, facts: Facts) -> list[CellRow]:
    """Of the cells that a page holds."""
    factors = factors_of(facts.request)
    return [
        _cell_row(cell, comparison, marks(cell.name, facts.request, factors), facts.spending)
        for cell in shown_cells(comparison)
    ]


def mask_rows(comparison: Comparison) -> list[MaskRow]:
    """Means over blocks at the last evaluation, of the cells that make pseudo masks."""
    rows = []
    for cell in shown_cells(comparison):
        means = [estimate([*cell.values(f"pseudo/{name}").values()]) for name in MASKS]
        if any(mean is not None for mean in means):
            gap = paired(cell.values("pseudo/target_accuracy"), cell.values("pseudo/plain_accuracy"))
            written = "" if gap is None else difference("accuracy", gap.mean)
            values = [metric_value("accuracy", mean and mean.mean) for mean in means]
            rows.append(MaskRow(cell.name, len(cell.complete), values, written, written.startswith("−")))
    return rows


def class_rows(facts: Facts, comparison: Comparison, legend: list[Swatch]) -> list[ClassRow]:
    """IoU of every class, means over blocks; a class that occurs nowhere in a block is left out there."""
    colors = {swatch.name: swatch.color for swatch in legend}
    cells = shown_cells(comparison)
    if not any(cell.complete for cell in cells):
        return []
    found = {
        (name, cell.name): class_gap(cell, comparison.reference, f"val/iou/{name}")
        for name in facts.classes
        for cell in cells
    }
    deepest = max((abs(gap.mean) for _, gap in found.values() if gap is not None), default=0.0)
    return [
        ClassRow(
            name,
            colors.get(name, ""),
            [_class_cell(*found[name, cell.name], deepest) for cell in cells],
        )
        for name in facts.classes
    ]


def class_gap(cell: Cell, reference: Cell, metric: str) -> tuple[Estimate | None, Estimate | None]:
    """(IoU, difference to the reference)."""
    gap = None if cell is reference else paired(*cell.pairs(reference, metric))
    return estimate([*cell.values(metric).values()]), gap


def image_rows(found: Mapping[str, ImageGaps | str]) -> list[ImageRow]:
    """Of the cells that have an interval over images."""
    return [
        ImageRow(
            name,
            gaps.images,
            difference("val/miou", gaps.miou.mean),
            " to ".join(difference("val/miou", end) for end in gaps.miou.interval),
            gaps.counts,
        )
        for name, gaps in with_gaps(found).items()
    ]


def harmed(facts: Facts, comparison: Comparison) -> str:
    """The cells whose target is worse than the plain prediction once any ramp is over; empty if there are none."""
    named = []
    for cell in shown_cells(comparison):
        pairs = [late_accuracies(facts.curves[run.fingerprint], run.steps) for run in cell.complete.values()]
        target, plain = (estimate([pair[i] for pair in pairs if pair]) for i in (0, 1))
        if target is not None and plain is not None and target.mean < plain.mean - HARM:
            named.append(f"{cell.name} ({100 * target.mean:.1f} against {100 * plain.mean:.1f} %)")
    if not named:
        return ""
    return (
        f"The term harms by construction in {listed(named)}: in the second half of training, what it teaches is right "
        "on fewer pixels, before unsure ones are dropped, than the student's plain prediction."
    )


def changes_words(changes: Mapping[str, Any]) -> str:
    """`optim.lr = 0.1, train.steps = 800`."""
    return ", ".join(f"{path} = {parameter(value)}" for path, value in leaves(changes).items()) or "the base"


def spread_of(metric: str, versus: Estimate) -> str:
    """`+3.2 points (95 % interval +1.0 to +5.4, 3 blocks)`."""
    points = " points" if is_share(metric) else ""
    interval = f"{100 * versus.coverage:g} % interval {_interval(metric, versus)}, " if versus.interval else ""
    return f"{difference(metric, versus.mean)}{points} ({interval}{count(versus.n, 'block')})"


def _cell_row(cell: Cell, comparison: Comparison, marked: tuple[str, ...], spending: Spending) -> CellRow:
    metric = comparison.objective.metric
    adjusted = None if cell.evidence is None else cell.evidence.p_adjusted
    spent = sum(run.seconds for run in cell.runs if run is not None)
    half = None if cell.value is None else cell.value.half
    return CellRow(
        name=cell.name,
        marks=marked,
        kind={"reference": "reference", "better": "is-better", "worse": "is-worse"}.get(cell.verdict, "open"),
        is_designed=bool(cell.levels),
        changes=changes_words(cell.changes),
        n=n_of_blocks(cell, comparison),
        is_short=len(cell.complete) < comparison.blocks,
        mean=metric_value(metric, cell.value and cell.value.mean),
        half="" if half is None else f"± {metric_value(metric, half)}",
        difference="" if cell.versus is None else difference(metric, cell.versus.mean),
        interval="" if cell.versus is None else _interval(metric, cell.versus),
        p="" if adjusted is None else p_words(adjusted) + "*" * cell.is_starred,
        verdict=cell.verdict,
        failed=counted(cell.failures),
        time="–" if cell.seconds is None else duration(cell.seconds),
        total=(spending.words(spent) or duration(spent)) if spent else "",
        is_ceiling=cell is comparison.ceiling,
    )


def _interval(metric: str, versus: Estimate) -> str:
    if versus.interval is None:
        return ""
    return " to ".join(difference(metric, end) for end in versus.interval)


def _class_cell(value: Estimate | None, gap: Estimate | None, deepest: float) -> tuple[str, str, str]:
    mean = metric_value("iou", value and value.mean)
    if gap is None:
        return mean, "", "none"
    opacity = DEEPEST * abs(gap.mean) / deepest if deepest else 0.0
    color = "0, 99, 166" if gap.mean > 0 else "200, 80, 10"
    return mean, difference("iou", gap.mean), f"rgb({color}, {opacity:.2f})"
