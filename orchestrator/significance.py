"""How rarely chance alone would show as much: tests of paired differences, and corrections for several of them.

The p of the tables is that of the paired t test: it agrees with the interval beside it, and it has some power with
three to eight blocks, which is what a study can pay for. It takes the differences between two networks of a block for
draws from a normal distribution. A star therefore also asks for the exact sign-flip test, which only takes it that a
difference would be as likely with the other sign if there were no effect. That one can't go below 2 / 2^n: 0.25 with
three blocks, 0.0625 with five. So no star is printed for fewer than six blocks at the level 0.05, however large the
difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from scipy.special import stdtr

from orchestrator.analysis import Correction
from orchestrator.stats import EQUAL, Estimate

EXACT = 16
"""Up to so many differences all 2^n flips are counted; of more, FLIPS are drawn."""
FLIPS = 99_999


def t_test(difference: Estimate, null: float = 0.0) -> float | None:
    """Two-sided p of Student's test against a mean of `null`. None if there is no standard error."""
    if difference.se is None:
        return None
    return 2 * float(stdtr(difference.n - 1, -abs(difference.mean - null) / difference.se))


def smaller_than(margin: float, difference: Estimate) -> float | None:
    """p of the claim that the true difference lies within ± margin: the larger one of two one-sided t tests.

    Schuirmann 1987. It is at most α if and only if the interval of coverage 1 - 2 α lies within the margins.
    """
    if difference.se is None:
        return None
    return float(stdtr(difference.n - 1, (abs(difference.mean) - margin) / difference.se))


def sign_flip(differences: Sequence[float] | np.ndarray, seed: int = 0) -> float | None:
    """Two-sided p of the permutation test that gives each difference either sign. None if there are none.

    Exact up to 16 differences. Of more, (b + 1) / (m + 1) with b of m random flips as extreme (Phipson and Smyth 2010).
    """
    if not len(differences):
        return None
    sizes = np.abs(differences)
    least = abs(float(np.sum(differences))) - 1e-9 * float(sizes.sum())  # equal sums may differ by rounding
    if len(differences) <= EXACT:
        sums = np.zeros(1)
        for size in sizes:
            sums = np.concatenate([sums + size, sums - size])
        return float(np.mean(np.abs(sums) >= least))
    return float(1 + np.sum(np.abs(_signs(len(sizes), seed) @ sizes) >= least)) / (FLIPS + 1)


@lru_cache(maxsize=4)
def _signs(n: int, seed: int) -> np.ndarray:
    """FLIPS rows of n random signs."""
    return np.random.default_rng(seed).integers(0, 2, (FLIPS, n), dtype=np.int8) * 2.0 - 1.0


def least_sign_flip(n: int) -> float:
    """The smallest p that `sign_flip` can give with n differences."""
    return 2.0 ** (1 - n)


def signed_rank(differences: Sequence[float], seed: int = 0) -> float | None:
    """Two-sided p of Wilcoxon's signed-rank test: the sign-flip test of signed ranks, so exact with ties, too.

    Zeros are left out (Wilcoxon 1945). None if nothing is left. Sizes that differ by rounding are equal.
    """
    values = np.asarray(differences, dtype=float)
    unit = EQUAL * np.abs(values).max(initial=0)
    kept = values[np.abs(values) > unit]
    if not len(kept):
        return None
    kept = np.round(kept / unit)
    _, place, counts = np.unique(np.abs(kept), return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # the mean rank of those that are equal
    return sign_flip(np.sign(kept) * ranks[place], seed)


def adjusted(p: Mapping[str, float | None], correction: Correction) -> dict[str, float | None]:
    """Adjusted p, to be compared with the level itself. What has no p is no part of the family.

    holm: Holm 1979, the chance of any false claim; bh: Benjamini and Hochberg 1995, the expected share of false ones.
    """
    known = sorted((value, name) for name, value in p.items() if value is not None)
    m, found = len(known), dict.fromkeys(p)
    if correction == "holm":
        scaled = np.maximum.accumulate([(m - i) * value for i, (value, _) in enumerate(known)])
    elif correction == "bh":
        scaled = np.minimum.accumulate([m / (i + 1) * value for i, (value, _) in enumerate(known)][::-1])[::-1]
    else:
        scaled = np.array([value for value, _ in known])
    return found | {name: min(1.0, float(value)) for (_, name), value in zip(known, scaled, strict=True)}
