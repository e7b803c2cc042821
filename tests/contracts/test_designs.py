"""What every design promises. The suite finds its subjects: a new file in `designs/` is tested with one line here."""

from __future__ import annotations

from typing import Any

import pytest

from guidedmix_core import build, dump, find, names
from guidedmix_core.sources import Tree
from orchestrator.ablation import AblationStudy
from orchestrator.designs import Design, is_balanced, name_of

TWO = dict.fromkeys(("mixing", "pairing", "mitrans", "mixup"), ("on", "off"))
THREE = dict.fromkeys(("threshold", "decay", "cap"), ("a", "b", "c"))
SUBJECTS: dict[str, list[tuple[dict[str, Any], dict[str, tuple[str, ...]]]]] = {
    "leave_one_out": [({}, TWO), ({}, THREE)],
    "add_one": [({}, TWO), ({"ladder": ["pairing", "mixing"]}, TWO), ({}, THREE)],
    "one_at_a_time": [({}, THREE), ({"center": {"decay": "b"}}, THREE)],
    "full_factorial": [({}, TWO), ({}, THREE)],
    "fractional_factorial": [({"resolution": 4}, TWO), ({"generators": {"mixup": ["mixing", "pairing"]}}, TWO)],
    "plackett_burman": [({}, TWO), ({"size": 12}, {**TWO, "ema": ("on", "off")})],
    "latin_square": [({}, THREE)],
}
CASES = [(name, *case) for name in names("orchestrator.designs") for case in SUBJECTS[name]]

pytestmark = pytest.mark.parametrize(("name", "fields", "factors"), CASES, ids=[case[0] for case in CASES])


def made(name: str, fields: dict[str, Any]) -> Design:
    design = build(Tree(fields, {}), find("orchestrator.designs", name))
    assert isinstance(design, Design)
    return design


def test_every_point_has_a_known_level_of_every_factor_and_none_comes_twice(name, fields, factors):
    points = made(name, fields).points(factors)
    for point in points:
        assert point.keys() == factors.keys()
        assert all(level in factors[factor] for factor, level in point.items())
    assert len({tuple(point.items()) for point in points}) == len(points)


def test_different_cells_have_different_names(name, fields, factors):
    design = made(name, fields)
    assert len(design.cells(factors)) == len(design.points(factors))


def test_equal_designs_have_equal_cells(name, fields, factors):
    assert list(made(name, fields).cells(factors).items()) == list(made(name, fields).cells(factors).items())


def test_a_design_that_says_it_is_balanced_is(name, fields, factors):
    design = made(name, fields)
    assert is_balanced(design.points(factors), factors) is any("balanced" in line for line in design.facts(factors))


def test_the_design_survives_the_round_trip(name, fields, factors):
    design = made(name, fields)
    rest = {key: value for key, value in dump(design).items() if key != "name"}
    assert made(name, rest) == design


def test_its_first_cell_can_be_the_reference_of_a_study(name, fields, factors):
    design = made(name, fields)
    first = name_of(design.points(factors)[0], factors)
    levels = {factor: {level: {f"some.{factor}": level} for level in of} for factor, of in factors.items()}
    request = {"base": "small", "reference": first, "factors": levels, "design": {"name": name, **fields}}
    study = build(Tree({**request, "blocks": {"seed": [0]}}, {}), AblationStudy)
    assert study.names[0] == first
    assert study.levels(first) == design.points(factors)[0]
