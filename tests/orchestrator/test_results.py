"""What a study has found, read from its folder alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.folder import StudyFolder, append_line, write_json
from orchestrator.results import best, curves, load_trials, objectives
from orchestrator.study import Objective
from orchestrator.summary import summarize, write_summary

GOALS = [{"metric": "val/miou", "mode": "max"}, {"metric": "time/seconds", "mode": "min"}]


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """A study of nothing yet."""
    study = StudyFolder(tmp_path / "demo")
    study.claim({"study": "demo", "kind": "tune", "planned": 5, "objectives": GOALS[:1]}, "1111")
    return study


def add(folder: StudyFolder, number: int, state: str, objective: float | None, **names: Any) -> None:
    """A trial with an end."""
    trial = folder.trial(f"{names.get('role', 'trial')}-{number}")
    asked = {
        "fingerprint": trial.fingerprint,
        "number": number,
        "role": "trial",
        "label": None,
        "params": {"optim.lr": 0.1},
    }
    write_json(trial.trial, {**asked, "seed": 0, "steps": 8, **names})
    failure = {"reason": "diverged", "message": "the loss is not finite", "step": 3} if state == "failed" else None
    end = {
        "state": state,
        "objective": objective,
        "step": 8,
        "steps": 8,
        "seconds": 1.5,
        "metrics": {"val/miou": objective},
    }
    write_json(trial.result, {**end, "best": None, "failure": failure, "started": "a", "ended": "b"})


def test_a_study_of_nothing_has_a_summary(folder: StudyFolder) -> None:
    assert summarize(folder) == {
        "study": "demo",
        "kind": "tune",
        "objective": {"metric": "val/miou", "mode": "max"},
        "counts": {"planned": 5, "complete": 0, "stopped": 0, "failed": 0},
        "trials": [],
        "best": None,
        "reused": {},
    }


def test_the_summary_counts_states_and_names_every_trial(folder: StudyFolder) -> None:
    add(folder, 0, "complete", 0.5)
    add(folder, 1, "stopped", 0.2)
    add(folder, 2, "failed", None)
    write_summary(folder)
    summary = json.loads(folder.summary.read_text())
    assert summary["counts"] == {"planned": 5, "complete": 1, "stopped": 1, "failed": 1}
    assert [trial["number"] for trial in summary["trials"]] == [0, 1, 2]
    keys = {"fingerprint", "state", "params", "seed", "objective", "steps", "seconds", "mlflow_run_id"}
    assert keys <= summary["best"].keys()
    assert summary["trials"][2]["failure"]["reason"] == "diverged"


def test_the_best_is_a_complete_trial_and_no_reference(folder: StudyFolder) -> None:
    add(folder, 0, "complete", 0.5)
    add(folder, 1, "complete", 0.6)
    add(folder, 2, "stopped", 0.7)
    add(folder, 0, "complete", 0.8, role="reference", label="supervised")
    found = best(load_trials(folder), Objective())
    assert found is not None
    assert found.number == 1


def test_the_best_of_a_minimum_is_the_smallest_and_of_equals_the_first(folder: StudyFolder) -> None:
    for number, value in enumerate([0.3, 0.2, 0.2]):
        add(folder, number, "complete", value)
    found = best(load_trials(folder), Objective(metric="train/loss", mode="min"))
    assert found is not None
    assert found.number == 1


def test_references_come_first_then_trials_by_number(folder: StudyFolder) -> None:
    for number in (10, 2):
        add(folder, number, "complete", 0.5)
    add(folder, 1, "complete", 0.5, role="reference", label="supervised")
    assert [(record.role, record.number) for record in load_trials(folder)] == [
        ("reference", 1),
        ("trial", 2),
        ("trial", 10),
    ]


def test_a_trial_without_an_end_is_running_as_far_as_it_came(folder: StudyFolder) -> None:
    trial = folder.trial("x")
    write_json(
        trial.trial,
        {"fingerprint": "x", "number": 0, "role": "trial", "label": None, "params": {}, "seed": 3, "steps": 8},
    )
    (before,) = load_trials(folder)
    append_line(trial.metrics, {"step": 4, "time": "t", "val/miou": 0.25, "time/seconds": 2.0})
    (after,) = load_trials(folder)
    assert (before.state, before.step, before.steps, before.seed) == ("running", 0, 8, 3)
    assert (after.state, after.step, after.seconds, after.objective) == ("running", 4, 2.0, None)


def test_a_curve_leaves_out_what_was_not_finite(folder: StudyFolder) -> None:
    trial = folder.trial("x")
    trial.path.mkdir(parents=True)
    append_line(trial.metrics, {"step": 2, "time": "t", "val/miou": 0.1, "val/iou/ring": float("nan")})
    assert curves(folder, "x") == [{"step": 2, "time": "t", "val/miou": 0.1}]


def test_several_objectives_are_all_told_and_the_first_decides(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path / "demo")
    study.claim({"study": "demo", "kind": "tune", "planned": 5, "objectives": GOALS}, "1111")
    assert [goal.metric for goal in objectives(study)] == ["val/miou", "time/seconds"]
    assert summarize(study)["objective"] == GOALS[0]
    assert summarize(study)["objectives"] == GOALS
