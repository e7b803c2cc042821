"""Factors, rules and designs in an ablation's file: what becomes a cell, what falls together, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from guidedmix_core import ConfigError, dump, fingerprint
from orchestrator.ablation import AblationStudy
from orchestrator.checking import check_file
from orchestrator.study import load_study
from tests.runs import SMALL

FILE: dict[str, Any] = {
    "base": "small.yaml",
    "factors": {
        "mixing": {"on": {}, "off": {"method.mix.level": "none"}},
        "pairing": {"similar": {}, "random": {"method.pairing.mode": "random"}},
        "mitrans": {"on": {}, "off": {"method.mitrans.depth": 0}},
    },
    "design": "leave_one_out",
    "reference": "full",
    "blocks": {"seed": [0, 1]},
}
RULE = {"when": {"mixing": "off"}, "then": {"mitrans": "off", "pairing": "random"}}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """The path of the file above, with other sections; None takes one out."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({**SMALL, "method": {"name": "guidedmix"}}))

    def write(**sections: Any) -> str:
        whole = {key: value for key, value in {**FILE, **sections}.items() if value is not None}
        (tmp_path / "a.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))
        return "a.yaml"

    return write


def load(file: str, *assignments: str):
    return load_study(file, assignments, AblationStudy)


def problem_of(file: str, *assignments: str) -> str:
    with pytest.raises(ConfigError) as raised:
        load(file, *assignments)
    return str(raised.value)


def test_a_cell_changes_what_its_levels_change(write):
    study, base = load(write())
    assert study.names == ["full", "without_mixing", "pairing=random", "without_mitrans"]
    assert study.cell_changes("pairing=random") == {"method.pairing.mode": "random"}
    assert study.levels("without_mitrans") == {"mixing": "on", "pairing": "similar", "mitrans": "off"}
    depths = {run.cell: dump(run.config)["method"]["mitrans"]["depth"] for run in study.runs(base)}
    assert depths == {"full": 1, "without_mixing": 1, "pairing=random": 1, "without_mitrans": 0}


def test_two_designs_share_the_cells_that_are_equal(write):
    study, base = load(write(also="add_one", factors={key: FILE["factors"][key] for key in ("mixing", "mitrans")}))
    assert study.names == ["full", "without_mixing", "without_mitrans", "base"]
    assert study.plan(base)["planned"] == 8


def test_several_designs_are_given_as_a_list(write):
    study, _ = load(write(also=["add_one", {"name": "add_one", "ladder": ["mitrans", "pairing"]}]))
    assert study.names[4:] == ["base", "base_with_mixing", "base_with_pairing=similar", "base_with_mitrans"]


def test_listed_cells_stand_beside_those_of_the_design_and_have_no_levels(write):
    study, base = load(write(cells={"supervised": {"method.name": "supervised"}}, ceiling="supervised"))
    plan = study.plan(base)
    assert list(plan["cells"]) == list(plan["runs"]) == [*study.names[:4], "supervised"]
    assert plan["levels"]["supervised"] == {}
    assert plan["levels"]["full"] == {"mixing": "on", "pairing": "similar", "mitrans": "on"}


def test_a_rule_gives_levels_and_the_cells_that_become_equal_are_one(write):
    study, base = load(write(also="add_one", rules=[RULE]))
    assert study.names == ["full", "pairing=random", "without_mitrans", "base", "base_with_mixing"]
    assert study.plan(base)["dropped"] == {
        "without_mixing": "by the rules it has pairing=random, mitrans=off: it is base",
        "base_with_pairing=similar": "by the rules it has pairing=random: it is base",
        "base_with_mitrans": "by the rules it has mitrans=off: it is base",
    }


def test_a_cell_that_a_rule_changes_keeps_its_name_if_no_other_is_equal(write):
    rule = {"when": {"mixing": "off"}, "then": {"mitrans": "off"}}
    study, _ = load(write(rules=[rule]))
    assert study.levels("without_mixing") == {"mixing": "off", "pairing": "similar", "mitrans": "off"}
    assert "By the rules without_mixing has mitrans=off, too." in study.designed.facts


def test_rules_follow_from_each_other_in_any_order(write):
    chain = [
        {"when": {"mitrans": "off"}, "then": {"pairing": "random"}},
        {"when": {"mixing": "off"}, "then": {"mitrans": "off"}},
    ]
    study, _ = load(write(rules=chain, also="add_one"))
    assert study.designed.dropped["without_mixing"].endswith("it is base")


def test_a_balanced_design_that_rules_change_says_so(write):
    study, _ = load(write(design="full_factorial", rules=[RULE]))
    assert len(study.names) == 5
    said = "The rules change 3 of the 8 cells of full_factorial: balance, resolution and aliases are those without"
    assert any(line.startswith(said) for line in study.designed.facts)


def test_cells_of_equal_configuration_are_one_and_the_other_name_is_told(write):
    factors = {**FILE["factors"], "cap": {"on": {}, "off": {"method.mix.lambda_max": 0.2}}}
    file = write(factors=factors, cells={"again": {"method.mix.level": "none"}})
    study, base = load(file)
    plan = study.plan(base)
    assert plan["dropped"] == {
        "without_cap": "it is the same run as full",
        "again": "it is the same run as without_mixing",
    }
    assert list(plan["runs"]) == study.names[:4]
    assert len({run.cell for run in study.runs(base)}) == 4
    assert "  again: it is the same run as without_mixing." in check_file(file)


def test_check_prints_the_facts_of_the_design(write):
    lines = check_file(write(also={"name": "fractional_factorial", "resolution": 3})).splitlines()
    assert lines[0] == "an ablation of 7 cells over 2 blocks: 14 runs"
    assert lines[2].startswith("  fractional_factorial: 2^(3-1) = 4 of 8 combinations, balanced; resolution III.")
    assert lines[3].endswith("mixing = pairing x mitrans; pairing = mixing x mitrans; mitrans = mixing x pairing.")


def test_the_levels_of_a_sweep_may_be_numbers(write):
    cap = {0.5: {}, 0.3: {"method.mix.lambda_max": 0.3}, 0.1: {"method.mix.lambda_max": 0.1}}
    study, _ = load(write(factors={"cap": cap}, design="one_at_a_time"))
    assert study.names == ["full", "cap=0.3", "cap=0.1"]


def test_a_design_of_a_file_is_dumped_and_built_again_without_loss(write):
    study, _ = load(write(also=["add_one"], rules=[RULE], cells={"supervised": {"method.name": "supervised"}}))
    assert AblationStudy.model_validate(dump(study)) == study


def test_the_command_line_names_another_design_and_changes_a_level(write):
    study, base = load(write(), "design=add_one", "reference=base", "factors.mitrans.on.method.mitrans.depth=3")
    assert study.names[0] == "base"
    run = next(run for run in study.runs(base) if run.cell == "base_with_mitrans")
    assert dump(run.config)["method"]["mitrans"]["depth"] == 3


def test_sections_of_blocks_are_crossed_and_the_last_changes_fastest(write):
    study, base = load(write(blocks=[{"seed": [0, 1]}, {"split.seed": [5, 6, 7], "split.labeled": [4, 5, 6]}]))
    pairs = [(values["seed"], values["split.seed"], values["split.labeled"]) for values in study.block_values]
    assert pairs == [(0, 5, 4), (0, 6, 5), (0, 7, 6), (1, 5, 4), (1, 6, 5), (1, 7, 6)]
    assert {(run.cell, run.block) for run in study.runs(base)} == {
        (cell, block) for cell in study.names for block in range(6)
    }
    assert study.runs(base)[-1].label == "without_mitrans · seed 1, split.seed 7, split.labeled 6"


def test_a_section_of_blocks_is_changed_by_its_number(write):
    study, _ = load(write(blocks=[{"seed": [0, 1]}, {"split.seed": [5, 6]}]), "blocks.1.split.seed=[7]")
    assert [values["split.seed"] for values in study.block_values] == [7, 7]


def test_more_replicates_go_on_from_the_greatest_value_and_leave_the_others_as_they_were(write):
    study, base = load(write(blocks=[{"seed": [0, 1], "split.seed": [3, 9]}, {"split.labeled": [4, 5]}]))
    longer = study.with_more_blocks(2)
    assert [(values["seed"], values["split.seed"]) for values in longer.block_values[4:]] == [
        (2, 10),
        (2, 10),
        (3, 11),
        (3, 11),
    ]
    before, after = ([fingerprint(run.config) for run in each.runs(base)] for each in (study, longer))
    assert after[: len(before)] == before
    assert len(set(after)) == 2 * len(before)
    assert study.with_more_blocks(2) == longer


def test_a_study_that_adds_blocks_itself_takes_no_further_seeds(write):
    study, _ = load(write(blocks={"seed": [0, 1]}, sequential={"max_blocks": 5}))
    with pytest.raises(ConfigError, match="adds blocks by itself"):
        study.with_more_blocks(1)


def test_blocks_without_integers_have_no_further_replicates(write):
    study, _ = load(write(blocks={"seed": [0, 1], "split.labeled": [0.5, 0.25]}))
    with pytest.raises(
        ConfigError, match=r"blocks\.split\.labeled=\[0\.5, 0\.25\] has no integers.*blocks\.split\.labeled=\[…\]"
    ):
        study.with_more_blocks(2)


TWICE = {"on": {}, "off": {"method.mitrans.depth": 2}}
ABOVE = {"on": {}, "off": {"method.mitrans": {}}}


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        (
            {"factors": {**FILE["factors"], "depth": TWICE}},
            "mitrans sets method.mitrans.depth, too, and differently (0 and 2)",
        ),
        (
            {"factors": {**FILE["factors"], "depth": ABOVE}},
            "method.mitrans and method.mitrans.depth of mitrans: one holds",
        ),
        ({"factors": {"one": {"on": {}}}}, "factors.one: one level varies nothing"),
        ({"factors": {"a|b": {"on": {}, "off": {}}}}, "'a|b' becomes part of cells' names; use letters, digits"),
        ({"factors": {"a": {"on": {}, "o f": {}}}}, "'o f' becomes part of cells' names"),
        ({"factors": {"seed": {"on": {}, "off": {"seed": 3}}}}, "the level 'off' can't change seed as well"),
        ({"cells": {"a/b": {}}}, "'a/b' can't name a row of a table"),
        ({"cells": {"full": {}}}, "cells.full: the design has a cell of this name"),
        (
            {"rules": [{"when": {"mixin": "off"}, "then": {"mitrans": "off"}}]},
            "no factor 'mixin'; did you mean 'mixing'?",
        ),
        (
            {"rules": [{"when": {"mixing": "of"}, "then": {"mitrans": "off"}}]},
            "mixing has no level 'of'; did you mean 'off'?",
        ),
        ({"rules": [{"when": {"mixing": "off"}, "then": {"mixing": "on"}}]}, "mixing is what the rule asks for"),
        (
            {"rules": [RULE, {"when": {"pairing": "random"}, "then": {"mitrans": "on"}}]},
            "rules.0: for without_mixing another rule takes back what this one sets",
        ),
        (
            {"rules": [{"when": {"mixing": "on"}, "then": {"mitrans": "off"}}]},
            "rules.0: changes full, the complete method",
        ),
        (
            {"rules": [RULE], "also": "add_one", "reference": "without_mixing"},
            "reference: no cell 'without_mixing' is left: by the rules it has pairing=random, mitrans=off: it is base; "
            "name that one",
        ),
        ({"reference": "without_mitran"}, "reference: no cell 'without_mitran'; did you mean 'without_mitrans'?"),
        (
            {"design": {"name": "add_one", "ladder": ["mixin"]}},
            "design: ladder: no factor 'mixin'; did you mean 'mixing'?",
        ),
        ({"also": [{"name": "add_one", "ladder": ["mixin"]}]}, "also.0: ladder: no factor 'mixin'"),
        ({"design": "leave_on_out"}, "design.name: no design 'leave_on_out'; did you mean 'leave_one_out'?"),
        ({"design": None}, "factors: makes cells only with a design"),
        ({"factors": None}, "design: a design makes cells of factors"),
        ({"design": None, "factors": None}, "cells: what is compared? give cells, or factors and a design"),
        ({"blocks": [{"seed": [0]}, {"seed": [1]}]}, "seed stands in two sections"),
        (
            {"blocks": [{"seed": [0]}, {"split.seed": [1], "split.labeled": [4, 5]}]},
            "split.labeled: 2 values, split.seed has 1",
        ),
    ],
)
def test_a_request_without_a_meaning_is_refused(write, sections, problem):
    message = problem_of(write(**sections))
    assert problem in message
    assert message.startswith("a.yaml:") or sections.keys() & {"design", "factors"}


def test_two_factors_may_set_one_path_alike(write):
    mixing = {"on": {}, "off": {"method.mix.level": "none", "method.mitrans.depth": 0}}
    study, base = load(write(factors={**FILE["factors"], "mixing": mixing}, design="full_factorial"))
    dropped = study.plan(base)["dropped"]
    assert dropped == {
        "base_with_pairing=similar": "it is the same run as without_mixing",
        "base_with_mitrans": "it is the same run as base",
    }


def test_a_reference_that_is_the_same_run_as_a_designed_cell_is_refused_by_name(write):
    message = problem_of(write(cells={"usual": {}}, reference="usual"))
    assert message == "reference: 'usual': it is the same run as full; name that one"


def test_a_wrong_level_is_reported_with_file_line_and_cure(write):
    factors = {**FILE["factors"], "mitrans": {"on": {}, "off": {"method.mitrans.dept": 0}}}
    message = problem_of(write(factors=factors))
    assert "the cell 'without_mitrans' in block 0 is no run:" in message
    assert "a.yaml:14: method.mitrans.dept: unknown key; did you mean 'depth'?" in message


def test_a_list_of_blocks_is_changed_by_section_only(write):
    message = problem_of(write(blocks=[{"seed": [0, 1]}]), "blocks.seed=[2]")
    assert message == "command line: blocks.seed: blocks is a list; give blocks.0.PATH=…"


def test_a_factor_and_a_cell_reach_into_the_stages_of_the_base(write):
    chain = {"stages": [{"method": "supervised", "steps": 20}]}
    factors = {"warm": {"long": {}, "short": {"stages.0.steps": 10}}, "rate": {"on": {}, "off": {"optim.lr": 0.1}}}
    cells = {"longest": {"stages.0.steps": 40}}
    study, base = load(write(changes=chain, factors=factors, cells=cells))
    steps = {run.cell: run.config.stages[0].steps for run in study.runs(base)}
    assert steps == {"full": 20, "warm=short": 10, "without_rate": 20, "longest": 40}
    assert "stages.0.steps: the run has no stages" in problem_of(write(factors=factors))
