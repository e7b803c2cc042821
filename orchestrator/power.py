"""What so many blocks can show: the power of the paired t test, and what follows from it."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy.special import gammaincinv, ndtr, stdtrit

POWER = 0.8
MOST_BLOCKS = 10_000


def noncentral_t(t: float, df: int, shift: float) -> float:
    """The distribution function of the noncentral t distribution at t.

    The mean of Φ(t s - shift) over s² = χ²(df) / df, at 4000 equally likely values of it. (SciPy's is NaN in the tails
    that few degrees of freedom need.)
    """
    return float(ndtr(t * _spreads(df) - shift).mean())


def power(difference: float, sd: float, n: int, alpha: float = 0.05) -> float:
    """The chance that the two-sided test shows a true difference; `sd` is that of the differences of n blocks."""
    if n < 2:
        return 0.0
    critical, shift = float(stdtrit(n - 1, 1 - alpha / 2)), abs(difference) / sd * math.sqrt(n)
    return 1 - noncentral_t(critical, n - 1, shift) + noncentral_t(-critical, n - 1, shift)


def detectable(n: int, sd: float, alpha: float = 0.05) -> float | None:
    """The true difference that n blocks show with a power of 0.8. None of fewer than two blocks: they show nothing."""
    if n < 2:
        return None
    low, high = 0.0, sd
    while power(high, sd, n, alpha) < POWER:
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle, sd, n, alpha) < POWER else (low, middle)
    return high


def blocks_needed(difference: float, sd: float, alpha: float = 0.05) -> int | None:
    """The fewest blocks that show a true difference with a power of 0.8; None if they are more than 10,000."""
    low, high = 1, 2
    while power(difference, sd, high, alpha) < POWER:
        low, high = high, 2 * high
        if high > MOST_BLOCKS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if power(difference, sd, middle, alpha) < POWER else (low, middle)
    return high


@lru_cache(maxsize=64)
def _spreads(df: int) -> np.ndarray:
    """Equally likely values of a sample's standard deviation, in units of the true one."""
    shares = (np.arange(4000) + 0.5) / 4000
    return np.sqrt(2 * gammaincinv(df / 2, shares) / df)
