"""Runs that a study beside has finished: taken over if they are the same on the same data, and never otherwise."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from guidedmix_core import Tree, build
from guidedmix_core.backbones.tiny import Tiny
from orchestrator.console import StudyConsole
from orchestrator.executors import inline
from orchestrator.folder import StudyFolder, read_json, write_json
from orchestrator.mlflow_run import tags
from orchestrator.planned_runs import planned_runs
from orchestrator.report import write_page
from orchestrator.results import load_trials
from orchestrator.reuse import reused_words
from orchestrator.study import SearchStudy
from tests.orchestrator.test_cells import made
from tests.orchestrator.test_inline import counting
from tests.runs import small_tree

CELLS: dict[str, Any] = {"cells": {"usual": {}}, "ceiling": None, "blocks": {"seed": [0]}}
STEPS = [1, 2, 3, 4]


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of one finished run. Not to be written to."""
    made(StudyFolder(path := tmp_path_factory.mktemp("once") / "first"), **CELLS)
    return path


@pytest.fixture
def first(once: Path, tmp_path: Path) -> StudyFolder:
    shutil.copytree(once, tmp_path / "first")
    return StudyFolder(tmp_path / "first")


@pytest.fixture
def second(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "second")


def test_a_run_that_a_study_beside_has_finished_is_not_trained_again(
    first: StudyFolder, second: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = counting(monkeypatch)
    summary = made(second, **{**CELLS, "cells": {"plain": {}, "usual": {"optim.lr": 0.1}}, "reference": "plain"})
    assert steps == STEPS
    (theirs,), (ours, _) = load_trials(first), load_trials(second)
    assert (ours.reused_from, ours.cell, ours.objective) == ("first", "plain", theirs.objective)
    assert summary["reused"] == {"first": 1}
    events = [(event["event"], event.get("from")) for event in second.events()]
    assert events[:4] == [("study_started", None), ("asked", None), ("trial_reused", "first"), ("trial_ended", None)]
    assert made(second, **{**CELLS, "cells": {"plain": {}}, "reference": "plain"})["reused"] == {"first": 1}


def test_what_was_taken_over_stands_without_the_other_study(first: StudyFolder, second: StudyFolder) -> None:
    made(second, **CELLS)
    (theirs,), (ours,) = first.trials(), second.trials()
    assert (theirs.checkpoint / "best.pt").samefile(ours.checkpoint / "best.pt")
    np.testing.assert_array_equal(np.load(theirs.counts)["counts"], np.load(ours.counts)["counts"])
    panels = [panel.name for panel in theirs.panels.iterdir()]
    shutil.rmtree(first.path)
    assert (ours.checkpoint / "best.pt").stat().st_size > 0
    assert sorted(panel.name for panel in ours.panels.iterdir()) == sorted(panels)
    assert "Not trained here: 1 run reused from first" in write_page(second).read_text()


@pytest.mark.parametrize(
    "how",
    [
        "reuse: false",
        "other data",
        "other weights",
        "weights not noted",
        "still running",
        "failed",
        "no counts",
        "halved",
    ],
)
def test_what_is_not_the_same_finished_run_is_trained(
    first: StudyFolder, second: StudyFolder, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    (trial,) = first.trials()
    if how == "other data":
        write_json(trial.environment, {**read_json(trial.environment), "data": "0" * 16})
    elif how == "other weights":
        write_json(trial.environment, {**read_json(trial.environment), "weights": "0" * 16})
    elif how == "weights not noted":
        write_json(trial.environment, {k: v for k, v in read_json(trial.environment).items() if k != "weights"})
        monkeypatch.setattr(Tiny, "weights_digest", lambda backbone: "0" * 16)
    elif how == "failed":
        write_json(trial.result, {**read_json(trial.result), "state": "failed"})
    elif how == "still running":
        trial.result.unlink()
    elif how == "halved":
        adjusted = {"halvings": 1, "sees_batches": True, "asked": 4, "used": 2}
        write_json(trial.result, {**read_json(trial.result), "adjusted": adjusted})
    elif how == "no counts":
        trial.counts.unlink()
    steps = counting(monkeypatch)
    made(second, **CELLS, reuse=how != "reuse: false")
    assert steps == STEPS
    assert [record.reused_from for record in load_trials(second)] == [None]


def test_a_run_that_was_cut_short_while_it_was_taken_over_is_taken_over_again(
    first: StudyFolder, second: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(second, **CELLS)
    (trial,) = second.trials()
    trial.result.unlink()
    trial.metrics.unlink()
    steps = counting(monkeypatch)
    made(second, **CELLS)
    assert steps == []
    assert trial.metrics.read_bytes() == first.trials()[0].metrics.read_bytes()


def test_the_study_that_trained_the_run_is_named_through_others(first: StudyFolder, second: StudyFolder) -> None:
    made(second, **CELLS)
    shutil.rmtree(first.path)
    made(third := StudyFolder(second.path.parent / "third"), **CELLS)
    assert [record.reused_from for record in load_trials(third)] == ["first"]


def test_the_run_is_judged_by_the_objective_of_the_study_that_takes_it(first: StudyFolder, second: StudyFolder) -> None:
    made(second, **CELLS, objective={"metric": "train/loss", "mode": "min"})
    (record,) = load_trials(second)
    assert record.reused_from == "first"
    assert record.objective == record.metrics["train/loss"]


def test_terminal_and_mlflow_say_where_a_run_comes_from(first: StudyFolder, second: StudyFolder) -> None:
    file = io.StringIO()
    made(second, StudyConsole(Console(file=file, width=200)), **CELLS)
    (record,) = load_trials(second)
    assert file.getvalue().startswith("usual · seed 0: reused from first  mIoU ")
    assert tags(record, {}, {})["guidedmix.reused_from"] == "first"
    assert reused_words([record], second) == "1 run reused from first"


def test_runs_of_other_code_are_counted(first: StudyFolder, second: StudyFolder) -> None:
    made(second, **CELLS)
    (trial,) = second.trials()
    write_json(trial.environment, {**read_json(trial.environment), "git": {"sha": "0" * 40, "dirty": False}})
    assert reused_words(load_trials(second), second) == "1 run reused from first; 1 of them made by other code"


SEARCH: dict[str, Any] = {
    "base": "small",
    "parameters": {"optim.lr": {"choice": [0.01, 0.05]}},
    "search": {"sampler": "grid", "trials": 2},
    "scheduler": {"name": "none"},
    "references": {"usual": {}},
    "confirm": {"against": ["usual"], "blocks": {"seed": [10]}},
    "tracking": {"mlflow": None},
}


def searched(folder: StudyFolder, **changes: Any) -> list[tuple[str, str | None]]:
    """The search, made; of each run its role, and whose it was."""
    inline.run(build(Tree({**SEARCH, **changes}, {}), SearchStudy), small_tree(), folder, [], "cpu")
    return [(record.role, record.reused_from) for record in load_trials(folder)]


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search beside nothing. Not to be written to."""
    searched(StudyFolder(path := tmp_path_factory.mktemp("searched") / "first"))
    return path


def test_a_search_takes_over_references_and_fresh_runs_and_no_trial(
    search: Path, second: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(search, second.path.parent / "first")
    steps = counting(monkeypatch)
    of_others = [("reference", "first"), ("trial", None), ("trial", None), ("confirm", "first"), ("confirm", "first")]
    assert searched(second) == of_others
    assert steps == STEPS * 2
    assert read_json(second.summary)["reused"] == {"first": 3}
    assert "Not trained here: 3 runs reused from first" in write_page(second).read_text()
    assert read_json(second.summary)["confirmation"]["winners"][0]["n"] == 1


def test_a_search_that_asks_for_no_reuse_trains_its_references(search: Path, second: StudyFolder) -> None:
    shutil.copytree(search, second.path.parent / "first")
    assert {made_by for _, made_by in searched(second, reuse=False)} == {None}


def test_a_plan_of_a_search_says_which_references_are_taken_over(search: Path, second: StudyFolder) -> None:
    shutil.copytree(search, second.path.parent / "first")
    states = {}
    for reuse in (True, False):
        study = build(Tree({**SEARCH, "reuse": reuse}, {}), SearchStudy)
        states[reuse] = {run.cell: run.state for run in planned_runs(study, small_tree(), second)}
    assert (states[True]["usual"], states[True]["trials"], states[False]["usual"]) == ("elsewhere", "new", "new")
