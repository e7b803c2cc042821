"""What each factor of a balanced design does, and each pair of factors together, from cells over blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import Any

import numpy as np
from scipy.special import ndtri

from orchestrator.stats import COVERAGE, Estimate, estimate

Levels = Mapping[str, Mapping[str, Any]]
"""Of each cell: factor to level. A cell without levels is no part of the design."""
Signs = dict[tuple[str, Any], np.ndarray]
"""Of each factor and each level but the reference's: by cell, 1 at the level, -1 at the reference's, 0 at others."""


@dataclass(frozen=True)
class FactorEffect:
    """The mean over runs at a level of a factor minus that at the reference's level; of two factors, the half of what
    one's effect changes with the other."""

    factors: tuple[str, ...]
    levels: tuple[Any, ...]
    """Of each factor the one that it leads to."""
    name: str
    """`mixing × pairing`; with the level where the factor has more than two: `labels=32`."""
    aliases: tuple[str, ...]
    """The names of what this design can't tell from it. Only main effects and pairs are looked at."""
    parts: int
    """How many pairs are mixed into it in part, as in Plackett and Burman's designs and Latin squares."""
    estimate: Estimate
    """Over blocks: in each the effect is a contrast of all its runs, so what a block shares cancels."""

    @property
    def confounded(self) -> str:
        """What it is not told apart from, in words; empty if that is nothing."""
        in_part = f"parts of {self.parts} pair{'s' * (self.parts > 1)}"
        return ", ".join([*self.aliases, *([in_part] if self.parts else [])])


@dataclass(frozen=True)
class FactorEffects:
    """Main effects, then two-factor interactions, each once."""

    found: list[FactorEffect] = field(default_factory=list)
    absent: str = ""
    """Why there are none, although the design has some."""


@dataclass
class _Contrast:
    terms: tuple[tuple[str, Any], ...]
    weights: np.ndarray
    """Of the cells' values: their sum is the effect."""
    aliases: list[_Contrast] = field(default_factory=list)
    parts: set[frozenset[str]] = field(default_factory=set)
    """The factors of each pair that is mixed into it."""

    @property
    def factors(self) -> frozenset[str]:
        return frozenset(factor for factor, _ in self.terms)

    def shared(self, other: _Contrast) -> float:
        """0: independent; 1: the same but for the sign; between: mixed in part."""
        norms = np.linalg.norm(self.weights) * np.linalg.norm(other.weights)
        return float(abs(self.weights @ other.weights) / norms)


def factor_effects(
    levels: Levels,
    values: Mapping[str, Mapping[int, float]],
    reference: str,
    coverage: float = COVERAGE,
) -> FactorEffects | None:
    """Over the blocks that all cells of the design have.

    Formulas of Box, Hunter and Hunter, "Statistics for Experimenters", chapters 5 to 7. None if the cells are no design
    in which factors vary independently of one another, such as a leave-one-out. A pair that is mixed in part with main
    effects, or with pairs before it, is none of the effects: it counts among their `parts`.
    """
    cells = [cell for cell in levels if levels[cell]]
    signs = _signs(levels, cells, reference)
    contrasts = _contrasts(signs)
    if not contrasts:
        return None
    if lost := [cell for cell in cells if not values[cell]]:
        return FactorEffects(absent=f"without a complete run: {', '.join(lost)}")
    blocks = sorted(set.intersection(*(set(values[cell]) for cell in cells)))
    if not blocks:
        return FactorEffects(absent=f"no block has a complete run of each of the {len(cells)} cells")
    table = np.array([[values[cell][block] for cell in cells] for block in blocks])
    several = {factor for (factor, level), (other, another) in combinations(signs, 2) if factor == other}
    found = []
    for one in contrasts:
        over = estimate([float(value) for value in table @ one.weights], coverage)
        assert over is not None
        factors, its_levels = zip(*one.terms, strict=True)
        aliases = tuple(_name(alias, several) for alias in one.aliases)
        found.append(FactorEffect(factors, its_levels, _name(one, several), aliases, len(one.parts), over))
    return FactorEffects(found)


def half_normal(effects: Sequence[FactorEffect]) -> list[tuple[float, FactorEffect]]:
    """The quantile of each effect, by size. Without any effect the sizes lie on a line through 0.

    Daniel 1959, "Use of half-normal plots in interpreting factorial two-level experiments". None of a factor of three
    levels: its two effects share a level, so they are not independent.
    """
    if len({effect.factors for effect in effects}) < len(effects):
        return []
    sizes = sorted(effects, key=lambda effect: abs(effect.estimate.mean))
    return [(float(ndtri(0.5 + 0.5 * (i + 0.5) / len(sizes))), effect) for i, effect in enumerate(sizes)]


def _signs(levels: Levels, cells: Sequence[str], reference: str) -> Signs:
    """Of each factor that varies; empty if the cells have unlike factors."""
    if not cells or any(set(levels[cell]) != set(levels[cells[0]]) for cell in cells):
        return {}
    usual = levels[reference if reference in cells else cells[0]]
    found: Signs = {}
    for factor, first in usual.items():
        of_cells = [levels[cell][factor] for cell in cells]
        for level in dict.fromkeys(of_cells):
            if level != first:
                found[factor, level] = np.array([(own == level) - (own == first) for own in of_cells])
    return found


def _contrasts(signs: Signs) -> list[_Contrast]:
    """Main effects, then the pairs that can be told from them; none if main effects are mixed in part."""
    kept: list[_Contrast] = []
    for term, sign in signs.items():
        _take(_Contrast((term,), _weights(sign)), kept)
    if any(one.parts for one in kept):
        return []
    for pair in combinations(signs, 2):
        if pair[0][0] == pair[1][0]:
            continue
        one, other = (signs[term] for term in pair)
        corners = [one * other * ((one == i) & (other == j)) for i, j in product((1, -1), repeat=2)]
        if all(corner.any() for corner in corners):
            weights = np.sum([corner / (2 * np.count_nonzero(corner)) for corner in corners], axis=0)
            _take(_Contrast(pair, weights), kept)
    return kept


def _take(new: _Contrast, kept: list[_Contrast]) -> None:
    """Among those that are kept, unless it is one of them by another name or mixed with some."""
    shares = [(known, known.shared(new)) for known in kept if known.factors != new.factors]
    if same := [known for known, share in shares if share > 1 - 1e-9]:
        same[0].aliases.append(new)
        return
    mixed = [known for known, share in shares if share > 1e-9]
    for known in mixed:
        known.parts.add(new.factors)
    if not mixed:
        kept.append(new)


def _weights(sign: np.ndarray) -> np.ndarray:
    return (sign == 1) / np.count_nonzero(sign == 1) - (sign == -1) / np.count_nonzero(sign == -1)


def _name(contrast: _Contrast, several: set[str]) -> str:
    return " × ".join(f"{factor}={level}" if factor in several else factor for factor, level in contrast.terms)
