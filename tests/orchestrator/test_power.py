"""The smallest effect that shows, against published cases."""

from __future__ import annotations

import pytest

from orchestrator.power import detectable_effect


@pytest.mark.parametrize(("pairs", "effect"), [(3, 2.61), (5, 1.35), (8, 0.92)])
def test_few_pairs_show_only_large_effects(pairs: int, effect: float) -> None:
    """As G*Power 3.1 has it for a two-sided paired t test, alpha 0.05, power 0.8, with sd 0.8."""
    assert detectable_effect(pairs, 0.8) == pytest.approx(effect, abs=0.01)


def test_thirty_four_pairs_show_half_a_standard_deviation() -> None:
    """Cohen 1988, table 2.4.1 for one sample: d = 0.5 needs 34 pairs, so 33 show a little more."""
    assert detectable_effect(34, 1.0) <= 0.5 < detectable_effect(33, 1.0)


def test_it_grows_with_the_noise_and_with_what_is_asked_for() -> None:
    assert detectable_effect(5, 1.6) == pytest.approx(2 * detectable_effect(5, 0.8))
    assert detectable_effect(5, 0.8, alpha=0.01) > detectable_effect(5, 0.8)
    assert detectable_effect(5, 0.8, power=0.9) > detectable_effect(5, 0.8)


def test_one_pair_shows_nothing() -> None:
    with pytest.raises(ValueError, match="n=1: expected two pairs or more"):
        detectable_effect(1, 0.8)
