"""A space says what it can't mean, and all its corners are runs."""

from __future__ import annotations

import pytest

from guidedmix_core import ConfigError
from orchestrator.space import MAX_CORNERS, check_space, corners, grid, ordered
from tests.orchestrator.simulated import make_study
from tests.runs import small_tree

BRANCH = {
    "optim.momentum": {"uniform": [0, 0.9], "when": {"optim.optimizer": ["sgd"]}},
    "optim.optimizer": {"choice": ["sgd", "adamw"]},
}


def corners_of(parameters):
    return corners(make_study(parameters).parameters)


def problem_of(parameters, **sections) -> str:
    with pytest.raises(ConfigError) as raised:
        make_study(parameters, **sections)
    return str(raised.value)


def test_corners_are_all_combinations_of_extremes_and_choices():
    found = corners_of(
        {"a.x": {"log": [0.1, 1]}, "b": {"choice": ["u", "v", "w"]}, "c": {"quantized": [0.1, 0.3, 0.1]}}
    )
    assert found == [{"a.x": x, "b": b, "c": c} for x in (0.1, 1.0) for b in ("u", "v", "w") for c in (0.1, 0.3)]


def test_corners_respect_conditions():
    assert corners_of(BRANCH) == [
        {"optim.optimizer": "sgd", "optim.momentum": 0.0},
        {"optim.optimizer": "sgd", "optim.momentum": 0.9},
        {"optim.optimizer": "adamw"},
    ]


def test_a_value_that_a_condition_asks_for_is_a_corner_too():
    found = corners_of({"depth": {"int": [0, 4]}, "heads": {"int": [1, 8], "when": {"depth": [2]}}})
    assert [point["heads"] for point in found if point["depth"] == 2] == [1, 8]


def test_a_space_with_too_many_corners_shows_each_extreme_and_the_same_sample_each_time():
    parameters = {f"p{i}": {"uniform": [0, i + 1]} for i in range(14)}
    found = corners_of(parameters)
    assert len(found) == MAX_CORNERS == len({str(sorted(point.items())) for point in found})
    assert all({point[f"p{i}"] for point in found} >= {0.0, i + 1.0} for i in range(14))
    assert found == corners_of(parameters)


def test_a_grid_has_every_value_where_it_exists():
    parameters = make_study({"a": {"int": [0, 2]}, "b": {"choice": [True, False], "when": {"a": [1]}}}).parameters
    assert list(grid(parameters)) == [{"a": 0}, {"a": 1, "b": True}, {"a": 1, "b": False}, {"a": 2}]


def test_parameters_are_ordered_by_their_conditions():
    assert ordered(make_study(BRANCH).parameters) == ("optim.optimizer", "optim.momentum")


def test_integers_stay_integers():
    (domain,) = make_study({"a": {"quantized": [4, 12, 4]}}).parameters.values()
    assert [(value, type(value)) for value in domain.values()] == [(4, int), (8, int), (12, int)]


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"a": {"unifrom": [0, 1]}}, "expected one of uniform"),
        ({"a": {"uniform": [0, 1], "int": [0, 1]}}, "expected one of uniform"),
        ({"a": {"uniform": [1, 0]}}, "parameters.a.uniform=[1, 0]: expected the smaller number first"),
        ({"a": {"uniform": [0, "x"]}}, 'parameters.a.uniform.1="x": expected a number'),
        ({"a": {"log": [0, 1]}}, "a logarithm needs bounds above 0"),
        ({"a": {"int": [0, 1.5]}}, "expected an integer"),
        ({"a": {"choice": []}}, "parameters.a.choice=[]: expected one value or more"),
        ({"a": {"choice": ["u", "u"]}}, "a value is given twice"),
        ({"a": {"quantized": [0, 1, 0.3]}}, "a whole number of steps"),
        ({"a": {"uniform": [0, 1], "wen": {}}}, "parameters.a.wen: unknown key; did you mean 'when'?"),
        ({"a": {"int": [0, 1]}, "a.b": {"int": [0, 1]}}, "parameters.a: holds another parameter, a.b"),
    ],
)
def test_a_distribution_that_can_not_be_is_refused_by_name(parameters, problem):
    assert problem in problem_of(parameters)


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        ({"int": [0, 2]}, {"int": [0, 2], "when": {"fist": [1]}}, "did you mean 'first'?"),
        ({"int": [0, 2]}, {"int": [0, 2], "when": {"first": [3]}}, "first never takes 3"),
        ({"uniform": [0, 2]}, {"int": [0, 2], "when": {"first": [1]}}, "a condition needs a parameter of int"),
        (
            {"int": [0, 2], "when": {"second": [1]}},
            {"int": [0, 2], "when": {"first": [1]}},
            "go in a circle: first <- second",
        ),
    ],
)
def test_a_condition_that_can_not_be_is_refused(first, second, problem):
    assert problem in problem_of({"first": first, "second": second})


def test_a_condition_that_never_holds_is_refused():
    parameters = {
        "a": {"choice": ["u", "v"]},
        "b": {"choice": ["x", "y"], "when": {"a": ["u"]}},
        "c": {"int": [0, 1], "when": {"b": ["x"], "a": ["v"]}},
    }
    assert "parameters.c.when: never holds: the conditions together leave no value of a" in problem_of(parameters)


def test_a_space_whose_corners_are_runs_says_how_many_were_built():
    study = make_study({"optim.lr": {"log": [1e-3, 1]}, **BRANCH})
    assert check_space(study, small_tree()) == "all 6 corners of the space are runs"


def test_a_corner_that_is_no_run_is_named_with_its_problem():
    study = make_study({"augment.flip": {"uniform": [0.5, 1.5]}, "optim.lr": {"log": [1e-3, 1]}})
    with pytest.raises(ConfigError) as raised:
        check_space(study, small_tree())
    assert "the corner augment.flip=1.5, optim.lr=0.001 of the space is no run" in str(raised.value)
    assert "augment.flip=1.5: expected at most 1" in str(raised.value)


def test_a_parameter_that_is_no_field_of_the_run_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"optim\.lrr: unknown key; did you mean 'lr'\?"):
        check_space(make_study({"optim.lrr": {"log": [1e-3, 1]}}), small_tree())


def test_a_number_where_the_run_wants_an_integer_is_refused():
    with pytest.raises(ConfigError, match=r"train\.batch_size=4\.5: expected an integer"):
        check_space(make_study({"train.batch_size": {"uniform": [4.5, 8]}}), small_tree())


def test_a_reference_that_is_no_run_is_refused_by_label():
    study = make_study(references={"plain": {"method.nam": "supervised"}})
    with pytest.raises(ConfigError, match="the reference 'plain' is no run"):
        check_space(study, small_tree())


@pytest.mark.parametrize(
    ("point", "problem"),
    [
        ({"optim.momentun": 0.1}, "search.start_from.0.optim.momentun: not a parameter of this search; did you mean"),
        ({"optim.momentum": 2}, "2 is not in the space of this parameter"),
        ({"optim.momentum": 0.5, "optim.optimizer": "adamw"}, "the parameter's condition does not hold"),
    ],
)
def test_a_start_point_outside_the_space_is_refused(point, problem):
    assert problem in problem_of(BRANCH, search={"start_from": [point]})
