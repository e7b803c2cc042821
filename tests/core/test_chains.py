"""How a chain is written: before the run's own method, or whole; in short; changed at dotted paths; refused."""

from __future__ import annotations

from typing import Any

import pytest

from guidedmix_core.errors import ConfigError
from guidedmix_core.schema import build, dump, explain, flatten
from guidedmix_core.sources import override, parse, parse_changes
from guidedmix_core.trees import Tree, chained, overlay

HEAD = """\
segmentor: {name: deeplabv3plus, backbone: tiny}
data: shapes
optim: {lr: 0.5}
train: {steps: 40}
"""
BEFORE = """\
method: {name: guidedmix}
stages:
  - {method: {name: supervised}, steps: 20}
  - {method: {name: mean_teacher, decay: 0.9}, steps: 30}
"""
WHOLE = """\
stages:
  - {method: supervised, steps: 20}
  - {method: {name: mean_teacher, decay: 0.9}, steps: 30}
  - {method: guidedmix, steps: 40}
"""


def tree(text: str) -> Tree:
    return chained(parse(HEAD + text, "run.yaml"))


def changed(text: str, *assignments: str) -> Tree:
    return override(tree(text), parse_changes(assignments), "command line")


def error_of(text: str, *assignments: str) -> str:
    with pytest.raises(ConfigError) as caught:
        build(changed(text, *assignments))
    return str(caught.value)


def test_a_whole_chain_is_the_run_whose_stages_come_before_its_method() -> None:
    assert build(tree(WHOLE)) == build(tree(BEFORE))


def test_a_whole_chain_over_a_base_takes_its_method_away() -> None:
    over = overlay(tree("method: {name: mean_teacher, decay: 0.9}\n"), parse(f"method: null\n{WHOLE}", "over.yaml"))
    assert build(over) == build(tree(WHOLE))


def test_a_chain_survives_the_round_trip() -> None:
    config = build(tree(WHOLE))
    assert build(Tree(dump(config), {})) == config


def test_what_a_stage_says_of_the_optimizer_lies_over_the_runs() -> None:
    config = build(changed(BEFORE, "stages.0.optim.momentum=0.5", "optim.weight_decay=0.0"))
    stage = config.up_to(0).optim
    assert (stage.lr, stage.momentum, stage.weight_decay) == (0.5, 0.5, 0.0)


def test_a_component_may_be_given_by_its_name_alone() -> None:
    short, long = "method: mean_teacher\n", "method: {name: mean_teacher}\n"
    assert build(tree(short)) == build(tree(long))


def test_a_name_alone_keeps_the_fields_of_the_same_component_and_drops_those_of_another() -> None:
    under = parse("method: {name: mean_teacher, decay: 0.9}", "under")
    for name, values in (
        ("mean_teacher", {"name": "mean_teacher", "decay": 0.9}),
        ("guidedmix", {"name": "guidedmix"}),
    ):
        assert overlay(under, parse(f"method: {name}", "over")).values == {"method": values}
    short = overlay(parse("method: mean_teacher", "under"), parse("method: {decay: 0.9}", "over"))
    assert short.values == {"method": {"name": "mean_teacher", "decay": 0.9}}


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("stages.0.steps=7", "stages.0.steps", 7),
        ("stages.1.method.decay=0.5", "stages.1.method.decay", 0.5),
        ("stages.0.method=guidedmix", "stages.0.method.name", "guidedmix"),
        ("method.mix.lambda_max=0.3", "method.mix.lambda_max", 0.3),
    ],
)
def test_a_change_reaches_into_the_chain(assignment: str, path: str, value: Any) -> None:
    run = changed(WHOLE, assignment)
    assert flatten(build(run))[path] == value
    assert {where: origin for where, _, origin in explain(run, build(run))}[path] == "command line"


def test_a_list_of_stages_comes_before_changes_of_its_items() -> None:
    assignments = ("stages.0.method.name=mean_teacher", "stages.0.steps=3", "stages=[{method: supervised, steps: 2}]")
    (stage,) = build(changed("method: guidedmix\n", *assignments)).stages
    assert (stage.method.name, stage.steps) == ("mean_teacher", 3)


def test_every_value_of_a_chain_knows_where_it_was_given() -> None:
    run = tree(WHOLE)
    origins = {path: origin for path, _, origin in explain(run, build(run))}
    places = {"stages.0.method.name": 6, "stages.1.method.decay": 7, "method.name": 8, "train.steps": 8, "optim.lr": 3}
    assert {path: origins[path] for path in places} == {path: f"run.yaml:{line}" for path, line in places.items()}


@pytest.mark.parametrize(
    ("text", "assignment", "said"),
    [
        (BEFORE, "stages.2.steps=3", "command line: stages.2: no such item; stages has 2, the first is stages.0"),
        ("method: guidedmix\n", "stages.0.steps=3", "stages.0.steps: the run has no stages; give stages=[{method: …"),
        (BEFORE, "stages.0.steps=0", "command line: stages.0.steps=0: expected at least 1"),
        (BEFORE, "stages.0.stesp=5", "command line: stages.0.stesp: unknown key; did you mean 'steps'?"),
        (BEFORE, "stages.1.method.decya=1", "stages.1.method.decya: unknown key; did you mean 'decay'?"),
        (
            BEFORE,
            "stages.0.method=superviced",
            "stages.0.method.name: no method 'superviced'; did you mean 'supervised'?",
        ),
        (BEFORE, "stages=[supervised]", 'stages.0="supervised": expected a section of keys'),
        (BEFORE, "stages=[{method: supervised}]", "stages.0.steps: required, and not given"),
        (BEFORE, "data=folder", "data.root: required, and not given"),
        (
            "method: st_plus_plus\n",
            "seed=0",
            "no stage comes before it to make its pseudo masks; add stages: [{method:",
        ),
        (BEFORE, "stages.0.method=st_plus_plus", "stages.0.method.name=st_plus_plus: no stage comes before it"),
    ],
)
def test_what_is_wrong_with_a_chain_is_said_with_its_place(text: str, assignment: str, said: str) -> None:
    assert said in error_of(text, assignment)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("step: 40", r"stages.2.step: unknown key of a chain's last stage; did you mean 'steps'\?"),
        ("optim: {lr: 0.1}", r"stages.2.optim: unknown key of a chain's last stage; it stands at the top of the run"),
    ],
)
def test_the_last_stage_of_a_whole_chain_has_method_and_steps(wrong: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"run.yaml:8: {said}"):
        tree(WHOLE.replace("steps: 40", wrong))
