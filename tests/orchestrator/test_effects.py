"""Sizes of differences, and what so many blocks can show."""

from __future__ import annotations

import pytest
from scipy import stats

from orchestrator.effects import hedges_g
from orchestrator.mixed_model import mixed_difference
from orchestrator.power import blocks_needed, detectable, noncentral_t, power
from orchestrator.stats import paired
from tests.orchestrator.test_significance import SLEEP, of


def test_hedges_g_of_students_sleep_data() -> None:
    """d = -1.58 / 1.23 = -1.2846, times Γ(4.5) / (√4.5 Γ(4)) = 0.91387; the interval as R's MBESS has it for d."""
    found = hedges_g(of(SLEEP))
    assert found is not None
    assert found.g == pytest.approx(-1.28456 * 0.913875, abs=1e-4)
    assert found.interval == pytest.approx((-2.11801, -0.41465), abs=2e-4)


def test_two_blocks_and_equal_differences_have_no_effect_size() -> None:
    assert hedges_g(of([0.1, 0.2])) is None
    assert hedges_g(of([0.1, 0.1, 0.1])) is None


@pytest.mark.parametrize(("t", "df", "shift"), [(1.7, 1, 0.0), (2.5, 2, 1.0), (-1.0, 4, -2.5), (4.0, 9, 3.0)])
def test_the_noncentral_t_distribution_is_scipys(t: float, df: int, shift: float) -> None:
    assert noncentral_t(t, df, shift) == pytest.approx(stats.nct.cdf(t, df, shift), abs=1e-5)


@pytest.mark.parametrize(("n", "points"), [(3, 2.61), (5, 1.35), (8, 0.92)])
def test_what_so_many_pairs_detect(n: int, points: float) -> None:
    found = detectable(n, 0.8)
    assert found == pytest.approx(points, abs=0.006)
    assert power(found or 0, 0.8, n) == pytest.approx(0.8, abs=1e-6)


def test_how_many_blocks_a_difference_takes() -> None:
    """Half a standard deviation takes 34 pairs (Cohen 1988, by any table of the paired t test)."""
    assert blocks_needed(0.5, 1.0) == 34
    assert power(0.5, 1.0, 33) < 0.8 <= power(0.5, 1.0, 34)
    assert blocks_needed(1e-4, 1.0) is None


def test_one_block_detects_nothing() -> None:
    assert detectable(1, 0.8) is None
    assert power(9.0, 0.1, 1) == 0.0


REFERENCE = {0: 47.1, 1: 49.2, 2: 46.0, 3: 48.1, 4: 50.3}


def test_a_mixed_model_of_whole_blocks_is_the_paired_t_test() -> None:
    cell = {
        block: value + gain for (block, value), gain in zip(REFERENCE.items(), (1, 1.5, 0.8, 1.1, 0.4), strict=True)
    }
    found, pairs = mixed_difference(cell, REFERENCE), paired(cell, REFERENCE)
    assert found is not None
    assert pairs is not None
    assert (found.n, found.mean) == (5, pytest.approx(pairs.mean))
    assert found.interval == pytest.approx(pairs.interval, rel=2e-3)


def test_a_mixed_model_of_missing_blocks_is_that_of_statsmodels() -> None:
    """MixedLM(values, cell, groups=block).fit(reml=True), statsmodels 0.14."""
    cell = {0: 49.2, 1: 50.0, 3: 49.9}
    found = mixed_difference(cell, REFERENCE)
    assert found is not None
    assert found.n == 3
    assert found.mean == pytest.approx(1.56603, abs=1e-3)
    assert found.se == pytest.approx(0.39704, rel=2e-3)


def test_one_missing_run_widens_no_interval_where_blocks_decide_almost_everything() -> None:
    reference = {0: 0.3112, 1: 0.7450, 2: 0.4506, 3: 0.5208, 4: 0.6311, 5: 0.2904}
    cell = {0: 0.3214, 1: 0.7551, 2: 0.4602, 3: 0.5309, 4: 0.6415}
    found, pairs = mixed_difference(cell, reference), paired(cell, reference)
    assert found is not None
    assert pairs is not None
    assert (found.mean, found.se) == (pytest.approx(pairs.mean, rel=1e-3), pytest.approx(pairs.se, rel=1e-2))


def test_a_mixed_model_needs_two_pairs_with_spread() -> None:
    assert mixed_difference({0: 48.0}, REFERENCE) is None
    assert mixed_difference({block: value + 1 for block, value in REFERENCE.items() if block}, REFERENCE) is None
