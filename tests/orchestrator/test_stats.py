"""Numbers by hand, and scipy's own."""

from __future__ import annotations

import pytest
from scipy import stats

from orchestrator.stats import COVERAGE, estimate, paired


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
