"""A study file and the command line make one request, or say where they don't."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from guidedmix_core import ConfigError, build, dump, json_schema, search_spaces
from orchestrator.study import SearchStudy, identity, load_study
from tests.orchestrator.simulated import make_study
from tests.runs import SMALL

FILE = """\
base: {folder}/small.yaml
changes:
  train.steps: 6
  optim: {{lr: 0.01}}
parameters:
  optim.lr: {{log: [0.001, 0.1]}}
  augment.flip: {{uniform: [0, 1]}}
search: {{sampler: tpe, trials: 8}}
references:
  cosine: {{optim.schedule: cosine}}
"""


@pytest.fixture
def write(tmp_path):
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))

    def write(*changes: tuple[str, str]) -> str:
        text = FILE.format(folder=tmp_path)
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "study.yaml").write_text(text)
        return str(tmp_path / "study.yaml")

    return write


def problem_of(*arguments) -> str:
    with pytest.raises(ConfigError) as raised:
        load_study(*arguments)
    return str(raised.value)


def test_the_file_changes_the_base_and_the_command_line_both(write):
    study, base = load_study(write(), ["search.trials=3", "train.batch_size=2", "data.num_val=6", "train.steps=8"])
    config = build(base)
    assert study.search.trials == 3
    assert (config.train.steps, config.train.batch_size, config.optim.lr) == (8, 2, 0.01)
    assert config.data.num_val == 6


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("scheduler.name=median", ("scheduler", "name"), "median"),
        ("scaling.workers=2", ("scaling", "workers"), 2),
        ("tracking.mlflow=null", ("tracking", "mlflow"), None),
        ("objective.mode=min", ("objective", "mode"), "min"),
        ("parameters.optim.lr={uniform: [0.1, 0.2]}", ("parameters", "optim.lr", "uniform"), [0.1, 0.2]),
        ("references.cosine.optim.lr=0.5", ("references", "cosine"), {"optim.schedule": "cosine", "optim.lr": 0.5}),
        ("references.fast={train.steps: 2}", ("references", "fast"), {"train.steps": 2}),
        ("changes.train.steps=9", ("changes", "train.steps"), 9),
    ],
)
def test_an_assignment_to_a_section_of_the_study_changes_the_study(write, assignment, path, value):
    study, _ = load_study(write(), [assignment])
    found = dump(study)
    for part in path:
        found = found[part]
    assert found == value


def test_the_origin_of_each_value_is_known(write):
    file = write()
    _, base = load_study(file, ["train.batch_size=2"])
    assert base.origin("train.steps").endswith("study.yaml:3")
    assert base.origin("optim.lr").endswith("study.yaml:4")
    assert base.origin("split.labeled").endswith("small.yaml:" + base.origin("split.labeled").rpartition(":")[2])
    assert base.origin("train.batch_size") == "command line"


@pytest.mark.parametrize(
    ("old", "new", "line", "problem"),
    [
        ("trials: 8", "trails: 8", 8, "search.trails: unknown key; did you mean 'trials'?"),
        ("tpe", "tpee", 8, 'search.sampler="tpee": expected one of'),
        ("trials: 8", "trials: 0", 8, "search.trials=0: expected at least 1"),
        ("log: [0.001, 0.1]", "log: [0.1, 0.001]", 6, "parameters.optim.lr.log=[0.1, 0.001]"),
        (
            "log: [0.001, 0.1]",
            "log: [0.1, 0.2], whn: {}",
            6,
            "parameters.optim.lr.whn: unknown key; did you mean 'when'?",
        ),
        ("uniform: [0, 1]", "uniform: [0, 2]", 7, "augment.flip=2.0: expected at most 1"),
        ("augment.flip:", "augment.flop:", 7, "augment.flop: unknown key; did you mean 'flip'?"),
        ("train.steps: 6", "train.step: 6", 3, "train.step: unknown key; did you mean 'steps'?"),
        ("optim.schedule: cosine", "optim.schedule: cos", 10, 'optim.schedule="cos": expected one of'),
        ("sampler: tpe", "sampler: grid", 8, "search.sampler: a grid needs parameters of int, choice or quantized"),
    ],
)
def test_a_wrong_value_is_reported_with_file_line_and_cure(write, old, new, line, problem):
    message = problem_of(write((old, new)))
    assert f"study.yaml:{line}: {problem}" in message


def test_a_section_that_neither_study_nor_run_has_is_refused_with_the_nearest(write):
    assert "command line: serach.trials: no section 'serach'" in problem_of(write(), ["serach.trials=3"])
    assert "did you mean 'search'?" in problem_of(write(), ["serach.trials=3"])


def test_a_study_without_a_base_is_refused(tmp_path):
    (tmp_path / "study.yaml").write_text("parameters: {optim.lr: {log: [0.1, 1]}}\nsearch: {trials: 2}\n")
    assert problem_of(str(tmp_path / "study.yaml")) == "base: required, and not given"


def test_several_objectives_can_not_be_scheduled():
    with pytest.raises(ConfigError, match=re.escape("scheduler: asha ranks by one objective")):
        make_study(objective=[{"metric": "val/miou"}, {"metric": "time/seconds", "mode": "min"}])


def test_an_objective_that_no_run_reports_is_refused_with_the_nearest_name():
    with pytest.raises(
        ConfigError, match=re.escape("objective.metric: no run reports 'val/mIoU'; did you mean 'val/miou'?")
    ):
        make_study(objective={"metric": "val/mIoU"})
    assert make_study(objective={"metric": "val/iou/car"}).objectives[0].metric == "val/iou/car"


def test_one_objective_or_several_are_given_as_objectives():
    several = make_study(objective=[{"metric": "val/miou"}, {"metric": "time/seconds"}], scheduler={"name": "none"})
    assert [goal.metric for goal in several.objectives] == ["val/miou", "time/seconds"]
    assert [goal.metric for goal in make_study().objectives] == ["val/miou"]


@pytest.mark.parametrize("sampler", ["gp", "cmaes", "qmc"])
def test_a_sampler_that_can_not_follow_conditions_is_refused(sampler):
    parameters = {"a": {"int": [0, 3]}, "b": {"int": [0, 3], "when": {"a": [1]}}}
    with pytest.raises(ConfigError, match=f"search.sampler: {sampler} has no way to follow a when"):
        make_study(parameters, search={"sampler": sampler})


def test_the_identity_is_what_decides_the_results(write):
    def identity_of(*assignments):
        return identity(*load_study(write(), assignments))

    same = ["search.trials=20", "scaling.workers=2", "scaling.concurrent=1", "tracking.mlflow=null"]
    other = [
        "search.seed=1",
        "scheduler.eta=2",
        "objective.mode=min",
        "optim.lr=0.02",
        "seed=1",
        "references.cosine.seed=3",
    ]
    assert {identity_of(assignment) for assignment in same} == {identity_of()}
    assert len({identity_of(), *(identity_of(assignment) for assignment in other)}) == 7


def test_a_study_is_dumped_and_built_again_without_loss():
    study = make_study({"a": {"choice": [[1, 2], "u", None]}, "b": {"int": [0, 2], "when": {"a": ["u"]}}})
    assert SearchStudy.model_validate(dump(study)) == study


def test_the_schema_for_editors_describes_the_distributions():
    schema = json.dumps(json_schema(SearchStudy))
    assert all(f'"{name}"' in schema for name in ("uniform", "log", "int", "choice", "quantized", "when", "sampler"))


@pytest.mark.parametrize("name", [path.stem for path in sorted(Path(search_spaces()[0]).glob("search/*.yaml"))])
def test_each_search_that_comes_with_the_project_is_sound(name):
    study, base = load_study(name)
    assert build(base).method.name == "guidedmix"
    assert study.references["supervised"] == {"method.name": "supervised"}
