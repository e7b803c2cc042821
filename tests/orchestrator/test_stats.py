"""Numbers by hand, and scipy's own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from orchestrator.stats import COVERAGE, bootstrap, estimate, paired


def test_the_estimate_of_three_numbers_is_that_of_a_textbook() -> None:
    found = estimate([1.0, 2.0, 6.0])  # mean 3; squares 4 + 1 + 9 = 14, by 2: 7; t(0.975, 2) = 4.302653
    assert found is not None
    assert (found.n, found.mean) == (3, 3.0)
    assert found.sd == pytest.approx(7**0.5, rel=1e-12)
    assert found.half == pytest.approx(4.302653 * (7 / 3) ** 0.5, rel=1e-6)
    assert found.interval == pytest.approx((3 - 6.572411, 3 + 6.572411), abs=1e-5)


@pytest.mark.parametrize("values", [[0.61, 0.64], [0.1, -0.2, 0.05, 0.4], [float(i**2) for i in range(12)]])
def test_the_interval_is_that_of_scipy(values: list[float]) -> None:
    found = estimate(values)
    theirs = stats.ttest_1samp(values, 0).confidence_interval(COVERAGE)
    assert found is not None
    assert found.interval == pytest.approx((theirs.low, theirs.high), rel=1e-9)
    assert found.sd == pytest.approx(stats.tstd(values), rel=1e-12)


def test_paired_differences_are_a_paired_t_test() -> None:
    values, reference = [0.62, 0.66, 0.59, 0.71], [0.60, 0.61, 0.58, 0.66]
    found = paired(dict(enumerate(values)), dict(enumerate(reference)))
    test = stats.ttest_rel(values, reference)
    theirs = test.confidence_interval(COVERAGE)
    assert found is not None
    assert found.interval == pytest.approx((theirs.low, theirs.high), rel=1e-9)
    assert found.excludes_zero == (test.pvalue < 1 - COVERAGE)


def test_pairs_are_those_of_the_blocks_that_both_have() -> None:
    found = paired({0: 5.0, 1: 7.0, 3: 100.0}, {1: 4.0, 0: 1.0, 2: -100.0})
    assert found is not None
    assert (found.n, found.mean) == (2, 3.5)


def test_what_a_block_shares_cancels() -> None:
    reference = {0: 0.2, 1: 0.5, 2: 0.9}
    gains = {0: 0.03, 1: 0.05, 2: 0.04}
    found = paired({block: reference[block] + gain for block, gain in gains.items()}, reference)
    alone = estimate(list(reference.values()))
    assert found is not None
    assert alone is not None
    assert found.excludes_zero
    assert (found.sd or 0) < (alone.sd or 0) / 10


def test_one_value_has_no_interval_and_nothing_no_estimate() -> None:
    found = estimate([0.5])
    assert found is not None
    assert (found.n, found.mean, found.sd, found.interval, found.half) == (1, 0.5, None, None, None)
    assert not found.excludes_zero
    assert estimate([]) is None
    assert paired({0: 0.5}, {1: 0.4}) is None


def test_equal_values_have_no_interval() -> None:
    """Blocks that do not vary the run are one run many times."""
    found = estimate([0.1] * 5)
    assert found is not None
    assert (found.mean, found.sd, found.interval) == (0.1, 0.0, None)
    assert not found.excludes_zero


@pytest.mark.parametrize(
    ("values", "excludes"), [([1.0, 1.1, 0.9], True), ([-1.0, -1.1, -0.9], True), ([1.0, -1.0, 0.5], False)]
)
def test_an_interval_excludes_zero_on_either_side(values: list[float], excludes: bool) -> None:
    found = estimate(values)
    assert found is not None
    assert found.excludes_zero == excludes


def test_differences_that_differ_by_rounding_are_equal() -> None:
    """0.25 - 0.2 and 0.55 - 0.5 are not the same number of a computer."""
    found = paired({0: 0.25, 1: 0.55, 2: 0.65}, {0: 0.2, 1: 0.5, 2: 0.6})
    assert found is not None
    assert (found.sd, found.interval) == (0.0, None)


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(odd: float) -> None:
    with pytest.raises(ValueError, match="among 3 values: expected finite numbers"):
        estimate([0.1, odd, 0.2])


def test_an_interval_of_another_coverage_is_that_of_scipy() -> None:
    found = estimate([0.61, 0.64, 0.6], 0.9)
    theirs = stats.ttest_1samp([0.61, 0.64, 0.6], 0).confidence_interval(0.9)
    assert found is not None
    assert (found.interval, found.coverage) == (pytest.approx((theirs.low, theirs.high)), 0.9)


def test_the_bootstrap_interval_is_efrons_formula() -> None:
    """Efron 1987, formulas 2.3 and 6.6, on Proschan's hours between failures of an air conditioner (skewed)."""
    hours = np.array([3.0, 5.0, 7.0, 18.0, 43.0, 85.0, 91.0, 98.0, 100.0, 130.0, 230.0, 487.0])
    means = hours[np.random.default_rng(1).integers(0, 12, (40_000, 12))].mean(1)
    bias = stats.norm.ppf((means < hours.mean()).mean())
    away = hours - hours.mean()
    acceleration = (away**3).sum() / (6 * (away**2).sum() ** 1.5)
    ends = [bias + z for z in stats.norm.ppf([0.025, 0.975])]
    theirs = np.quantile(means, [stats.norm.cdf(bias + z / (1 - acceleration * z)) for z in ends])
    found = bootstrap(hours.tolist())
    assert found.interval == pytest.approx(tuple(theirs), rel=0.03)
    assert found == bootstrap(hours.tolist())


def test_a_bootstrap_that_is_absent_says_why() -> None:
    few, equal = bootstrap([0.1 * i for i in range(9)]), bootstrap([0.1] * 12)
    assert (few.interval, few.absent) == (None, "a bootstrap of fewer than 10 blocks covers too seldom")
    assert (equal.interval, equal.absent) == (None, "all values are equal")
