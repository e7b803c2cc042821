"""Charts over the cells of an ablation: their differences to the reference, and their learning curves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean

from markupsafe import Markup

from orchestrator.comparison import Cell, Comparison
from orchestrator.report import svg
from orchestrator.report.cells import spread_of
from orchestrator.report.choice import MOST_DRAWN, cell_colors, look, shown_cells, telling
from orchestrator.report.curves import DASHES, Line, line_chart
from orchestrator.report.facts import Facts
from orchestrator.report.wording import difference, interval, metric_title, metric_value
from orchestrator.signs import cut, marked
from orchestrator.stats import Estimate, differences
from orchestrator.units import is_share

LONGEST = 22
"""Letters of a cell's name in a chart; the rest is in the tip."""
REACH = 2.5
"""An interval is drawn no further than so many times the largest difference of a block: two blocks have huge ones."""


def difference_plot(comparison: Comparison, *, is_narrow: bool = False) -> Markup | None:
    """A row a cell: the mean difference, its interval, and the difference in every block. None if there is nothing.

    Narrow, for a phone: names and numbers stand above the intervals.
    """
    rows = [(cell, cell.versus) for cell in telling(comparison, MOST_DRAWN) if cell.versus is not None]
    if not rows:
        return None
    blocks = {cell.name: block_differences(cell, comparison) for cell, _ in rows}
    width, left, right, row, top = (390.0, 12.0, 378.0, 62, 34) if is_narrow else (1000.0, 230.0, 790.0, 42, 44)
    span = difference_range(comparison, [cell for cell, _ in rows])
    height, x = top + row * len(rows) + 44, svg.Scale(*span, left, right)
    bottom, ticks = height - 44, x.ticks(4 if is_narrow else 7)
    parts = [svg.tag("line", x1=x(tick), x2=x(tick), y1=top - 12, y2=bottom, class_="grid") for tick in ticks]
    parts += [svg.text(x(tick), bottom + 20, _tick(comparison, tick), anchor="middle") for tick in ticks]
    parts.append(svg.path([(x(0), top - 12), (x(0), bottom)], "level"))
    reference = comparison.reference.name
    anchor = "start" if x(0) < 0.2 * width else "end" if x(0) > 0.8 * width else "middle"
    parts.append(
        svg.text(x(0), top - 22, cut(reference, LONGEST), "name", anchor, reference, style=f"fill:{svg.REFERENCE}")
    )
    parts.append(svg.text(right, bottom + 38, _axis(comparison), "label", "end"))
    for i, (cell, versus) in enumerate(rows):
        place = top + row * (i + (0.6 if is_narrow else 0.5))
        parts.append(_row(cell, versus, blocks[cell.name], comparison, x, place, is_narrow))
    return svg.drawing(width, height, *parts, label=f"Differences of {len(rows)} cells to {reference}")


def cell_curves(facts: Facts, comparison: Comparison) -> Markup | None:
    """The mean over the complete runs of each cell, in a band from the lowest to the highest. None without any.

    Of the cells that `shown_cells` chooses.
    """
    bands = {cell.name: band for cell in shown_cells(comparison) if (band := band_of(facts, cell, facts.goal.metric))}
    shown = [cell for cell in comparison.cells if cell.name in bands]
    if not shown:
        return None
    colors = cell_colors(comparison)
    dashes = {} if comparison.ceiling is None else {comparison.ceiling.name: DASHES[0]}
    lines = []
    for cell in sorted(shown, key=lambda cell: cell.name in colors):  # the gray ones behind
        last, band = metric_value(facts.goal.metric, _last(bands[cell.name])), bands[cell.name]
        is_colored = cell.name in colors
        lines.append(
            Line(
                points=[(step, mean) for step, _, mean, _ in band],
                tip=f"{cell.name}, mean of {len(cell.complete)}: {last}",
                color=colors.get(cell.name, svg.OTHER),
                label=f"{marked(cell, LONGEST)} · {last}",
                dash=dashes.get(cell.name),
                wide=is_colored,
                end="dot",
                band=tuple((step, low, high) for step, low, _, high in band) if is_colored else (),
            )
        )
    right = 50 + 8.4 * max(len(line.label or "") for line in lines)
    return line_chart(lines, facts.goal.metric, "Learning curves of all cells", right=right)


def _row(
    cell: Cell,
    versus: Estimate,
    gaps: Mapping[int, float],
    comparison: Comparison,
    x: svg.Scale,
    y: float,
    is_narrow: bool,
) -> Markup:
    metric = comparison.objective.metric
    color, is_filled = look(cell)
    tip = f"{cell.name}: {spread_of(metric, versus)}"
    name, anchor = (x.start, "start") if is_narrow else (x.start - 24, "end")
    mean, ends, after, base = (
        (x.end - 116, x.end, "end", y - 16) if is_narrow else (x.end + 22, x.end + 78, "start", y + 5)
    )
    parts = [svg.text(name, base, marked(cell, LONGEST), "name ink", anchor, cell.name)]
    if versus.interval is not None:
        low, high = (min(max(end, x.low), x.high) for end in versus.interval)
        parts.append(svg.path([(x(low), y), (x(high), y)], "interval", tip, stroke=color))
        for end, drawn in zip(versus.interval, (low, high), strict=True):
            parts.append(_end(x(drawn), y, color, 0 if end == drawn else 1 if end > drawn else -1))
    for block, gap in gaps.items():
        said = f"{cell.name}, block {block}: {difference(metric, gap)}"
        parts.append(svg.dot(x(gap), y + 13, svg.OTHER, said, radius=3))
    parts.append(svg.dot(x(versus.mean), y, color, tip, hollow=not is_filled, radius=6.5))
    parts.append(svg.text(mean, base, difference(metric, versus.mean), "name ink halo", after))
    if versus.interval is not None:
        parts.append(svg.text(ends, base, interval(metric, versus.interval), "tick halo", after))
    return svg.tag("g", *parts)


def _end(x: float, y: float, color: str, beyond: int) -> Markup:
    """A bar; an arrow if the interval goes on beyond the frame."""
    if not beyond:
        return svg.path([(x, y - 5), (x, y + 5)], "interval", stroke=color)
    return svg.path([(x - 6 * beyond, y - 5), (x, y), (x - 6 * beyond, y + 5)], "interval", stroke=color)


def difference_range(comparison: Comparison, cells: Iterable[Cell]) -> tuple[float, float]:
    """Zero, the difference in every block, and of each interval what `REACH` allows; with some air."""
    cells = list(cells)
    gaps = [gap for cell in cells for gap in block_differences(cell, comparison).values()]
    reach = REACH * max(abs(gap) for gap in gaps)
    ends = [end for cell in cells if cell.versus is not None for end in cell.versus.interval or ()]
    return svg.spread([0.0, *gaps, *(min(max(end, -reach), reach) for end in ends)], 0.05)


def goes_beyond(comparison: Comparison) -> bool:
    """Whether the plot cuts an interval."""
    cells = telling(comparison, MOST_DRAWN)
    low, high = difference_range(comparison, cells) if cells else (0.0, 0.0)
    return any(not low <= end <= high for cell in cells if cell.versus for end in cell.versus.interval or ())


def block_differences(cell: Cell, comparison: Comparison) -> dict[int, float]:
    """By block, where the runs may be paired."""
    return differences(*cell.pairs(comparison.reference, comparison.objective.metric))


def band_of(facts: Facts, cell: Cell, metric: str) -> list[tuple[float, float, float, float]]:
    """(step, lowest, mean, highest), where all complete runs of the cell were evaluated; after the steps of stages."""
    rows = [
        {run.steps_before + row["step"]: row[metric] for row in facts.curves[run.fingerprint] if metric in row}
        for run in cell.complete.values()
    ]
    steps = [step for step in rows[0] if all(step in row for row in rows)] if rows else []
    values = [(step, [row[step] for row in rows]) for step in steps]
    return [(step, min(found), fmean(found), max(found)) for step, found in values]


def _last(band: list[tuple[float, float, float, float]]) -> float:
    return band[-1][2]


def _tick(comparison: Comparison, value: float) -> str:
    number = 100 * value if is_share(comparison.objective.metric) else value
    return f"{number:+.3g}".replace("-", "−") if abs(value) > 1e-12 else "0"


def _axis(comparison: Comparison) -> str:
    points = "points of " if is_share(comparison.objective.metric) else "difference in "
    return f"{points}{metric_title(comparison.objective.metric)}"
