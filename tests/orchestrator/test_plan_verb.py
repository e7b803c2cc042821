"""`guidedmix plan`, as it is typed, and the budget that `ablate` and `tune` keep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.runs import SMALL

ABLATION = {
    "base": "small.yaml",
    "reference": "usual",
    "cells": {"usual": {}, "slow": {"optim.lr": 1e-5}},
    "blocks": {"seed": [0, 1]},
    "tracking": {"mlflow": None},
}
SEARCH = {"base": "small.yaml", "parameters": {"optim.lr": {"log": [1e-3, 1e-1]}}, "search": {"trials": 3}}


@pytest.fixture
def call(call):
    """Where the files above are."""
    for name, content in (("small", SMALL), ("ablation", ABLATION), ("search", SEARCH)):
        Path(f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return call


def test_a_plan_is_printed_and_nothing_is_written(call, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("guidedmix plan ablation.yaml blocks.seed=[0,1,2]") == 0
    shown = capfd.readouterr().out
    assert "ablation-ablation: 2 cells over 3 blocks" in shown
    assert "6 runs, 24 steps" in shown
    assert "differences of 2.61 points or more with 3 blocks" in shown
    assert "--probe measures a few steps" in shown
    assert not Path("studies").exists()


def test_a_plan_knows_further_seeds_and_says_what_a_design_can_tell(call, capfd: pytest.CaptureFixture[str]) -> None:
    design = {"factors": {"lr": {"usual": {}, "slow": {"optim.lr": 1e-5}}}, "design": "full_factorial"}
    cells = {key: value for key, value in ABLATION.items() if key != "cells"}
    Path("design.yaml").write_text(yaml.safe_dump({**cells, **design, "reference": "full"}, sort_keys=False))
    assert call("guidedmix plan design.yaml --seeds +2") == 0
    shown = capfd.readouterr().out
    assert "2 cells over 4 blocks" in shown
    assert "full_factorial: all 2 = 2 combinations, balanced. No effect is aliased." in shown
    assert call("guidedmix plan search.yaml --seeds +2") == 2
    assert "a search has no blocks; give search.trials=N" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("objective", "said"), [("", "(sd 0.40 points, given)"), ("objective.metric=train/loss", "(sd 0.4, given)")]
)
def test_a_given_spread_is_read_as_tables_write_it(
    call, objective: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call(f"guidedmix plan ablation.yaml --sd 0.4 {objective}") == 0
    assert said in capfd.readouterr().out


def test_a_probe_measures_what_is_not_known_and_leaves_no_trial(call, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("guidedmix plan ablation.yaml --device cpu --probe --json") == 0
    plan = json.loads(capfd.readouterr().out)
    assert (plan["unit"], plan["unmeasured"]) == ("CPU", [])
    assert plan["hours"] > 0
    assert [path.name for path in Path("studies").iterdir()] == ["costs.json"]
    assert call("guidedmix plan ablation.yaml --json") == 0
    assert json.loads(capfd.readouterr().out)["hours"] == plan["hours"]


@pytest.mark.parametrize("verb", ["plan ablation.yaml", "ablate ablation.yaml", "plan search.yaml", "tune search.yaml"])
def test_above_its_budget_a_study_does_not_begin(call, verb: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("guidedmix plan ablation.yaml --probe") == 0
    assert call(f"guidedmix {verb} budget.cpu_hours=1e-9") == 3
    assert "budget.cpu_hours=1e-09: " in capfd.readouterr().err
    assert [path.name for path in Path("studies").iterdir()] == ["costs.json"]


def test_within_its_budget_a_study_runs(call, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("guidedmix plan ablation.yaml --probe") == 0
    assert call("guidedmix ablate ablation.yaml --executor inline blocks.seed=[0] budget.cpu_hours=1.0") == 0
    capfd.readouterr()
    assert call("guidedmix plan ablation.yaml") == 0
    assert "2 runs, 8 steps" in capfd.readouterr().out


def test_a_budget_that_was_never_measured_is_not_begun(call, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("guidedmix ablate ablation.yaml --executor inline budget.cpu_hours=1000.0") == 3
    assert "--probe" in capfd.readouterr().err
    assert not Path("studies").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("ablation.yaml budget.cpu_hours=-1.0", "budget.cpu_hours=-1.0: expected at least 0"),
        ("ablation.yaml --cluster lokal", "no cluster 'lokal'; did you mean 'local'?"),
        ("ablation.yaml --cluster wrong.yaml", "wrong.yaml:1: gpus=-1: expected at least 0"),
        ("ablation.yaml --sd 0", "--sd 0: expected a number above 0"),
        ("ablation.yaml --sd nan", "--sd nan: expected a number above 0"),
        ("small.yaml", "small.yaml: neither an ablation nor a search"),
        ("demo", "'demo' names an ablation and a search; give ablation/demo or search/demo"),
        ("nothing.yaml", "nothing.yaml: no such file"),
    ],
)
def test_a_wrong_request_exits_with_2_and_says_what_is_wrong(
    call, words: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("wrong.yaml").write_text("gpus: -1\n")
    assert call(f"guidedmix plan {words}") == 2
    assert said in capfd.readouterr().err


def test_data_that_is_not_there_is_asked_for_by_the_probe_alone(call, capfd: pytest.CaptureFixture[str]) -> None:
    absent = "data.name=folder data.root=absent data.class_names=[a,b]"
    assert call(f"guidedmix plan ablation.yaml {absent}") == 0
    assert call(f"guidedmix plan ablation.yaml {absent} --probe") == 2
    assert "absent" in capfd.readouterr().err
    assert not Path("studies").exists()


def test_a_cluster_file_gives_gpus_and_price(call, capfd: pytest.CaptureFixture[str]) -> None:
    Path("clusters").mkdir()
    Path("clusters/big.yaml").write_text("gpus: 8\nprice_per_gpu_hour: 2.5\ncurrency: EUR\n")
    assert call("guidedmix plan ablation.yaml scaling.gpus_per_worker=0.5 --cluster big --json") == 0
    plan = json.loads(capfd.readouterr().out)
    assert (plan["at_once"], plan["cluster"]["currency"], plan["price"]) == (16, "EUR", None)
