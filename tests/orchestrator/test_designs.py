"""Designs against the tables in which they were published, and the names of their cells."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from guidedmix_core import build, find
from guidedmix_core.sources import Tree
from orchestrator.designs import Design, is_balanced, name_of
from orchestrator.designs._words import aliases, best_words, bits, products, resolution

LETTERS = "ABCDEFGHIJKLMNO"


def made(name: str, **fields: Any) -> Design:
    return build(Tree(fields, {}), find("orchestrator.designs", name))  # pyright: ignore[reportReturnType]


def factors_of(count: int, levels: tuple[str, ...] = ("on", "off")) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(LETTERS[:count], levels)


def signs(design: Design, count: int) -> np.ndarray:
    """+1 where a factor is at its first level."""
    return np.array(
        [[1 if level == "on" else -1 for level in point.values()] for point in design.points(factors_of(count))]
    )


def words_of(count: int, asked: int) -> list[str]:
    return ["".join(LETTERS[i] for i in bits(word)) for word in best_words(count, asked)]


def rows(matrix: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(map(int, row)) for row in matrix}


def test_plackett_burman_12_is_the_published_one():
    # Plackett and Burman 1946, N = 12: this row, shifted cyclically, and a row of minus. Ours has all signs turned, so
    # that it holds full, and the columns in reverse.
    first = np.array([1 if sign == "+" else -1 for sign in "++-+++---+-"])
    published = np.array([*(np.roll(first, shift) for shift in range(11)), [-1] * 11])
    assert rows(signs(made("plackett_burman"), 11)) == rows(-published[:, ::-1])


@pytest.mark.parametrize(("count", "size"), [(3, 4), (4, 8), (7, 8), (8, 12), (11, 12), (12, 16), (19, 20), (23, 24)])
def test_plackett_burman_takes_the_next_multiple_of_four_and_its_columns_are_orthogonal(count, size):
    factors = {f"f{i}": ("on", "off") for i in range(count)}
    points = made("plackett_burman").points(factors)
    assert len(points) == size
    assert is_balanced(points, factors)
    assert name_of(points[0], factors) == "full"


def test_the_fraction_of_seven_factors_in_eight_cells_has_the_textbooks_generators():
    assert words_of(7, 3) == ["ABD", "ACE", "BCF", "ABCG"]  # Box, Hunter and Hunter: D = AB, E = AC, F = BC, G = ABC
    assert resolution(best_words(7, 3)) == 3


@pytest.mark.parametrize(
    ("count", "asked", "cells", "reached", "shortest"),
    [  # Box, Hunter and Hunter, table 6.22, and Montgomery, table 8.14: cells, resolution, number of shortest words
        (4, 3, 8, 4, 1),
        (5, 3, 8, 3, 2),
        (5, 5, 16, 5, 1),
        (6, 4, 16, 4, 3),
        (7, 4, 16, 4, 7),
        (8, 4, 16, 4, 14),
        (8, 5, 64, 5, 2),
        (9, 3, 16, 3, 4),
        (10, 3, 16, 3, 8),
    ],
)
def test_fractions_are_those_of_least_aberration(count, asked, cells, reached, shortest):
    words = best_words(count, asked)
    assert 2 ** (count - len(words)) == cells
    assert resolution(words) == reached
    assert [word.bit_count() for word in products(words)].count(reached) == shortest


def test_half_of_four_factors_has_the_textbooks_aliases():
    factors = dict.fromkeys(("a", "b", "c", "d"), ("on", "off"))
    design = made("fractional_factorial", generators={"d": ["a", "b", "c"]})
    assert design.facts(factors) == [
        "fractional_factorial: 2^(4-1) = 8 of 16 combinations, balanced; resolution IV. Constant: a x b x c x d.",
        "Aliases of main effects and interactions of two factors: a x b = c x d; a x c = b x d; a x d = b x c.",
    ]
    groups = {frozenset(group) for group in aliases(4, [0b1111], order=3)}
    assert frozenset({0b0001, 0b1110}) in groups  # A = BCD


def test_effects_are_aliased_where_their_columns_are_equal():
    matrix = signs(made("fractional_factorial", resolution=3), 6)
    groups = aliases(6, best_words(6, 3), order=3)
    group_of = {effect: i for i, group in enumerate(groups) for effect in group}
    column_of = {effect: tuple(matrix[:, bits(effect)].prod(1)) for effect in group_of}
    for one, other in combinations(group_of, 2):
        assert (group_of[one] == group_of[other]) is (column_of[one] == column_of[other])


def test_a_fraction_of_resolution_five_has_no_alias_of_two_factors():
    facts = made("fractional_factorial", resolution=5).facts(factors_of(5))
    assert facts[1] == "Aliases of main effects and interactions of two factors: none."


def test_a_latin_square_has_each_level_once_in_every_row_and_column():
    factors = {"row": ("1", "2", "3"), "column": ("x", "y", "z"), "letter": ("A", "B", "C")}
    points = made("latin_square").points(factors)
    square = [[point["letter"] for point in points if point["row"] == row] for row in factors["row"]]
    assert square == [["A", "B", "C"], ["B", "C", "A"], ["C", "A", "B"]]


def test_a_ladder_adds_one_more_at_each_step():
    cells = made("add_one", ladder=["B", "A", "C"]).cells(factors_of(3))
    assert list(cells) == ["base", "base_with_B", "without_C", "full"]


def test_removing_from_full_and_adding_to_base_meet():
    two = factors_of(2)
    removed, added = (made(name).cells(two) for name in ("leave_one_out", "add_one"))
    assert removed["without_A"] == added["without_A"] == {"A": "off", "B": "on"}


@pytest.mark.parametrize(
    ("levels", "name"),
    [
        ({"pairing": "similar", "mitrans": "2", "mixup": "on"}, "full"),
        ({"pairing": "similar", "mitrans": "2", "mixup": "off"}, "without_mixup"),
        ({"pairing": "random", "mitrans": "2", "mixup": "on"}, "pairing=random"),
        ({"pairing": "similar", "mitrans": "1", "mixup": "on"}, "mitrans=1"),
        ({"pairing": "random", "mitrans": "off", "mixup": "off"}, "base"),
        ({"pairing": "random", "mitrans": "off", "mixup": "on"}, "base_with_mixup"),
        ({"pairing": "random", "mitrans": "1", "mixup": "off"}, "base_with_mitrans=1"),
        ({"pairing": "similar", "mitrans": "1", "mixup": "off"}, "mitrans=1,mixup=off"),
    ],
)
def test_a_cell_is_named_by_what_it_lacks_or_has(levels, name):
    factors = {"pairing": ("similar", "random"), "mitrans": ("2", "1", "off"), "mixup": ("on", "off")}
    assert name_of(levels, factors) == name


def test_the_levels_of_a_sweep_are_named_one_by_one():
    cells = made("one_at_a_time").cells({"cap": ("0.5", "0.3", "0.1")})
    assert list(cells) == ["full", "cap=0.3", "cap=0.1"]


@pytest.mark.parametrize(
    ("name", "fields", "factors", "problem"),
    [
        ("plackett_burman", {"size": 4}, factors_of(4), "size=4: 4 main effects and a mean need more cells"),
        ("plackett_burman", {"size": 12}, factors_of(4), "some come twice, and equal cells are one run"),
        ("plackett_burman", {"size": 10}, factors_of(4), "size=10: expected one of 4, 8, 12"),
        ("plackett_burman", {}, factors_of(3, ("a", "b", "c")), "takes factors of two levels, and A has 3 (a, b, c)"),
        ("plackett_burman", {}, {f"f{i}": ("on", "off") for i in range(64)}, "at most 63 factors here, not 64"),
        (
            "fractional_factorial",
            {"resolution": 3},
            factors_of(3, ("a", "b", "c")),
            "A has 3 (a, b, c); leave some out",
        ),
        ("fractional_factorial", {"resolution": 4}, factors_of(3), "no fraction of 3 factors has resolution 4"),
        ("fractional_factorial", {"resolution": 5}, factors_of(12), "give generators from a table"),
        (
            "fractional_factorial",
            {"generators": {"C": ["A", "B"], "D": ["A", "B"]}},
            factors_of(4),
            "2 of them leave 4 cells for 4 main effects and a mean",
        ),
        (
            "fractional_factorial",
            {"generators": {"D": ["A", "B"], "E": ["A", "B"]}},
            factors_of(5),
            "two factors have the same product",
        ),
        ("fractional_factorial", {"generators": {"D": ["A", "X"]}}, factors_of(4), "generators.D: no factor 'X'"),
        ("fractional_factorial", {"generators": {"D": ["A", "D"]}}, factors_of(4), "factors other than D"),
        (
            "fractional_factorial",
            {"generators": {"D": ["A", "B"], "E": ["A", "D"]}},
            factors_of(5),
            "generators.E: D is generated itself",
        ),
        ("full_factorial", {}, factors_of(11), "2048 cells, at most 1024; leave factors out"),
        ("latin_square", {}, factors_of(4, ("a", "b", "c")), "three factors with equally many levels"),
        ("latin_square", {}, {**factors_of(2), "C": ("a", "b", "c")}, "A has 2, B has 2, C has 3"),
        ("add_one", {"ladder": ["A", "X"]}, factors_of(2), "ladder: no factor 'X'; available: A, B"),
        ("add_one", {"ladder": ["A", "A"]}, factors_of(2), "ladder: A is added twice"),
        ("one_at_a_time", {"center": {"A": "of"}}, factors_of(2), "center: A has no level 'of'; did you mean 'off'?"),
    ],
)
def test_factors_that_a_design_can_not_serve_are_refused(name, fields, factors, problem):
    with pytest.raises(ValueError) as raised:
        made(name, **fields).points(factors)
    assert problem in str(raised.value)


def test_a_fraction_says_its_resolution_or_its_generators():
    for fields in ({}, {"resolution": 3, "generators": {"C": ["A", "B"]}}):
        with pytest.raises(Exception, match="give either resolution or generators"):
            made("fractional_factorial", **fields)
