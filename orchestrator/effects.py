"""How large a difference is beside the noise: Hedges' g of paired differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from orchestrator.power import noncentral_t
from orchestrator.stats import COVERAGE, Estimate


@dataclass(frozen=True)
class Effect:
    """Hedges' g and the interval of what it estimates."""

    g: float
    interval: tuple[float, float]


@lru_cache(maxsize=1024)  # the summary is written at every event of a study
def hedges_g(difference: Estimate, coverage: float = COVERAGE) -> Effect | None:
    """The mean difference in standard deviations of the differences (d_z), times Hedges' factor for small samples.

    The standardizer is the spread of a difference from block to block, not that of a cell's values: what a block
    shares is no noise here. The interval is that of the true ratio, from the noncentral t distribution. None without
    spread, and of two blocks, where the factor is 0.
    """
    if not difference.sd or difference.n < 3:
        return None
    n, df = difference.n, difference.n - 1
    factor = math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)
    t = difference.mean / difference.sd * math.sqrt(n)
    low, high = (_shift(t, df, (1 + side * coverage) / 2) / math.sqrt(n) for side in (1, -1))
    return Effect(factor * difference.mean / difference.sd, (low, high))


def _shift(t: float, df: int, share: float) -> float:
    """The noncentrality at which a t below this one has the given probability."""
    reach = 1.0
    while noncentral_t(t, df, -reach) < share or noncentral_t(t, df, reach) > share:
        reach *= 2
    return _root(lambda shift: noncentral_t(t, df, shift) - share, -reach, reach)


def _root(falling: Callable[[float], float], low: float, high: float) -> float:
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2
