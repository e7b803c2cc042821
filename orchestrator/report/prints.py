"""Figures for print, as SVG and PDF: one column wide, letters embedded, colors that stay apart for the color-blind.

matplotlib takes a second to load, so it is imported where it draws.
"""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING, Any

from orchestrator.comparison import Cell, Comparison
from orchestrator.report import svg
from orchestrator.report.choice import best_cells, telling
from orchestrator.report.differences import band_of, block_differences, difference_range
from orchestrator.report.facts import Facts
from orchestrator.report.wording import metric_title, metric_unit
from orchestrator.signs import cut, marked
from orchestrator.units import is_share, scale_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN = 3.4
"""Inches: a column of most conferences and journals."""
FORMATS = ("svg", "pdf")
STYLE: dict[Any, Any] = {
    "font.size": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "guidedmix",
    "pdf.fonttype": 42,  # TrueType: journals refuse Type 3
    "text.parse_math": False,
}
MOST_ROWS = 40
MOST_CURVES = 6
"""Beside reference and ceiling: more colors can't be told apart."""
DRAWN = ("#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195")
"""Okabe and Ito's, without those that reference and ceiling have."""
CEILING = "#5b6675"
LONGEST = 24


def printed(facts: Facts, comparison: Comparison, unfinished: str) -> dict[str, bytes]:
    """File name to content, as far as there is something to draw."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        drawn = {"forest": _forest(comparison), "curves": _curves(facts, comparison)}
        return {
            f"{name}.{kind}": _saved(figure, kind, unfinished)
            for name, figure in drawn.items()
            if figure is not None
            for kind in FORMATS
        }


def _forest(comparison: Comparison) -> Figure | None:
    """A row a cell: the mean difference with its interval, and small, the difference in every block."""
    cells = telling(comparison, MOST_ROWS)
    if not cells:
        return None
    scale = scale_of(comparison.objective.metric)
    figure, axes = _axes(0.6 + 0.2 * len(cells))
    axes.axvline(0, color=svg.REFERENCE, linewidth=0.8, linestyle=(0, (4, 2)))
    for row, cell in enumerate(cells):
        _forest_row(axes, row, cell, comparison, scale)
    axes.set_yticks(range(len(cells)), [marked(cell, LONGEST) for cell in cells])
    axes.set_ylim(len(cells) - 0.4, -0.6)
    axes.set_xlim(*(scale * end for end in difference_range(comparison, cells)))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    points = "points of " if is_share(comparison.objective.metric) else "difference in "
    against = f"{points}{metric_title(comparison.objective.metric)} against {cut(comparison.reference.name, LONGEST)}"
    axes.set_xlabel(against)
    return figure


def _forest_row(axes: Axes, row: int, cell: Cell, comparison: Comparison, scale: float) -> None:
    versus = cell.versus
    assert versus is not None
    color = {"better": svg.BEST, "worse": svg.REFERENCE}.get(cell.verdict, CEILING)
    gaps = [scale * gap for gap in block_differences(cell, comparison).values()]
    axes.plot(gaps, [row + 0.27] * len(gaps), ".", color=svg.OTHER, markersize=2.5, zorder=1)
    if versus.interval is not None:
        low, high = (scale * end for end in versus.interval)
        axes.plot([low, high], [row, row], "|-", color=color, linewidth=1.1, markersize=4)
    fill = color if cell.verdict in ("better", "worse") else "white"
    axes.plot([scale * versus.mean], [row], "o", color=color, markerfacecolor=fill, markersize=3.8)


def _curves(facts: Facts, comparison: Comparison) -> Figure | None:
    """The mean over the blocks, in a band from the lowest to the highest run: reference, ceiling, the best cells."""
    fixed = [cell for cell in (comparison.reference, comparison.ceiling) if cell is not None]
    best = best_cells(comparison)[:MOST_CURVES]
    looks = {comparison.reference.name: (svg.REFERENCE, "--")}
    looks |= {comparison.ceiling.name: (CEILING, ":")} if comparison.ceiling else {}
    looks |= {cell.name: (color, "-") for cell, color in zip(best, DRAWN, strict=False)}
    metric, scale = facts.goal.metric, scale_of(facts.goal.metric)
    figure, axes = _axes(2.0 + 0.07 * (len(best) + len(fixed)))
    for cell in [*best, *fixed]:
        if not (band := band_of(facts, cell, metric)):
            continue
        color, dash = looks[cell.name]
        steps, low, mean, high = zip(*((step, *(scale * value for value in rest)) for step, *rest in band), strict=True)
        axes.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0)
        axes.plot(steps, mean, dash, color=color, label=f"{marked(cell, LONGEST)} (n = {len(cell.complete)})")
    if not axes.lines:
        return None
    axes.set_xlabel("training step")
    axes.set_ylabel(metric_unit(metric))
    figure.legend(frameon=False, loc="outside lower center", ncols=2)
    return figure


def _axes(height: float) -> tuple[Figure, Axes]:
    """Without pyplot, so no state is left behind and no display is asked for."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((COLUMN, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _saved(figure: Figure, kind: str, unfinished: str) -> bytes:
    """The same bytes each time: no date is written."""
    if unfinished:
        figure.axes[0].set_title(
            textwrap.fill(unfinished, 56), loc="left", fontsize=7, color="#9c2f00", fontweight="bold"
        )
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()
