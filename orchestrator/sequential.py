"""When a comparison needs no more blocks: repeated looks at paired differences, with the error rate of one.

A look is taken when a block has ended: first after the listed ones, then after each that is added, up to a number that
is declared before the study begins. Looking until a 95 % interval excludes zero would find a difference too often
(in 17 % of equal cells with looks after 3 to 10 blocks). So each look has the same smaller level, chosen such that all
looks together have the level asked for: Pocock's rule (Biometrika 1977) for t statistics, as Jennison and Turnbull
describe it for unknown variance (Group Sequential Methods, 2000, chapters 4 and 9).

Under no effect, and normal differences, the t statistics of all looks together have one known distribution, whatever
the variance. It is simulated here, with a fixed seed, instead of the large-sample tables, which are wrong for a few
blocks. From it follow

- repeated p: the share of simulated studies in which some look has a smaller p than this one's t test;
- repeated intervals: at the level at which that share is 1 - `analysis.interval`. They cover the truth at all looks
  together as often as `analysis.interval` says, so they may be read at any look, however the study was stopped;
- both are valid for claims of smallness, too: the interval within the margins, which is a p of its own.

The level is exact for normal differences. Heavy tails keep it; where every difference leans to the same side it is
missed (0.17 instead of 0.05 for exponential ones, 0.28 with plain intervals; benchmarks/sequential.py).

A cell is decided when its p, after the correction for several comparisons, is at most the level. A corrected claim
stands: later looks at other cells can't undo it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.special import stdtr

from orchestrator.analysis import Analysis
from orchestrator.significance import adjusted, t_test
from orchestrator.stats import Estimate, estimate, of_error

STUDIES = 200_000
"""Simulated ones. The level 0.05 is met to ± 0.0005 (one standard error)."""


@dataclass(frozen=True)
class Look:
    """A cell at its last look."""

    blocks: int
    """Blocks that had ended then, complete or not."""
    difference: Estimate
    """With the repeated interval."""
    p: float | None
    p_adjusted: float | None
    p_smaller: float | None
    """Of the claim that the true difference is smaller than the margin. None without a margin."""
    p_smaller_adjusted: float | None
    is_decided: bool
    """Nothing is added to it. Also without any claim: of differences that are all equal no block makes a test."""


def looks(
    differences: Mapping[str, Mapping[int, float]],
    first: int,
    last: int,
    max_blocks: int,
    analysis: Analysis,
    margin: float | None,
) -> dict[str, Look]:
    """Every cell at its last look: after `first` blocks, after one more, … up to `last`, or until it is decided.

    Differences to the reference by block; a cell without any is left out. `margin` is in the metric's own unit.
    Pure: the same differences give the same decisions, so a study that was interrupted takes the same way.
    """
    null, found = minima(first, max_blocks), dict[str, Look]()
    for blocks in range(first, last + 1):
        for cell, gaps in differences.items():
            seen = [gap for block, gap in gaps.items() if block < blocks]
            if seen and not (cell in found and found[cell].is_decided):
                found[cell] = _look(seen, blocks, first, analysis, margin, null)
        # the family is all cells from the first look on, so that a claim once made stays
        of_zero = adjusted({cell: _or_one(found.get(cell), "p") for cell in differences}, analysis.correction)
        of_size = adjusted({cell: _or_one(found.get(cell), "p_smaller") for cell in differences}, analysis.correction)
        for cell, look in found.items():
            p, p_smaller = (
                None if raw is None else family[cell] for raw, family in ((look.p, of_zero), (look.p_smaller, of_size))
            )
            is_claimed = any(claim is not None and claim <= analysis.alpha for claim in (p, p_smaller))
            found[cell] = replace(
                look, p_adjusted=p, p_smaller_adjusted=p_smaller, is_decided=look.is_decided or is_claimed
            )
    return found


@lru_cache(maxsize=8)
def minima(first: int, max_blocks: int) -> np.ndarray:
    """Sorted, of simulated studies without an effect: the smallest p over looks after `first` to `max_blocks` pairs."""
    draw, found = np.random.default_rng(0), np.ones(STUDIES)
    sums, squares = np.zeros(STUDIES), np.zeros(STUDIES)
    for n in range(1, max_blocks + 1):
        values = draw.standard_normal(STUDIES)
        sums, squares = sums + values, squares + values**2
        if n >= first:
            t = np.abs(sums) / np.sqrt(n * (squares - sums**2 / n) / (n - 1))
            found = np.minimum(found, 2 * stdtr(n - 1, -t))
    return np.sort(found)


def level_of_a_look(first: int, max_blocks: int, alpha: float) -> float:
    """The level of each single look at which all together have the level alpha."""
    return float(minima(first, max_blocks)[int(alpha * (STUDIES + 1)) - 1])


def repeated_p(p: float, null: np.ndarray) -> float:
    """Of the p of one look's t test: how often the smallest of all looks is as small, (b + 1) / (m + 1)."""
    return float(1 + np.searchsorted(null, p, side="right")) / (len(null) + 1)


def _look(
    seen: Sequence[float], blocks: int, first: int, analysis: Analysis, margin: float | None, null: np.ndarray
) -> Look:
    plain = estimate(seen)
    assert plain is not None
    if len(seen) < first or plain.sd is None or plain.se is None:  # failed runs: a look that was not declared
        bare = Estimate(plain.n, plain.mean, plain.sd, None, None, analysis.interval)
        return Look(blocks, bare, None, None, None, None, is_decided=len(seen) >= first)
    level = float(null[int(analysis.alpha * (len(null) + 1)) - 1])
    wide = of_error(plain.n, plain.mean, plain.sd, plain.se, 1 - level)
    difference = replace(wide, coverage=analysis.interval)
    p, p_smaller = t_test(plain), None
    assert p is not None
    if margin is not None:
        inside = t_test(plain, math.copysign(margin, plain.mean)) if abs(plain.mean) < margin else 1.0
        p_smaller = repeated_p(inside or 0.0, null)
    return Look(blocks, difference, repeated_p(p, null), None, p_smaller, None, is_decided=False)


def _or_one(look: Look | None, name: str) -> float:
    p = None if look is None else getattr(look, name)
    return 1.0 if p is None else p
