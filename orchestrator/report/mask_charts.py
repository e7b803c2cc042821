"""Whether better pseudo masks come with a better model: coverage and precision against the objective, a dot a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from orchestrator.comparison import Cell, Comparison
from orchestrator.report import svg
from orchestrator.report.wording import metric_title, metric_unit, metric_value
from orchestrator.stats import estimate
from orchestrator.units import is_share, scale_of

SHOWN = ("coverage", "precision")
MOST_DOTS = 1500
"""Runs. Of more, a dot is the mean of a cell."""
Point = tuple[float, float, Cell, str]
"""Share of the masks, objective, cell, and what the tip says of the dot."""


def mask_charts(comparison: Comparison, colors: Mapping[str, str]) -> list[tuple[str, Markup]]:
    """(title, chart). Empty without telemetry. A cell without a color of its own is gray."""
    found = []
    for name in SHOWN:
        if points := mask_points(comparison, f"pseudo/{name}"):
            title = f"Mask {name} against {metric_title(comparison.objective.metric)}"
            found.append((title, _chart(points, name, title, comparison, colors)))
    return found


def mask_points(comparison: Comparison, metric: str) -> list[Point]:
    """A point a run; of very many runs, a point a cell."""
    goal = comparison.objective.metric
    pairs = {cell.name: _shared(cell, metric, goal) for cell in comparison.cells}
    if sum(map(len, pairs.values())) <= MOST_DOTS:
        return [
            (x, y, cell, f"{cell.name}, block {block}")
            for cell in comparison.cells
            for block, (x, y) in pairs[cell.name].items()
        ]
    points = []
    for cell in comparison.cells:
        x, y = (estimate([pair[i] for pair in pairs[cell.name].values()]) for i in (0, 1))
        if x is not None and y is not None:
            points.append((x.mean, y.mean, cell, f"{cell.name}, mean of {x.n}"))
    return points


def _shared(cell: Cell, metric: str, goal: str) -> dict[int, tuple[float, float]]:
    own, values = cell.values(metric), cell.values(goal)
    return {block: (own[block], values[block]) for block in own if block in values}


def _chart(points: Sequence[Point], name: str, title: str, comparison: Comparison, colors: Mapping[str, str]) -> Markup:
    goal, width, height = comparison.objective.metric, 490.0, 330.0
    x = svg.Scale(*svg.spread([point[0] for point in points]), 56, width - 16)
    y = svg.Scale(*svg.spread([point[1] for point in points]), height - 52, 34)
    scale = scale_of(goal)
    frame = svg.frame(
        x,
        y,
        x_words=lambda value: f"{100 * value:.4g}",
        y_words=lambda value: f"{scale * value:.4g}",
        x_label=f"mask {name}, %",
        y_label=metric_unit(goal) if is_share(goal) else metric_title(goal),
        num_x=5,
    )
    order = sorted(points, key=lambda point: point[2].name in colors)  # the gray ones behind
    dots = [
        svg.dot(
            x(share),
            y(value),
            colors.get(cell.name, svg.OTHER),
            f"{tip}: {metric_value('precision', share)} %, {metric_title(goal)} {metric_value(goal, value)}",
        )
        for share, value, cell, tip in order
    ]
    return svg.drawing(width, height, frame, *dots, label=title)
