"""What factors do, alone and in pairs: published cases, and designs whose answer is put in."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from orchestrator.designs import Design
from orchestrator.designs.full_factorial import FullFactorial
from orchestrator.designs.latin_square import LatinSquare
from orchestrator.designs.plackett_burman import PlackettBurman
from orchestrator.factorial import FactorEffect, FactorEffects, factor_effects, half_normal
from orchestrator.stats import estimate

# Box, Hunter and Hunter, "Statistics for Experimenters", 2nd edition, table 5.2: yield of a pilot plant at two
# temperatures, concentrations and catalysts, each run twice.
PILOT = [(59, 61), (74, 70), (50, 58), (69, 67), (50, 54), (81, 85), (46, 44), (79, 81)]
LEVELS = {f"run {i}": {"T": (160, 180)[i % 2], "C": (20, 40)[i // 2 % 2], "K": ("A", "B")[i // 4]} for i in range(8)}
VALUES = {f"run {i}": dict(enumerate(map(float, pair))) for i, pair in enumerate(PILOT)}


def effects(levels, values, reference: str = "run 0") -> list[FactorEffect]:
    found = factor_effects(levels, values, reference)
    assert found is not None
    return found.found


def effects_of(cells: list[int], reference: str = "run 0") -> dict[str, float]:
    levels = {f"run {i}": LEVELS[f"run {i}"] for i in cells}
    return {"".join(effect.factors): effect.estimate.mean for effect in effects(levels, VALUES, reference)}


def test_the_effects_of_the_pilot_plant_are_the_published_ones() -> None:
    published = {"T": 23.0, "C": -5.0, "K": 1.5, "TC": 1.5, "TK": 10.0, "CK": 0.0}
    assert effects_of([*range(8)]) == pytest.approx(published)


def test_an_effects_interval_is_that_of_its_contrasts_over_blocks() -> None:
    found = effects(LEVELS, VALUES)
    temperature = [np.mean([PILOT[i][block] - PILOT[i - 1][block] for i in (1, 3, 5, 7)]) for block in (0, 1)]
    assert found[0].estimate == estimate([float(value) for value in temperature])


def test_effects_lead_away_from_the_reference() -> None:
    turned = effects_of([*range(8)], "run 7")
    assert (turned["T"], turned["C"], turned["TK"]) == pytest.approx((-23.0, 5.0, 10.0))


def test_half_a_design_can_not_tell_a_factor_from_a_pair() -> None:
    """2^(3-1), K = -TC from the reference's corner: 0, 3, 5 and 6 are the runs with an even number of high levels."""
    found = effects({f"run {i}": LEVELS[f"run {i}"] for i in (0, 3, 5, 6)}, VALUES)
    assert {effect.name: effect.confounded for effect in found} == {"T": "C × K", "C": "T × K", "K": "T × C"}


def simulated(design: Design, factors: dict[str, tuple[str, ...]], value) -> list[FactorEffect]:
    cells = design.cells(factors)
    values = {name: {block: value(levels) + block for block in range(2)} for name, levels in cells.items()}
    return effects(cells, values, next(iter(cells)))


def test_a_screening_in_twelve_cells_finds_the_main_effects_and_says_what_is_mixed_in() -> None:
    """Of 8 factors, each main effect has a third of each of the 21 pairs of the others (Plackett and Burman 1946)."""
    screening = PlackettBurman()
    found = simulated(screening, dict.fromkeys("abcdefgh", ("on", "off")), lambda on: 5.0 * (on["c"] == "off"))
    assert {effect.name: effect.estimate.mean for effect in found} == pytest.approx(
        {**dict.fromkeys("abcdefgh", 0.0), "c": 5.0}
    )
    assert {effect.confounded for effect in found} == {"parts of 21 pairs"}


def test_a_latin_square_has_the_main_effect_of_each_level() -> None:
    factors = {"row": ("1", "2", "3"), "column": ("1", "2", "3"), "letter": ("x", "y", "z")}
    gains = {"x": 0.0, "y": 1.0, "z": -2.0}
    found = simulated(LatinSquare(), factors, lambda cell: gains[cell["letter"]])
    assert {effect.name: effect.estimate.mean for effect in found} == pytest.approx(
        {"row=2": 0, "row=3": 0, "column=2": 0, "column=3": 0, "letter=y": 1, "letter=z": -2}
    )
    assert {effect.confounded for effect in found} == {"parts of 1 pair"}
    assert half_normal(found) == []  # two effects of a factor share its first level


def test_whether_a_gain_depends_on_a_factor_of_three_levels() -> None:
    """The half of what 32 labels take from the gain of the method; 8 labels are what the reference has."""
    factors = {"method": ("supervised", "mixed"), "labels": ("8", "16", "32")}
    gain = {"8": 3.0, "16": 3.0, "32": 1.0}
    found = simulated(FullFactorial(), factors, lambda cell: gain[cell["labels"]] * (cell["method"] == "mixed"))
    assert {effect.name: effect.estimate.mean for effect in found} == pytest.approx(
        {"method": 7 / 3, "labels=16": 0, "labels=32": -1, "method × labels=16": 0, "method × labels=32": -1}
    )
    assert {effect.confounded for effect in found} == {""}


def test_cells_in_which_factors_lean_on_each_other_have_no_effects() -> None:
    one_at_a_time = {f"run {i}": LEVELS[f"run {i}"] for i in (0, 1, 2, 4)}
    three_levels = {**LEVELS, "run 8": {"T": 200, "C": 20, "K": "A"}}
    for levels in (one_at_a_time, three_levels, {}, {"run 0": LEVELS["run 0"]}):
        assert factor_effects(levels, {**VALUES, "run 8": {0: 1.0}}, "run 0") is None


def test_effects_are_over_the_blocks_that_all_cells_of_the_design_have() -> None:
    values = {**VALUES, "run 3": {0: 69.0}, "ceiling": {5: 1.0}}
    found = effects({**LEVELS, "ceiling": {}}, values)
    assert {(effect.estimate.n, effect.estimate.interval) for effect in found} == {(1, None)}


def test_a_design_that_lost_a_cell_says_why_it_has_no_effects() -> None:
    lost = factor_effects(LEVELS, {**VALUES, "run 3": {}}, "run 0")
    assert lost == FactorEffects([], "without a complete run: run 3")
    apart = factor_effects(LEVELS, {**VALUES, "run 3": {0: 69.0}, "run 4": {1: 54.0}}, "run 0")
    assert apart == FactorEffects([], "no block has a complete run of each of the 8 cells")


def test_half_normal_points_are_at_daniels_quantiles() -> None:
    points = half_normal(effects(LEVELS, VALUES))
    assert [effect.name for _, effect in points][-2:] == ["T × K", "T"]
    assert points[0][0] == pytest.approx(stats.norm.ppf(0.5 + 0.5 * 0.5 / 6))
