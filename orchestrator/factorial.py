"""What each factor of a two-level design does, and each pair of factors together, from cells over blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.special import ndtri

from orchestrator.stats import COVERAGE, Estimate, estimate

Levels = Mapping[str, Mapping[str, Any]]
"""Of each cell: factor to level. A cell without levels is no part of the design."""


@dataclass(frozen=True)
class FactorEffect:
    """The mean over runs at the other level of a factor minus that at the reference's; of two factors, the half of
    what one's effect changes with the other."""

    factors: tuple[str, ...]
    aliases: tuple[tuple[str, ...], ...]
    """What this design can't tell from it. Only main effects and pairs are looked at."""
    estimate: Estimate
    """Over blocks: in each the effect is a contrast of all its runs, so what a block shares cancels."""


def factor_effects(
    levels: Levels,
    values: Mapping[str, Mapping[int, float]],
    reference: str,
    coverage: float = COVERAGE,
) -> list[FactorEffect] | None:
    """Main effects, then two-factor interactions, each once, over the blocks that all cells of the design have.

    Formulas of Box, Hunter and Hunter, "Statistics for Experimenters", chapters 5 and 6. None if the cells are no
    two-level design in which factors vary independently of one another, such as a leave-one-out, or share no block.
    """
    cells = [cell for cell in levels if levels[cell]]
    signs = _signs(levels, cells, reference)
    if signs is None:
        return None
    columns = {(factor,): column for factor, column in signs.items()}
    columns |= {pair: signs[pair[0]] * signs[pair[1]] for pair in combinations(signs, 2)}
    if not _is_orthogonal([*columns.values()]):
        return None
    blocks = sorted(set.intersection(*(set(values[cell]) for cell in cells)))
    table = np.array([[values[cell][block] for cell in cells] for block in blocks])
    found: list[FactorEffect] = []
    for effect, column in columns.items():
        if abs(column.sum()) == len(cells) or any(effect in known.aliases for known in found):
            continue
        same = tuple(other for other, its in columns.items() if other != effect and abs(its @ column) == len(cells))
        if (over := estimate([2 * float(row @ column) / len(cells) for row in table], coverage)) is None:
            return None
        found.append(FactorEffect(effect, same, over))
    return found


def half_normal(effects: Sequence[FactorEffect]) -> list[tuple[float, float, tuple[str, ...]]]:
    """(quantile, size, factors) of each effect, by size. Without any effect the points lie on a line through 0.

    Daniel 1959, "Use of half-normal plots in interpreting factorial two-level experiments".
    """
    sizes = sorted((abs(effect.estimate.mean), effect.factors) for effect in effects)
    places = [float(ndtri(0.5 + 0.5 * (i + 0.5) / len(sizes))) for i in range(len(sizes))]
    return [(place, size, factors) for place, (size, factors) in zip(places, sizes, strict=True)]


def _signs(levels: Levels, cells: Sequence[str], reference: str) -> dict[str, np.ndarray] | None:
    """Of each factor that varies, by cell: -1 at the level of the reference, or of the first cell, else 1."""
    if len(cells) < 2:
        return None
    first = levels[reference if reference in cells else cells[0]]
    if any(set(levels[cell]) != set(first) for cell in cells):
        return None
    signs = {}
    for factor, usual in first.items():
        others = [levels[cell][factor] for cell in cells if levels[cell][factor] != usual]
        if any(level != others[0] for level in others):
            return None
        if others:
            signs[factor] = np.array([-1 if levels[cell][factor] == usual else 1 for cell in cells])
    return signs or None


def _is_orthogonal(columns: Sequence[np.ndarray]) -> bool:
    """Any two of them, and the mean, are independent or the same up to the sign; each main effect is balanced."""
    n = len(columns[0])
    return all(abs(column.sum()) in (0, n) for column in columns) and all(
        abs(one @ other) in (0, n) for one, other in combinations(columns, 2)
    )
