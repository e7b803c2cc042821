"""What a few numbers can show: mean, spread, and Student's interval of a sample, and of paired differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

COVERAGE = 0.95
"""Of every interval."""


@dataclass(frozen=True)
class Estimate:
    """A sample's mean, and how sure it is."""

    n: int
    mean: float
    sd: float | None
    """The sample standard deviation, the squares divided by n - 1. None if n is 1."""
    interval: tuple[float, float] | None
    """mean ± t sd / sqrt(n), t the quantile (1 + COVERAGE) / 2 of Student's distribution with n - 1 degrees of freedom.

    None if n is 1, and if all values are equal: a sample without spread says nothing of the noise, and an interval of
    no width would claim to be sure."""

    @property
    def half(self) -> float | None:
        """Half the interval's width."""
        return None if self.interval is None else (self.interval[1] - self.interval[0]) / 2

    @property
    def excludes_zero(self) -> bool:
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


def estimate(values: Sequence[float]) -> Estimate | None:
    """Of independent values; None if there are none. The interval takes them for draws from a normal distribution."""
    n = len(values)
    if n == 0:
        return None
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(1, mean, None, None)
    if min(values) == max(values):
        return Estimate(n, values[0], 0.0, None)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(stdtrit(n - 1, (1 + COVERAGE) / 2)) * sd / math.sqrt(n)
    return Estimate(n, mean, sd, (mean - half, mean + half))


def paired(values: Mapping[int, float], reference: Mapping[int, float]) -> Estimate | None:
    """The differences `values` minus `reference` over the blocks that both have; None without a common block.

    What all values of a block share, such as a lucky split, cancels: the interval is that of the differences.
    """
    return estimate([value - reference[block] for block, value in values.items() if block in reference])
