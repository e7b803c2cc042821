"""The smallest effect that so many paired blocks can show."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any


def detectable_effect(n: int, sd: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """The mean difference that a two-sided paired t test over `n` pairs finds with this power.

    `sd` is the standard deviation of the differences; the effect has its unit. It solves, with q Student's quantile
    1 - alpha / 2 and T noncentral t, both with n - 1 degrees of freedom (Cohen, Statistical Power Analysis, 1988,
    chapter 2):

        power = P(|T| > q),   T = (Z + shift) / S,   shift = effect sqrt(n) / sd

    ValueError below two pairs: one difference has no spread.
    """
    if n < 2:
        raise ValueError(f"n={n}: expected two pairs or more")
    from scipy.optimize import brentq  # slow to load, and only a plan wants it
    from scipy.special import stdtrit

    quantile = float(stdtrit(n - 1, 1 - alpha / 2))
    high = quantile
    while _power(high, quantile, n - 1) < power:
        high *= 2
    shift: Any = brentq(lambda shift: _power(shift, quantile, n - 1) - power, 0.0, high)
    return float(shift) * sd / math.sqrt(n)


def _power(shift: float, quantile: float, degrees: int) -> float:
    """P(|T| > quantile), integrated over S = chi / sqrt(degrees): scipy 1.17's `nct` gives NaN in the tails."""
    from scipy.integrate import quad
    from scipy.special import gammaln, ndtr

    half = degrees / 2
    constant = math.log(2) + half * math.log(half) - float(gammaln(half))

    def density(s: float) -> float:
        found = ndtr(shift - quantile * s) + ndtr(-shift - quantile * s)
        return math.exp(constant + (degrees - 1) * math.log(s) - half * s * s) * float(found)

    turn, width = shift / quantile, 10 / quantile  # where Z + shift passes quantile x S: the integrand falls off there
    edges = [0.0, max(turn - width, turn / 2), turn, turn + width]
    return sum(quad(density, low or 1e-300, high)[0] for low, high in pairwise(edges))
