"""Figures for print, as SVG and PDF: one column wide, letters embedded, colors that stay apart for the color-blind.

matplotlib takes a second to load, so it is imported where it draws.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.comparison import Cell, Comparison
from orchestrator.report import svg
from orchestrator.report.cells import class_gap
from orchestrator.report.choice import best_cells, look, looks, telling
from orchestrator.report.differences import band_of, block_differences, difference_range
from orchestrator.report.facts import Facts
from orchestrator.report.mask_charts import SHOWN, mask_points
from orchestrator.report.wording import metric_title, metric_unit
from orchestrator.results import CLASS
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
MOST_COLUMNS = 16
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
        drawn = {
            "forest": _forest(comparison),
            "curves": _curves(facts, comparison),
            "classes": _classes(facts, comparison),
            "masks": _masks(comparison),
        }
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
    figure = _figure(0.6 + 0.2 * len(cells))
    axes = figure.add_subplot()
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
    for (color, is_filled), words in looks(cells).items():
        axes.plot([], [], label=words, **_dot(color, is_filled))
    axes.plot([], [], ".", color=svg.OTHER, markersize=2.5, label="one block")
    figure.legend(frameon=False, loc="outside lower center", ncols=2, handlelength=1)
    return figure


def _forest_row(axes: Axes, row: int, cell: Cell, comparison: Comparison, scale: float) -> None:
    versus = cell.versus
    assert versus is not None
    color, is_filled = look(cell)
    gaps = [scale * gap for gap in block_differences(cell, comparison).values()]
    axes.plot(gaps, [row + 0.27] * len(gaps), ".", color=svg.OTHER, markersize=2.5, zorder=1)
    if versus.interval is not None:
        low, high = (scale * end for end in versus.interval)
        axes.plot([low, high], [row, row], "|-", color=color, linewidth=1.1, markersize=4)
    axes.plot([scale * versus.mean], [row], **_dot(color, is_filled))


def _dot(color: str, is_filled: bool) -> dict[str, Any]:
    fill = color if is_filled else "white"
    return {"marker": "o", "linestyle": "", "color": color, "markerfacecolor": fill, "markersize": 3.8}


def _curves(facts: Facts, comparison: Comparison) -> Figure | None:
    """The mean over the blocks, in a band from the lowest to the highest run: reference, ceiling, the best cells."""
    looks = _looks(comparison)
    metric, scale = facts.goal.metric, scale_of(facts.goal.metric)
    figure = _figure(2.0 + 0.07 * len(looks))
    axes = figure.add_subplot()
    for cell, color, dash in looks:
        if not (band := band_of(facts, cell, metric)):
            continue
        steps, low, mean, high = zip(*((step, *(scale * value for value in rest)) for step, *rest in band), strict=True)
        axes.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0)
        axes.plot(steps, mean, dash, color=color, label=f"{marked(cell, LONGEST)} (n = {len(cell.complete)})")
    if not axes.lines:
        return None
    axes.set_xlabel("training step")
    axes.set_ylabel(metric_unit(metric))
    figure.legend(frameon=False, loc="outside lower center", ncols=2)
    return figure


def _classes(facts: Facts, comparison: Comparison) -> Figure | None:
    """The difference of each class: blue is more, orange is less; white is none, or a class that occurs nowhere."""
    from matplotlib.colors import LinearSegmentedColormap

    cells = telling(comparison, MOST_COLUMNS)
    rows = {name: _class_gaps(name, cells, comparison) for name in facts.classes}
    largest = {name: max(map(abs, gaps)) for name, gaps in rows.items() if gaps}
    kept = sorted(largest, key=lambda name: -largest[name])[:MOST_ROWS]
    names = [name for name in facts.classes if name in kept]
    if not names:
        return None
    figure = _figure(0.8 + 0.15 * len(names) + 0.04 * max(len(marked(cell, LONGEST)) for cell in cells))
    axes, reach = figure.add_subplot(), max(largest.values()) or 1.0
    colors = LinearSegmentedColormap.from_list("gaps", [svg.REFERENCE, "white", svg.BEST], N=41)  # drawn, not a picture
    mesh = axes.pcolormesh([rows[name] for name in names], cmap=colors, vmin=-reach, vmax=reach, edgecolors="white")
    axes.invert_yaxis()
    axes.set_yticks([row + 0.5 for row in range(len(names))], [cut(name, LONGEST) for name in names])
    places, shown = [i + 0.5 for i in range(len(cells))], [marked(cell, LONGEST) for cell in cells]
    axes.set_xticks(places, shown, rotation=45, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    against = f"points of IoU against {cut(comparison.reference.name, LONGEST)}"
    bar = figure.colorbar(mesh, ax=axes, location="bottom", aspect=40, label=against)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    return figure


def _class_gaps(name: str, cells: Sequence[Cell], comparison: Comparison) -> list[float]:
    """In points. Empty if no cell has the class."""
    gaps = [class_gap(cell, comparison.reference, f"{CLASS}{name}")[1] for cell in cells]
    return [0.0 if gap is None else 100 * gap.mean for gap in gaps] if any(gaps) else []


def _masks(comparison: Comparison) -> Figure | None:
    """Whether better pseudo masks come with a better model: a dot a run."""
    shown = {name: points for name in SHOWN if (points := mask_points(comparison, f"pseudo/{name}"))}
    if not shown:
        return None
    metric, scale = comparison.objective.metric, scale_of(comparison.objective.metric)
    figure, colors = _figure(2.2), {cell.name: color for cell, color, _ in _looks(comparison)}
    row = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    row[0].set_ylabel(metric_unit(metric))
    for axes, (name, points) in zip(row, shown.items(), strict=True):
        dots: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for share, value, cell, _ in sorted(points, key=lambda point: point[2].name in colors):  # the gray ones behind
            look = (marked(cell, LONGEST), colors[cell.name]) if cell.name in colors else ("other cells", svg.OTHER)
            dots.setdefault(look, []).append((100 * share, scale * value))
        for (label, color), places in dots.items():
            axes.plot(*zip(*places, strict=True), "o", color=color, markersize=2.5, markeredgewidth=0, label=label)
        axes.set_xlabel(f"mask {name}, %")
    figure.legend(*row[0].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=3)
    return figure


def _looks(comparison: Comparison) -> list[tuple[Cell, str, str]]:
    """The best cells, ceiling and reference, each with its color and dash."""
    best = zip(best_cells(comparison)[:MOST_CURVES], DRAWN, strict=False)
    ceiling = [] if comparison.ceiling is None else [(comparison.ceiling, CEILING, ":")]
    return [*((cell, color, "-") for cell, color in best), (comparison.reference, svg.REFERENCE, "--"), *ceiling]


def _figure(height: float) -> Figure:
    """Without pyplot, so no state is left behind and no display is asked for."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((COLUMN, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


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
