"""Which cells a page or a figure holds, and in which color: there may be hundreds."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.comparison import Cell, Comparison
from orchestrator.report import svg

COLORS = (svg.BEST, svg.GREEN, svg.AMBER, "#8a5a9e", svg.PALE)
"""Of the best cells; the others are gray."""
CEILING = "#5b6675"
OPEN = "#7b8794"
LOOKS = {
    (svg.BEST, True): "better",
    (svg.REFERENCE, True): "worse",
    (OPEN, True): "only its own interval excludes zero",
    (OPEN, False): "no difference shown",
}
"""Of a difference to the reference: its color, whether its dot is filled, and what that says."""
MOST_DRAWN = 60
"""Rows of a chart over cells. Of more, those with the largest differences are drawn."""


def cell_colors(comparison: Comparison) -> dict[str, str]:
    """Of reference, ceiling and the cells with the best means; the others are gray."""
    colors = {cell.name: color for cell, color in zip(best_cells(comparison), COLORS, strict=False)}
    colors |= {} if comparison.ceiling is None else {comparison.ceiling.name: CEILING}
    return colors | {comparison.reference.name: svg.REFERENCE}


def look(cell: Cell) -> tuple[str, bool]:
    """Of its difference to the reference, one of `LOOKS`."""
    color = {"better": svg.BEST, "worse": svg.REFERENCE}.get(cell.verdict, OPEN)
    return color, cell.versus is not None and cell.versus.excludes_zero


def looks(cells: Iterable[Cell]) -> dict[tuple[str, bool], str]:
    """Those of some of these cells, with what they say."""
    seen = {look(cell) for cell in cells}
    return {each: words for each, words in LOOKS.items() if each in seen}


def best_cells(comparison: Comparison) -> list[Cell]:
    """By their means, without reference, ceiling and what has no value."""
    sign = 1 if comparison.objective.mode == "max" else -1
    rivals = [
        (sign * cell.value.mean, cell)
        for cell in comparison.cells
        if cell.value is not None and cell is not comparison.reference and cell is not comparison.ceiling
    ]
    return [cell for _, cell in sorted(rivals, key=lambda pair: pair[0], reverse=True)]


def shown_cells(comparison: Comparison) -> list[Cell]:
    """What a page holds, in the order of the file: all cells, or reference, ceiling and those that differ most."""
    if len(comparison.cells) <= MOST_DRAWN:
        return [*comparison.cells]
    fixed = {cell.name for cell in (comparison.reference, comparison.ceiling) if cell is not None}
    others = [cell.name for cell in _by_difference(comparison) if cell.name not in fixed]
    chosen = fixed | {*others[: MOST_DRAWN - len(fixed)]}
    return [cell for cell in comparison.cells if cell.name in chosen]


def telling(comparison: Comparison, most: int) -> list[Cell]:
    """In the order of the file, the cells that differ most from the reference, up or down: a figure holds so many."""
    chosen = {cell.name for cell in _by_difference(comparison)[:most]}
    return [cell for cell in comparison.cells if cell.name in chosen]


def _by_difference(comparison: Comparison) -> list[Cell]:
    compared = [(abs(cell.versus.mean), cell) for cell in comparison.cells if cell.versus is not None]
    return [cell for _, cell in sorted(compared, key=lambda pair: -pair[0])]
