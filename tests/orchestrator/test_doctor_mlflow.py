"""MLflow beside the folder: what is missing, doubled or RUNNING there is found, and is right after the repair."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.doctor.finding import Finding
from orchestrator.doctor.window import mlflow
from orchestrator.folder import StudyFolder, read_json, write_json
from orchestrator.mlflow_mirror import Mirror
from tests.orchestrator.test_tracking import LOCAL, begin, begin_anew, end, report, runs, steps, study

# MLflow's own use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")


@pytest.fixture
def folder(tmp_path: Path, database: Path) -> StudyFolder:
    """A study of two trials, one complete, one interrupted, and MLflow has them."""
    made = study(tmp_path / "a study")
    shutil.copyfile(database, made.mlflow_db)
    end(begin(made, 0))
    begin(made, 1)
    Mirror(LOCAL, made).sync()
    return made


def mended(folder: StudyFolder) -> list[str]:
    """What is found; nothing is left after the repair, and each run is there once with each step once."""
    found = [*mlflow(folder)]
    for repair in dict.fromkeys(finding.repair for finding in found if finding.repair):
        repair()
    assert [finding for finding in mlflow(folder) if finding.level != "note"] == []
    mirror = Mirror(LOCAL, folder)
    stored = mirror.store.client.search_runs([mirror.store.experiment])
    names = sorted(str(run.info.run_name) for run in stored)
    assert [name for name in names if name != "trial 9"] == ["a study", "trial 0", "trial 1"]
    assert (steps(mirror, "trial 0"), steps(mirror, "trial 1")) == ([10, 20], [10, 20])
    assert [run.info.status for run in stored if run.info.status == "RUNNING"] == []
    return [finding.problem for finding in found]


def lose_a_step(mirror: Mirror) -> None:
    """As a store that was set back to an older copy: the trial's note says that MLflow has it."""
    mirror.store.discard(runs(mirror)["trial 0"].info.run_id)
    trial = mirror.folder.trial(f"{0:016x}")
    lines = trial.metrics.read_text()
    trial.metrics.write_text(lines.splitlines()[1] + "\n")
    trial.mlflow.unlink()
    Mirror(LOCAL, mirror.folder).sync()
    trial.metrics.write_text(lines)


def a_second_run(mirror: Mirror) -> None:
    tags = {"guidedmix.study": mirror.key, "guidedmix.role": "trial", "guidedmix.fingerprint": f"{0:016x}"}
    mirror.store.create("trial 0", tags)


def a_step_twice(mirror: Mirror) -> None:
    run = runs(mirror)["trial 0"].info.run_id
    mirror.store.client.log_metric(run, "val/miou", 0.75, step=10)


DAMAGE: dict[str, tuple[Callable[[Mirror], object], str]] = {
    "RUNNING and nobody works on it": (
        lambda m: m.store.reopen(runs(m)["trial 1"].info.run_id, "trial 1"),
        "MLflow says RUNNING of trial 1, which is interrupted",
    ),
    "a study that says RUNNING": (
        lambda m: m.store.reopen(runs(m)["a study"].info.run_id, "a study"),
        "MLflow says RUNNING of the study, not KILLED",
    ),
    "another status": (
        lambda m: m.store.close(runs(m)["trial 0"].info.run_id, "FAILED"),
        "MLflow says FAILED of trial 0, which is complete",
    ),
    "no run": (lambda m: m.store.discard(runs(m)["trial 0"].info.run_id), "MLflow has no run of trial 0"),
    "no study": (lambda m: m.store.discard(runs(m)["a study"].info.run_id), "MLflow has no run of the study"),
    "a step is missing": (lose_a_step, "MLflow lacks step 10 of trial 0"),
    "a step is there twice": (a_step_twice, "MLflow has step 10 of trial 0 twice"),
    "a second run": (a_second_run, "MLflow has 2 runs of trial 0"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_wrong_in_mlflow_is_found_and_mended(folder: StudyFolder, name: str) -> None:
    damage, said = DAMAGE[name]
    damage(Mirror(LOCAL, folder))
    assert said in mended(folder)


def test_a_run_of_an_attempt_that_was_put_aside_is_no_other_one_s_and_stays(folder: StudyFolder) -> None:
    trial = folder.trial(f"{0:016x}")
    before = read_json(trial.mlflow)["run_id"]
    begin_anew(trial, 0.75, 1.0)
    end(trial)
    found = [*mlflow(folder)]
    said = ["MLflow takes an attempt that was put aside for trial 0", "MLflow has no run of trial 0"]
    assert [finding.problem for finding in found] == said
    assert found[0].repair is not None
    found[0].repair()
    assert [*mlflow(folder)] == []
    assert Mirror(LOCAL, folder).store.client.get_run(before).data.tags["guidedmix.role"] == "attempt"


def test_nothing_is_wrong_with_what_the_window_has_made(folder: StudyFolder) -> None:
    assert [*mlflow(folder)] == []


@pytest.mark.parametrize("share", [0, 0.01, 0.5, None])
def test_a_lost_or_damaged_database_is_made_anew_and_the_old_one_kept(
    folder: StudyFolder, tmp_path: Path, share: float | None
) -> None:
    moved = StudyFolder(shutil.copytree(folder.path, tmp_path / "moved" / "a study"))  # MLflow has not opened it
    content = moved.mlflow_db.read_bytes()
    if share is None:
        moved.mlflow_db.unlink()
        assert mended(moved) == ["is gone"]
    else:
        left = content[: int(len(content) * share)] or b"no database" * 1000
        moved.mlflow_db.write_bytes(left)
        assert len(mended(moved)) == 1
        assert (moved.path / "aside" / "mlflow.db").read_bytes() == left


def test_runs_of_trials_that_are_gone_are_closed_and_stay(folder: StudyFolder) -> None:
    gone = begin(folder, 9)
    Mirror(LOCAL, folder).sync({gone.fingerprint}, is_over=False)
    shutil.rmtree(gone.path)
    assert "1 runs in MLflow say RUNNING, and their trials are gone" in mended(folder)
    (note,) = mlflow(folder)
    assert (note.level, note.problem) == ("note", "1 runs in MLflow have no trial here any more")


def test_a_server_that_is_away_is_said_and_nothing_is_done(folder: StudyFolder) -> None:
    file = folder.path / "mlflow.json"
    write_json(file, {**read_json(file), "uri": "http://127.0.0.1:9"})
    (finding,) = mlflow(folder)
    assert isinstance(finding, Finding)
    assert finding.repair is None
    assert "Connection refused" in finding.problem


def test_what_was_never_tracked_is_not_looked_for(tmp_path: Path) -> None:
    assert [*mlflow(study(tmp_path / "plain"))] == []


def test_what_a_trial_reports_while_mlflow_is_away_is_missing_and_then_there(folder: StudyFolder) -> None:
    trial = folder.trial(f"{1:016x}")
    report(trial, 30, 0.5)
    assert [finding.problem for finding in mlflow(folder)] == ["MLflow lacks step 30 of trial 1"]
    for finding in [*mlflow(folder)]:
        assert finding.repair is not None
        finding.repair()
    assert [*mlflow(folder)] == []
