"""Looks that repeat: their error, their decisions, and the blocks that follow from them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from orchestrator.analysis import Analysis
from orchestrator.blocks import continued
from orchestrator.evidence import Arm, Looks, take_looks, weigh
from orchestrator.sequential import Look, level_of_a_look, looks, minima, repeated_p
from orchestrator.stats import estimate

ALONE = Analysis(correction="none")
SURE = dict(enumerate((5.0, 5.1, 4.9)))
NOISE = dict(enumerate((0.4, -0.6, 0.1, 0.3, -0.2, 0.0, -0.3, 0.2)))


def studies(count: int, blocks: int, effect: float, seed: int = 1) -> list[dict[int, float]]:
    rows = np.random.default_rng(seed).normal(effect, 1, (count, blocks))
    return [dict(enumerate(map(float, row))) for row in rows]


def last_looks(count: int, effect: float, analysis: Analysis = ALONE, margin: float | None = None):
    return [looks({"cell": gaps}, 3, 8, 8, analysis, margin)["cell"] for gaps in studies(count, 8, effect)]


def test_equal_cells_are_told_apart_no_more_often_than_the_level() -> None:
    """0.05 ± two standard errors of 1500 studies; plain 95 % intervals are wrong in 14 % of them."""
    found = last_looks(1500, 0.0)
    assert np.mean([look.is_decided for look in found]) == pytest.approx(0.05, abs=0.011)
    plain = [
        any((known := estimate([*gaps.values()][:n])) and known.excludes_zero for n in range(3, 9))
        for gaps in studies(1500, 8, 0.0)
    ]
    assert np.mean(plain) > 0.12


def test_repeated_intervals_cover_the_truth_when_looking_stops() -> None:
    covers = [
        look.difference.interval is not None and look.difference.interval[0] <= 1.5 <= look.difference.interval[1]
        for look in last_looks(1000, 1.5)
    ]
    assert np.mean(covers) >= 0.935


def test_a_difference_of_the_margin_is_called_smaller_no_more_often_than_the_level() -> None:
    found = last_looks(1000, 1.0, margin=1.0)
    assert np.mean([(look.p_smaller or 1) <= 0.05 for look in found]) <= 0.05


def test_a_large_difference_is_found_early_and_nearly_always() -> None:
    found = last_looks(500, 3.0)
    assert np.mean([look.is_decided for look in found]) > 0.95
    assert np.mean([look.blocks for look in found]) < 6


def test_one_look_is_the_t_test() -> None:
    assert level_of_a_look(8, 8, 0.05) == pytest.approx(0.05, abs=0.002)
    assert repeated_p(0.3, minima(8, 8)) == pytest.approx(0.3, abs=0.004)


def test_p_reaches_the_level_where_the_repeated_interval_excludes_zero() -> None:
    for look in last_looks(300, 1.0):
        assert look.p is not None
        assert (look.p <= 0.05) == look.difference.excludes_zero


def test_a_decision_is_taken_at_its_look_and_stays() -> None:
    gaps = {"sure": {**SURE, 3: -900.0}, "noise": NOISE}
    found = looks(gaps, 3, 8, 8, Analysis(), None)
    assert (found["sure"].blocks, found["sure"].is_decided, found["sure"].difference.n) == (3, True, 3)
    assert found["sure"].difference.mean == pytest.approx(5.0)
    assert (found["noise"].blocks, found["noise"].is_decided) == (8, False)
    assert found == looks(dict(reversed(gaps.items())), 3, 8, 8, Analysis(), None)


def test_a_correction_asks_more_of_each_cell() -> None:
    gaps = {"sure": dict(enumerate((5.0, 5.6, 4.6)))}
    noise = {f"noise {i}": {block: gap * (i + 1) for block, gap in NOISE.items()} for i in range(9)}
    alone, among = (looks({**gaps, **more}, 3, 3, 8, Analysis(), None)["sure"] for more in ({}, noise))
    assert (alone.is_decided, among.is_decided) == (True, False)
    assert among.p_adjusted == pytest.approx(10 * (alone.p or 0))


def test_what_fits_inside_the_margin_is_decided() -> None:
    found = looks({"cell": NOISE}, 3, 8, 8, ALONE, 1.0)["cell"]
    assert found.is_decided
    assert (found.p_smaller or 1) <= 0.05 < (found.p or 0)
    low, high = found.difference.interval or (-9, 9)
    assert -1 < low < high < 1


def test_equal_differences_get_no_more_blocks_and_claim_nothing() -> None:
    found = looks({"cell": {0: 0.0, 1: 0.0, 2: 0.0}}, 3, 3, 8, ALONE, 1.0)["cell"]
    assert (found.is_decided, found.p, found.p_smaller, found.difference.interval) == (True, None, None, None)


def test_a_look_at_fewer_pairs_than_declared_shows_nothing() -> None:
    found = looks({"cell": {0: 5.0, 2: 5.1}}, 3, 3, 8, ALONE, None)["cell"]
    assert (found.is_decided, found.p, found.difference.n) == (False, None, 2)
    later = looks({"cell": {0: 5.0, 2: 5.1, 3: 4.9}}, 3, 4, 8, ALONE, None)["cell"]
    assert (later.is_decided, later.blocks, later.difference.n) == (True, 4, 3)


def test_blocks_after_the_list_count_on_from_the_largest_numbers() -> None:
    listed = [{"seed": 0, "split.seed": 4}, {"seed": 1, "split.seed": 2}]
    assert continued(listed, 4) == [*listed, {"seed": 2, "split.seed": 5}, {"seed": 3, "split.seed": 6}]
    assert continued(listed, 2) == listed
    with pytest.raises(ValueError, match="split"):
        continued([{"split.labeled_list": "a.txt"}], 2)


def arms(**values: dict[int, float]) -> dict[str, Arm]:
    return {name: Arm(own) for name, own in values.items()}


def standing(cells: dict[str, Arm]):
    family = [name for name in cells if name != "usual"]
    return take_looks(cells, "usual", family, ALONE, None, 3, 5)


ZERO = dict.fromkeys(range(3), 0.0)


def test_a_look_waits_for_every_run_of_the_block() -> None:
    cells = arms(usual=ZERO, sure=SURE, noise={0: 0.4, 1: -0.6})
    assert (standing(cells).blocks, standing(cells).undecided) == (None, ())
    found = standing(cells | arms(noise={0: 0.4, 1: -0.6, 2: 0.1}))
    assert (found.blocks, found.undecided) == (3, ("noise",))


def test_only_what_is_undecided_is_waited_for() -> None:
    noise = {0: 0.4, 1: -0.6, 2: 0.1}
    assert standing(arms(usual={**ZERO, 3: 0.0}, sure=SURE, noise=noise)).blocks == 3
    assert standing(arms(usual={**ZERO, 3: 0.0}, sure=SURE, noise={**noise, 3: 0.2})).blocks == 4


def test_a_run_that_failed_is_not_waited_for_and_a_cell_of_failures_gets_no_more_blocks() -> None:
    cells = arms(usual=ZERO, noise={0: 0.4, 1: -0.6}) | {"lost": Arm({}, frozenset(range(3)))}
    cells["noise"] = Arm({0: 0.4, 1: -0.6}, frozenset({2}))
    found = standing(cells)
    assert (found.blocks, found.undecided) == (3, ("noise",))


def test_the_last_block_is_the_last() -> None:
    zero, noise = dict.fromkeys(range(5), 0.0), {block: NOISE[block] for block in range(5)}
    found = standing(arms(usual=zero, noise=noise))
    assert (found.blocks, found.undecided) == (5, ())


def flips_at(blocks: int, gaps: dict[int, float]) -> float:
    """The sign-flip p at a look after so many of at most six blocks, the first one after three."""
    known = estimate([*gaps.values()][:blocks])
    assert known is not None
    taken = Looks(3, 6, blocks, (), {"cell": Look(blocks, known, None, None, None, None, is_decided=False)})
    cells = arms(usual=dict.fromkeys(gaps, 0.0), cell=gaps)
    return weigh(cells, "usual", ["cell"], ALONE, None, taken)["cell"].p_sign_flip or 0.0


def test_looks_together_pass_the_sign_flip_test_no_more_often_than_its_level() -> None:
    """All signs of 1 to 6 are equally likely without an effect. Times the looks so far it would be 18 of 64 at 0.25."""
    found = [
        any(flips_at(blocks, dict(enumerate(gaps))) <= 0.25 for blocks in range(3, 7))
        for gaps in product(*((size, -size) for size in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)))
    ]
    assert sum(found) == 6
    assert sum(found) / len(found) <= 0.25


def test_the_sign_flip_test_pays_for_every_look_that_there_may_be() -> None:
    assert flips_at(3, dict(enumerate((1.0,) * 6))) == min(1.0, 4 * 2 / 2**3)
    assert flips_at(6, dict(enumerate((1.0,) * 6))) == 4 * 2 / 2**6
