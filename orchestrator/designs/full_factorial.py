"""Full factorial: every combination of levels."""

from __future__ import annotations

from itertools import product
from math import prod

from orchestrator.designs import Design, Factors, Levels

MOST = 1024


class FullFactorial(Design):
    """Every combination: main effects and all interactions, at the price of every cell."""

    def points(self, factors: Factors) -> list[Levels]:
        if (size := _size(factors)) > MOST:
            raise ValueError(
                f"full_factorial has {size} cells, at most {MOST}; leave factors out, or take fractional_factorial "
                "or plackett_burman"
            )
        return [dict(zip(factors, levels, strict=True)) for levels in product(*factors.values())]

    def facts(self, factors: Factors) -> list[str]:
        counts = " x ".join(str(len(levels)) for levels in factors.values())
        return [f"full_factorial: all {counts} = {_size(factors)} combinations, balanced. No effect is aliased."]


def _size(factors: Factors) -> int:
    return prod(len(levels) for levels in factors.values())
