"""An ablation's file and the command line make one request, or say where they don't."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from guidedmix_core import ConfigError, Tree, build, dump, fingerprint, search_spaces
from orchestrator.ablation import AblationStudy, block_name
from orchestrator.checking import check_file
from orchestrator.study import identity, load_study
from tests.runs import SMALL, small_tree

FILE = """\
base: {folder}/small.yaml
changes: {{train.steps: 6}}
reference: plain
ceiling: all
cells:
  all: {{split.labeled: 1.0}}
  plain: {{}}
  taught:
    method:
      name: mean_teacher
      threshold: 0.8
blocks:
  seed: [0, 1, 2]
  split.seed: [0, 1, 5]
"""
SHIPPED = [path.stem for path in sorted(Path(search_spaces()[0]).glob("ablation/*.yaml"))]


@pytest.fixture
def write(tmp_path):
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))

    def write(*changes: tuple[str, str]) -> str:
        text = FILE.format(folder=tmp_path)
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "ablation.yaml").write_text(text)
        return str(tmp_path / "ablation.yaml")

    return write


def load(file: str, *assignments: str) -> tuple[AblationStudy, Tree]:
    return load_study(file, assignments, AblationStudy)


def problem_of(file: str, *assignments: str) -> str:
    with pytest.raises(ConfigError) as raised:
        load(file, *assignments)
    return str(raised.value)


def test_runs_are_in_the_order_of_the_blocks_with_the_reference_first(write):
    study, base = load(write())
    assert [(run.cell, run.block) for run in study.runs(base)] == [
        (cell, block) for block in range(3) for cell in ("plain", "all", "taught")
    ]


def test_block_i_takes_value_i_of_each_path(write):
    study, base = load(write())
    plain = [run.config for run in study.runs(base) if run.cell == "plain"]
    assert [(config.seed, config.split.seed, config.train.steps) for config in plain] == [
        (0, 0, 6),
        (1, 1, 6),
        (2, 5, 6),
    ]


def test_a_section_of_a_cell_lies_over_the_base_and_is_told_by_its_paths(write):
    study, base = load(write())
    taught = next(run for run in study.runs(base) if run.cell == "taught")
    assert taught.params == {"method.name": "mean_teacher", "method.threshold": 0.8, "seed": 0, "split.seed": 0}
    assert dump(taught.config)["method"]["threshold"] == 0.8


def test_a_run_is_named_by_its_cell_and_its_block(write):
    study, base = load(write())
    assert [run.label for run in study.runs(base) if run.cell == "all"] == [
        "all · seed 0",
        "all · seed 1",
        "all · seed 2, split.seed 5",
    ]
    assert block_name({"split.labeled_list": "lists/a.txt"}) == "split.labeled_list lists/a.txt"


def test_the_command_line_changes_cells_blocks_and_base(write):
    assignments = (
        "cells.taught.method.threshold=0.5",
        "cells.fast.train.steps=2",
        "blocks.seed=[3,4,5]",
        "optim.lr=0.5",
    )
    study, base = load(write(), *assignments)
    runs = {(run.cell, run.block): run.config for run in study.runs(base)}
    assert dump(runs["taught", 0])["method"]["threshold"] == 0.5
    assert (runs["fast", 2].train.steps, runs["fast", 2].seed, runs["fast", 2].optim.lr) == (2, 5, 0.5)


def test_another_method_of_a_cell_starts_from_its_defaults(write):
    study, base = load(write(), "cells.taught.method.name=fixmatch")
    assert study.cell_changes("taught") == {"method.name": "fixmatch"}
    assert study.runs(base)[-1].config.method.name == "fixmatch"


@pytest.mark.parametrize(
    ("old", "new", "line", "problem"),
    [
        ("reference: plain", "reference: plan", 3, "reference: no cell 'plan'; did you mean 'plain'?"),
        ("ceiling: all", "ceiling: al", 4, "ceiling: no cell 'al'; did you mean 'all'?"),
        ("ceiling: all", "ceiling: plain", 4, "ceiling: is the reference, too"),
        ("[0, 1, 5]", "[0, 1]", 14, "blocks.split.seed: 2 values, seed has 3; block i takes value i of each path"),
        ("seed: [0, 1, 2]\n", "seed: []\n", 13, "blocks.seed=[]: "),
        ("all: {split.labeled: 1.0}", "all: {split: {seed: 3}}", 6, "split.seed varies from block to block"),
        ("all: {split.labeled: 1.0}", "all: {seed: 3}", 6, "the cell 'all' can't change seed as well"),
        ("train.steps: 6", "seed: 6", 2, "seed varies from block to block; the changes of the base can't"),
        ("threshold: 0.8", "treshold: 0.8", 11, "method.treshold: unknown key; did you mean 'threshold'?"),
        ("threshold: 0.8", "threshold: 1.8", 11, "method.threshold=1.8: expected at most 1"),
        ("seed: [0, 1, 2]\n", "seed: [0, 1, -2]\n", 13, "seed=-2: expected at least 0"),
        ("split.labeled: 1.0", "split.labelled: 1.0", 6, "split.labelled: unknown key; did you mean 'labeled'?"),
    ],
)
def test_a_wrong_value_is_reported_with_file_line_and_cure(write, old, new, line, problem):
    message = problem_of(write((old, new)))
    assert f"ablation.yaml:{line}: " in message
    assert problem in message


def test_a_cell_that_is_no_run_is_named_with_its_block(write):
    assert "the cell 'taught' in block 0 is no run:" in problem_of(write(("threshold: 0.8", "threshold: 1.8")))


def test_a_cell_that_gives_a_value_twice_is_refused(write):
    file = write(("plain: {}", "plain: {method.name: supervised, method: {name: cps}}"))
    assert "ablation.yaml:7: not readable as YAML: method.name is given twice, also inside of method" in problem_of(
        file
    )


def test_a_cell_that_is_judged_otherwise_is_remarked_before_it_runs(write):
    study, base = load(write(("plain: {}", "plain: {evaluate.part: test}")))
    assert any(
        said.startswith("all is judged otherwise than plain: evaluate.part of the base") for said in study.remarks(base)
    )


def test_blocks_are_needed_and_cells_are_too(write):
    for missing in ("blocks", "cells"):
        values = yaml.safe_load(Path(write()).read_text())
        for spoiled in ({key: value for key, value in values.items() if key != missing}, {**values, missing: {}}):
            with pytest.raises(ConfigError, match=missing):
                build(Tree(spoiled, {}), AblationStudy)


def test_a_block_that_repeats_another_is_refused(write):
    repeated = write(("[0, 1, 2]", "[0, 1, 0]"), ("[0, 1, 5]", "[0, 1, 0]"))
    assert re.fullmatch(
        r".*\.yaml:\d+: blocks: 0 and 2 \(seed 0\) are the same run of the cell 'plain'", problem_of(repeated)
    )


def test_a_path_of_the_blocks_can_not_be_given_on_the_command_line(write):
    assert problem_of(write(), "seed=4") == ("command line: seed: varies from block to block; give blocks.seed=[…]")


def test_equal_cells_are_one_run_and_are_said_to_be(write, monkeypatch):
    file = write(("  plain: {}", "  plain: {}\n  again: {train.steps: 6}"))
    study, base = load(file)
    plan = study.plan(base)
    assert plan["runs"]["again"] == plan["runs"]["plain"]
    assert plan["planned"] == 9
    assert check_file(file) == "an ablation of 4 cells over 3 blocks: 9 runs, as some cells are equal"


def test_the_plan_says_which_run_is_which_cells(write):
    study, base = load(write())
    plan = study.plan(base)
    assert list(plan["runs"]) == list(plan["cells"]) == ["all", "plain", "taught"]
    for run in study.runs(base):
        assert plan["runs"][run.cell][run.block] == fingerprint(run.config)
    assert plan["cells"]["taught"] == {"method.name": "mean_teacher", "method.threshold": 0.8}


def test_cells_and_blocks_may_grow_but_base_objective_and_reference_are_the_study(write):
    def identity_of(*assignments: str) -> str:
        return identity(*load(write(), *assignments))

    same = [
        ("cells.more.optim.lr=0.1",),
        ("cells.taught.method.threshold=0.5",),
        ("blocks.seed=[0,1,2,3]", "blocks.split.seed=[0,1,5,6]"),
        ("ceiling=taught",),
        ("scaling.workers=2", "tracking.mlflow=null"),
    ]
    other = [("optim.lr=0.1",), ("changes.train.steps=8",), ("reference=taught",), ("objective.mode=min",)]
    assert {identity_of(*assignments) for assignments in same} == {identity_of()}
    assert len({identity_of(), *(identity_of(*assignments) for assignments in other)}) == 5


def test_the_data_that_is_opened_is_that_of_every_cell_in_every_block(write):
    study, _ = load(write())
    met = {(point.get("split.labeled"), point["split.seed"]) for point in study.variants()}
    assert met == {(labeled, seed) for labeled in (None, 1.0) for seed in (0, 1, 5)}


def test_an_ablation_is_dumped_and_built_again_without_loss(write):
    study, _ = load(write())
    assert AblationStudy.model_validate(dump(study)) == study


@pytest.mark.parametrize("name", SHIPPED)
def test_each_ablation_that_comes_with_the_project_is_sound(name):
    study, base = load(name)
    runs = study.plan(base)["runs"]
    assert len({digest for row in runs.values() for digest in row}) == len(runs) * len(study.block_values)


@pytest.mark.parametrize("name", SHIPPED)
def test_all_labels_are_the_ceiling_of_each_ablation_that_has_them_and_no_rival(name):
    study, _ = load(name)
    assert "all_labels" not in study.names or study.ceiling == "all_labels"


def test_a_cell_of_the_small_run_needs_no_file():
    request: dict[str, Any] = {"base": "small", "reference": "a", "cells": {"a": {}}, "blocks": {"seed": [1]}}
    (run,) = build(Tree(request, {}), AblationStudy).runs(small_tree())
    assert (run.label, run.config.seed) == ("a · seed 1", 1)
