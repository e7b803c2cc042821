"""Tests against cases from papers and textbooks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from orchestrator.significance import adjusted, least_sign_flip, sign_flip, signed_rank, smaller_than, t_test
from orchestrator.stats import Estimate, estimate

SLEEP = (-1.2, -2.4, -1.3, -1.3, 0.0, -1.0, -1.8, -0.8, -4.6, -1.4)
"""Student 1908: hours of extra sleep, first drug minus second, ten patients."""
MAIZE = (49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48)
"""Darwin 1876, as in Fisher 1935, "The Design of Experiments", 21: crossed minus selfed plants, eighths of an inch."""


def of(values) -> Estimate:
    found = estimate(values)
    assert found is not None
    return found


def test_the_paired_t_test_of_students_sleep_data_is_the_published_one() -> None:
    found = of(SLEEP)
    assert found.se is not None
    assert found.mean / found.se == pytest.approx(-4.0621, abs=5e-5)
    assert t_test(found) == pytest.approx(0.002833, abs=5e-7)


def test_the_t_test_reaches_the_level_where_the_interval_excludes_zero() -> None:
    for shift in np.linspace(-1, 1, 41):
        found = of([0.3 + shift, 0.1 + shift, -0.2 + shift, 0.05 + shift])
        assert ((t_test(found) or 1) <= 0.05) == found.excludes_zero


def test_fishers_count_of_sign_flips_of_darwins_maize() -> None:
    """863 of 32,768 arrangements have a total as large as the observed one."""
    assert sign_flip(MAIZE) == 2 * 863 / 32768


def test_sign_flips_of_many_differences_are_drawn_and_the_observed_one_counts() -> None:
    many = [1.0 + i / 100 for i in range(20)]
    assert sign_flip(many) == 1 / 100_000  # none of the 99,999 draws has twenty equal signs, and p is never 0
    mixed = [*MAIZE, *MAIZE]
    z = abs(sum(mixed)) / sum(value**2 for value in mixed) ** 0.5
    assert sign_flip(mixed) == pytest.approx(2 * stats.norm.sf(z), abs=0.002)
    assert sign_flip(mixed) == sign_flip(mixed)


@pytest.mark.parametrize(("n", "least"), [(3, 0.25), (5, 0.0625), (6, 0.03125)])
def test_few_blocks_can_not_go_below_a_known_p(n: int, least: float) -> None:
    assert sign_flip([1.0 + i for i in range(n)]) == least == least_sign_flip(n)


def test_the_signed_rank_test_of_hamiltons_depression_scores_is_the_published_one() -> None:
    """Hollander and Wolfe 1973, page 29: V = 40 of nine pairs, one-sided p 0.01953."""
    before = (1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30)
    after = (0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29)
    assert signed_rank([a - b for a, b in zip(before, after, strict=True)]) == 2 * 10 / 2**9


def test_the_signed_rank_test_is_exact_with_ties_and_leaves_zeros_out() -> None:
    assert signed_rank(SLEEP) == 2 / 2**9  # nine differences of one sign are left
    assert signed_rank([1.0, 1.0, -1.0]) == 1.0
    assert signed_rank([0.0, 0.0]) is None


def test_ranks_are_not_broken_by_rounding() -> None:
    assert signed_rank([0.3 - 0.2, 0.2 - 0.1, 0.5 - 0.4, 0.8 - 0.9]) == signed_rank([1, 1, 1, -1]) == 0.625
    assert signed_rank([0.1 + 0.2 - 0.3, 1.0, 2.0]) == signed_rank([1.0, 2.0]) == 0.5


def test_smallness_is_shown_where_the_interval_of_twice_the_level_lies_within_the_margins() -> None:
    values = [0.2, -0.1, 0.15, 0.05, 0.0]
    found, ends = of(values), stats.ttest_1samp(values, 0).confidence_interval(0.9)
    edge = max(abs(ends.low), abs(ends.high))
    assert smaller_than(edge, found) == pytest.approx(0.05)
    assert (smaller_than(edge * 1.01, found) or 1) < 0.05 < (smaller_than(edge * 0.99, found) or 0)


def test_without_spread_there_is_no_t_test() -> None:
    for values in ([0.1], [0.1, 0.1, 0.1], [0.0, 0.0], [0.25 - 0.2, 0.55 - 0.5, 0.65 - 0.6]):
        assert t_test(of(values)) is None
        assert smaller_than(1.0, of(values)) is None


def test_holm_by_hand() -> None:
    p = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}  # 4 x 0.005, 3 x 0.01, 2 x 0.03, and no smaller than that
    assert adjusted(p, "holm") == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})


def test_the_example_of_benjamini_and_hochberg() -> None:
    """Their section 3.2, fifteen treatments of myocardial infarction: four false nulls, Holm's rule finds three."""
    p = (0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459)
    p = (*p, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0)
    named = {str(i): value for i, value in enumerate(p)}
    found = {correction: adjusted(named, correction) for correction in ("holm", "bh", "none")}
    rejected = {name: sum((value or 0) <= 0.05 for value in each.values()) for name, each in found.items()}
    assert rejected == {"holm": 3, "bh": 4, "none": 9}
    assert [*found["bh"].values()] == pytest.approx(stats.false_discovery_control(p))


def test_what_can_not_be_tested_is_no_part_of_the_family() -> None:
    assert adjusted({"a": 0.02, "b": None, "c": 0.9}, "holm") == {"a": 0.04, "b": None, "c": 0.9}
    assert adjusted({"b": None}, "bh") == {"b": None}
    assert adjusted({}, "holm") == {}
