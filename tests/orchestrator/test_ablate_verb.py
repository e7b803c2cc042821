"""`guidedmix ablate`, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.runs import SMALL

FILE = {
    "base": "small.yaml",
    "reference": "usual",
    "ceiling": "all",
    "cells": {"usual": {}, "all": {"split.labeled": 1.0}},
    "blocks": {"seed": [0, 1]},
    "tracking": {"mlflow": None},
}


@pytest.fixture
def call(call):
    """Where the files above are."""
    Path("small.yaml").write_text(yaml.safe_dump(SMALL))
    Path("labels.yaml").write_text(yaml.safe_dump(FILE, sort_keys=False))
    return call


def test_an_ablation_is_run_shown_and_grown(call, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("guidedmix ablate labels.yaml --executor inline") == 0
    shown = capfd.readouterr().out
    assert "all · seed 1: complete" in shown
    assert "usual" in shown
    assert "headroom" in shown
    folder = Path("studies/ablation-labels")
    assert (folder / "report.html").exists()
    assert not (folder / "optuna.journal").exists()

    assert call("guidedmix ablate labels.yaml --executor inline blocks.seed=[0,1,2] cells.slow.optim.lr=1e-5") == 0
    assert "ablation-labels: 4 of 9 already done" in capfd.readouterr().out
    cells = json.loads((folder / "summary.json").read_text())["cells"]
    assert [(cell["name"], cell["n"]) for cell in cells] == [("usual", 3), ("all", 3), ("slow", 3)]


def test_more_seeds_are_trained_once_and_the_file_stays_as_it_is(call, capfd: pytest.CaptureFixture[str]) -> None:
    def blocks() -> list[int]:
        capfd.readouterr()
        summary = json.loads(Path("studies/ablation-labels/summary.json").read_text())
        return [cell["n"] for cell in summary["cells"]]

    assert call("guidedmix ablate labels.yaml --executor inline --seeds +1") == 0
    assert "usual · seed 2: complete" in capfd.readouterr().out
    assert blocks() == [3, 3]
    assert call("guidedmix ablate labels.yaml --executor inline --seeds +1") == 0
    assert "ablation-labels: 6 of 6 already done" in capfd.readouterr().out
    assert blocks() == [3, 3]
    assert call("guidedmix ablate labels.yaml --executor inline") == 0
    assert blocks() == [2, 2]
    assert call("guidedmix ablate labels.yaml --executor inline --seeds 3") == 2
    assert "--seeds 3: expected +N" in capfd.readouterr().err


def test_an_ablation_of_nothing_but_failures_exits_with_1(call, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("guidedmix ablate labels.yaml --executor inline optim.lr=1e30 failures.stop_after=9") == 1
    assert "no run ended well" in capfd.readouterr().err


def test_an_ablation_whose_first_runs_fail_alike_exits_with_2_and_says_what_to_do(call, capfd) -> None:
    assert call("guidedmix ablate labels.yaml --executor inline optim.lr=1e30") == 2
    said = capfd.readouterr().err
    assert "the first 3 runs of the study all failed alike (diverged: the loss is not finite" in said
    assert "traceback.txt; lower optim.lr" in said
    assert "--retry-failed" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("seed=4", "seed: varies from block to block; give blocks.seed=[…]"),
        ("cells.all.split.labelled=1.0", "split.labelled: unknown key; did you mean 'labeled'?"),
        ("reference=usua", "reference: no cell 'usua'; did you mean 'usual'?"),
        ("blocks.split.seed=[1]", "blocks.split.seed: 1 values, seed has 2"),
        ("search.trials=3", "no section 'search' in a study or a run"),
    ],
)
def test_a_wrong_request_exits_with_2_and_says_what_is_wrong(
    call, change: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call(f"guidedmix ablate labels.yaml --executor inline {change}") == 2
    assert said in capfd.readouterr().err
    assert not Path("studies").exists()


def test_a_study_of_the_other_kind_names_the_verb_that_takes_it(call, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("guidedmix tune labels.yaml") == 2
    assert "the keys are of the kind ablation, expected search; guidedmix ablate labels.yaml" in capfd.readouterr().err


@pytest.mark.parametrize("verb", ["train", "show"])
def test_where_a_run_is_expected_a_study_is_told_its_verb(call, verb: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(f"guidedmix {verb} labels.yaml") == 2
    said = "labels.yaml: the keys are of the kind ablation, expected base; guidedmix ablate labels.yaml\n"
    assert capfd.readouterr().err == said


@pytest.mark.parametrize("verb", ["tune", "ablate"])
def test_where_a_study_is_expected_a_run_is_told_its_verb(call, verb: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(f"guidedmix {verb} base/guidedmix") == 2
    assert "the keys are of the kind base, expected " in (said := capfd.readouterr().err)
    assert said.endswith("; guidedmix train base/guidedmix\n")
    assert call("guidedmix ablate search/demo") == 2
    assert "guidedmix tune search/demo" in capfd.readouterr().err


def test_check_knows_an_ablation(call, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("guidedmix check labels.yaml") == 0
    assert "labels.yaml: an ablation of 2 cells over 2 blocks: 4 runs" in capfd.readouterr().out


def test_ablations_are_listed_and_have_a_schema(call, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("guidedmix list ablations") == 0
    listed = capfd.readouterr().out.splitlines()
    assert "ablation/demo" in listed
    assert all(name.startswith("ablation/") for name in listed)
    assert call("guidedmix list designs") == 0
    assert "leave_one_out" in capfd.readouterr().out
    assert call("guidedmix schema --directory schemas") == 0
    schema = json.loads(Path("schemas/ablation.schema.json").read_text())
    assert schema["required"] == ["base", "reference", "blocks"]
