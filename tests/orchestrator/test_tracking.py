"""MLflow shows what the study folder says: after every crash, once, and never in the study's way. On real SQLite."""

from __future__ import annotations

import json
import logging
import math
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from PIL import Image

from guidedmix_core import ConfigError
from orchestrator import mlflow_mirror, tracking
from orchestrator.attempts import put_aside
from orchestrator.folder import StudyFolder, TrialFolder, append_line, now, read_json, write_json, write_lines
from orchestrator.mlflow_mirror import Mirror
from orchestrator.mlflow_run import metric_name
from orchestrator.results import TrialRecord, best, load_trial
from orchestrator.study import Objective
from orchestrator.tracking import MlflowWindow, start_ui

if TYPE_CHECKING:
    from mlflow.entities import Run

# MLflow's own use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")

LOCAL = "sqlite:///{study}/mlflow.db"
CONFIG = {"seed": 3, "method": {"name": "guidedmix", "threshold": 0.9, "taps": [1, 2]}, "data": {"name": "shapes"}}
ENVIRONMENT = {
    "device": "cpu",
    "host": "here",
    "git": {"sha": "a87c8e1", "dirty": False, "diff": None},
    "data": "9b1f63c2",
}


@pytest.fixture
def folder(tmp_path: Path, database: Path) -> StudyFolder:
    made = study(tmp_path / "a study")
    shutil.copyfile(database, made.mlflow_db)
    return made


def study(path: Path) -> StudyFolder:
    folder = StudyFolder(path)
    path.mkdir(exist_ok=True)
    goal = {"metric": "val/miou", "mode": "max"}
    request = {"identity": "1", "kind": "tune", "objectives": [goal], "parameters": {"method.threshold": {}}}
    folder.study_yaml.write_text(yaml.safe_dump(request))
    folder.append({"event": "study_started"})
    return folder


def begin(folder: StudyFolder, number: int = 0, role: str = "trial", label: str | None = None) -> TrialFolder:
    """A trial that runs and has been evaluated twice."""
    trial = folder.trial(f"{number:016x}")
    asked = {
        "number": number,
        "role": role,
        "label": label,
        "params": {"method.threshold": 0.9},
        "seed": 3,
        "steps": 40,
    }
    write_json(trial.trial, {"fingerprint": trial.fingerprint, **asked})
    trial.config.write_text(yaml.safe_dump(CONFIG))
    write_json(trial.environment, {"time": now(), **ENVIRONMENT})
    report(trial, 10, 0.25)
    report(trial, 20, 0.5)
    return trial


def report(trial: TrialFolder, step: int, miou: float | None, **others: Any) -> None:
    append_line(trial.metrics, {"step": step, "time": now(), "val/miou": miou, "val/iou/sky": 0.75, **others})


def end(trial: TrialFolder, state: str = "complete", objective: float | None = 0.5) -> None:
    failure = {"reason": "diverged", "message": "the loss is not finite", "step": 20} if state == "failed" else None
    numbers = {"objective": None if failure else objective, "step": 20, "steps": 40, "seconds": 1.0}
    best = {"step": 20, "metrics": {"val/miou": 0.5}}
    what = {"metrics": {"val/miou": 0.5}, "best": best, "failure": failure, "started": now(), "ended": now()}
    write_json(trial.result, {"fingerprint": trial.fingerprint, "state": state, **numbers, **what})


def draw_panel(trial: TrialFolder) -> None:
    trial.panels.mkdir()
    for i, kind in enumerate(("image", "prediction", "truth")):
        pixels = np.full((4, 6, 3), 50 * (i + 1), np.uint8)
        Image.fromarray(pixels).save(trial.panels / f"scene_{kind}.png")


def runs(mirror: Mirror) -> dict[str, Run]:
    return {run.info.run_name: run for run in mirror.store.client.search_runs([mirror.store.experiment])}


def steps(mirror: Mirror, name: str = "trial 0", metric: str = "val/miou") -> list[int]:
    return [point.step for point in mirror.store.client.get_metric_history(runs(mirror)[name].info.run_id, metric)]


def forget(trial: TrialFolder) -> None:
    """As if the driver had been killed before it noted what MLflow accepted."""
    trial.mlflow.unlink()


def test_a_trial_is_a_child_of_the_study(folder: StudyFolder) -> None:
    begin(folder)
    (mirror := Mirror(LOCAL, folder)).sync()
    found = runs(mirror)
    assert found["trial 0"].data.tags["mlflow.parentRunId"] == found["a study"].info.run_id


def test_every_leaf_of_the_configuration_is_a_parameter(folder: StudyFolder) -> None:
    begin(folder)
    (mirror := Mirror(LOCAL, folder)).sync()
    expected = {"seed": "3", "method.name": "guidedmix", "method.threshold": "0.9", "method.taps": "[1, 2]"}
    assert runs(mirror)["trial 0"].data.params == {**expected, "data.name": "shapes"}


def test_metrics_stand_at_the_training_step(folder: StudyFolder) -> None:
    begin(folder)
    (mirror := Mirror(LOCAL, folder)).sync()
    history = mirror.store.client.get_metric_history(runs(mirror)["trial 0"].info.run_id, "val/miou")
    assert [(point.step, point.value) for point in history] == [(10, 0.25), (20, 0.5)]


@pytest.mark.parametrize(("state", "status"), [("complete", "FINISHED"), ("stopped", "KILLED"), ("failed", "FAILED")])
def test_each_end_has_its_status_and_says_why(folder: StudyFolder, state: str, status: str) -> None:
    end(begin(folder), state)
    (mirror := Mirror(LOCAL, folder)).sync()
    run = runs(mirror)["trial 0"]
    reason = "diverged" if state == "failed" else None
    assert (run.info.status, run.data.tags["guidedmix.state"], run.data.tags.get("guidedmix.failure")) == (
        status,
        state,
        reason,
    )


def test_a_run_says_running_only_while_its_trial_does(folder: StudyFolder) -> None:
    trial = begin(folder)
    mirror = Mirror(LOCAL, folder)
    mirror.sync({trial.fingerprint}, is_over=False)
    before = runs(mirror)["trial 0"].info.status
    mirror.sync(is_over=False)
    assert (before, runs(mirror)["trial 0"].info.status) == ("RUNNING", "KILLED")


def test_code_and_data_are_found_by_their_fingerprints(folder: StudyFolder) -> None:
    end(begin(folder))
    (mirror := Mirror(LOCAL, folder)).sync()
    run = mirror.store.client.get_run(runs(mirror)["trial 0"].info.run_id)
    data = run.inputs.dataset_inputs[0].dataset
    assert (data.name, data.digest, run.data.tags["mlflow.source.git.commit"]) == ("shapes", "9b1f63c2", "a87c8e1")


def test_a_panel_is_one_picture_side_by_side(folder: StudyFolder) -> None:
    trial = begin(folder)
    draw_panel(trial)
    end(trial)
    Mirror(LOCAL, folder).sync()
    (picture,) = folder.mlflow_artifacts.glob("*/artifacts/panels/scene.png")
    panel = np.asarray(Image.open(picture))
    assert (panel.shape, panel[0, [0, 14, 28], 0].tolist()) == ((4, 34, 3), [50, 100, 150])


def test_the_iou_of_every_class_is_a_table(folder: StudyFolder) -> None:
    end(begin(folder))
    Mirror(LOCAL, folder).sync()
    (table,) = folder.mlflow_artifacts.glob("*/artifacts/class_iou.json")
    assert json.loads(table.read_text()) == {"columns": ["class", "iou"], "data": [["sky", 0.75]]}


def test_the_study_s_run_has_its_files_and_the_best_so_far(folder: StudyFolder) -> None:
    for number, value in enumerate((0.25, 0.75, 0.5)):
        end(begin(folder, number), objective=value)
    write_json(folder.summary, {"study": "a study"})
    mirror = Mirror(LOCAL, folder)
    mirror.sync()
    client, run = mirror.store.client, runs(mirror)["a study"]
    best = [point.value for point in client.get_metric_history(run.info.run_id, "best/val/miou")]
    files = [file.path for file in client.list_artifacts(run.info.run_id)]
    assert (best, files, run.data.tags["guidedmix.best"]) == (
        [0.25, 0.75, 0.75],
        ["study.yaml", "summary.json"],
        "trial 1",
    )


def test_a_file_written_later_is_replaced(folder: StudyFolder) -> None:
    folder.report.write_text("old")
    (mirror := Mirror(LOCAL, folder)).sync()
    folder.report.write_text("new")
    mirror.sync()
    (stored,) = folder.mlflow_artifacts.glob("*/artifacts/report.html")
    assert stored.read_text() == "new"


def test_a_finished_study_says_so_and_an_interrupted_one_does_not(folder: StudyFolder) -> None:
    mirror = Mirror(LOCAL, folder)
    mirror.sync()
    before = runs(mirror)["a study"].info.status
    folder.append({"event": "study_ended"})
    mirror.sync()
    assert (before, runs(mirror)["a study"].info.status) == ("KILLED", "FINISHED")


def test_a_single_run_has_no_journal_and_is_finished_with_its_trial(folder: StudyFolder) -> None:
    folder.journal.unlink()
    trial = begin(folder)
    mirror = Mirror(LOCAL, folder)
    mirror.sync()
    before = runs(mirror)["a study"].info.status
    end(trial)
    mirror.sync()
    assert (before, runs(mirror)["a study"].info.status) == ("KILLED", "FINISHED")


def test_a_reference_is_named_by_its_label(folder: StudyFolder) -> None:
    end(begin(folder, role="reference", label="supervised"))
    (mirror := Mirror(LOCAL, folder)).sync()
    assert set(runs(mirror)) == {"a study", "supervised (reference)"}


def test_twice_is_once(folder: StudyFolder) -> None:
    end(begin(folder, 0))
    begin(folder, 1)
    Mirror(LOCAL, folder).sync()
    mirror = Mirror(LOCAL, folder)
    mirror.sync()
    mirror.sync()
    assert (len(runs(mirror)), steps(mirror), steps(mirror, "trial 1")) == (3, [10, 20], [10, 20])


def test_a_run_made_but_not_noted_is_found_again(folder: StudyFolder) -> None:
    trial = begin(folder)
    (mirror := Mirror(LOCAL, folder)).sync({trial.fingerprint}, is_over=False)
    before = read_json(trial.mlflow)["run_id"]
    forget(trial)
    (mirror := Mirror(LOCAL, folder)).sync()
    assert (read_json(trial.mlflow)["run_id"], len(runs(mirror)), steps(mirror)) == (before, 2, [10, 20])


def test_a_run_whose_making_seemed_to_fail_is_not_made_again(folder: StudyFolder) -> None:
    trial = begin(folder)
    mirror = Mirror(LOCAL, folder)
    make = mirror.store.client.create_run

    def make_and_fail(*args: Any, **options: Any) -> None:
        make(*args, **options)
        raise TimeoutError("the answer was lost")

    mirror.store.client.create_run = make_and_fail
    with pytest.raises(TimeoutError):
        mirror.sync()
    mirror.sync()
    assert (len(runs(mirror)), read_json(trial.mlflow)["state"]) == (2, "interrupted")


def test_the_study_s_run_made_but_not_noted_is_found_again(folder: StudyFolder) -> None:
    run = Mirror(LOCAL, folder).run
    known = read_json(folder.path / "mlflow.json")
    write_json(folder.path / "mlflow.json", {"uri": known["uri"], "key": known["key"], "files": {}})
    assert Mirror(LOCAL, folder).run == run


def test_metrics_accepted_but_not_noted_are_not_logged_again(folder: StudyFolder) -> None:
    trial = begin(folder)
    Mirror(LOCAL, folder).sync({trial.fingerprint}, is_over=False)
    write_json(trial.mlflow, {**read_json(trial.mlflow), "cursor": 0})
    (mirror := Mirror(LOCAL, folder)).sync()
    assert steps(mirror) == [10, 20]


def test_a_run_that_went_back_to_its_checkpoint_repeats_no_step(folder: StudyFolder) -> None:
    trial = begin(folder)
    (mirror := Mirror(LOCAL, folder)).sync({trial.fingerprint}, is_over=False)
    write_lines(trial.metrics, [json.loads(trial.metrics.read_text().splitlines()[0])])
    mirror.sync({trial.fingerprint}, is_over=False)
    report(trial, 20, 0.5)
    report(trial, 30, 0.5)
    mirror.sync({trial.fingerprint}, is_over=False)
    assert steps(mirror) == [10, 20, 30]


def test_what_a_killed_driver_left_running_is_closed_at_the_next_start(folder: StudyFolder) -> None:
    trial = begin(folder)
    Mirror(LOCAL, folder).sync({trial.fingerprint}, is_over=False)
    mirror = Mirror(LOCAL, folder)
    mirror.sync(is_over=False)
    run = runs(mirror)["trial 0"]
    assert (run.info.status, run.data.tags["guidedmix.state"]) == ("KILLED", "interrupted")


def test_a_run_without_a_trial_is_closed_at_the_next_start(folder: StudyFolder) -> None:
    trial = begin(folder)
    Mirror(LOCAL, folder).sync({trial.fingerprint}, is_over=False)
    shutil.rmtree(trial.path)
    assert runs(Mirror(LOCAL, folder))["trial 0"].info.status == "KILLED"


def test_an_interrupted_trial_goes_on_in_its_run(folder: StudyFolder) -> None:
    trial = begin(folder)
    Mirror(LOCAL, folder).sync()
    report(trial, 30, 0.5)
    mirror = Mirror(LOCAL, folder)
    mirror.sync({trial.fingerprint}, is_over=False)
    run = runs(mirror)["trial 0"]
    found = (run.info.status, run.data.tags["guidedmix.state"], steps(mirror), len(runs(mirror)))
    assert found == ("RUNNING", "running", [10, 20, 30], 2)


def begin_anew(trial: TrialFolder, *values: float) -> None:
    """What the trial was is put aside; from its first step on it finds other values."""
    environment = read_json(trial.environment)
    put_aside(trial, goes_on=False)
    write_json(trial.environment, environment)
    for step, value in zip((10, 20), values, strict=False):
        report(trial, step, value)


def values(mirror: Mirror, run: Run) -> list[tuple[int, float]]:
    history = mirror.store.client.get_metric_history(run.info.run_id, "val/miou")
    return [(point.step, point.value) for point in history]


@pytest.mark.parametrize("heard", ["its end", "that it runs"])
def test_a_trial_that_begins_anew_is_another_run_with_its_own_curve(folder: StudyFolder, heard: str) -> None:
    trial = begin(folder)
    if heard == "its end":
        end(trial, "failed")
        Mirror(LOCAL, folder).sync()
    else:
        Mirror(LOCAL, folder).sync({trial.fingerprint}, is_over=False)
        end(trial, "failed")
    before = read_json(trial.mlflow)["run_id"]
    begin_anew(trial, 0.75, 1.0)
    end(trial)
    (mirror := Mirror(LOCAL, folder)).sync()
    now, old = (mirror.store.client.get_run(run) for run in (read_json(trial.mlflow)["run_id"], before))
    assert (values(mirror, now), now.info.status) == ([(10, 0.75), (20, 1.0)], "FINISHED")
    assert (now.data.tags["guidedmix.attempt"], "guidedmix.failure" in now.data.tags) == ("2", False)
    assert (values(mirror, old), old.info.status) == ([(10, 0.25), (20, 0.5)], "FAILED")
    assert (old.data.tags["guidedmix.role"], old.data.tags["guidedmix.state"]) == ("attempt", "failed")


def test_micro_batches_that_are_halved_while_the_window_looks_are_another_run(folder: StudyFolder) -> None:
    trial, mirror = begin(folder), Mirror(LOCAL, folder)
    mirror.sync({trial.fingerprint}, is_over=False)
    before = read_json(trial.mlflow)["run_id"]
    begin_anew(trial, 0.75)
    assert mirror.count_pending() == 1
    mirror.sync({trial.fingerprint}, is_over=False)
    report(trial, 20, 1.0)
    end(trial)
    mirror.sync()
    Mirror(LOCAL, folder).sync()
    now = mirror.store.client.get_run(read_json(trial.mlflow)["run_id"])
    assert (values(mirror, now), now.info.status) == ([(10, 0.75), (20, 1.0)], "FINISHED")
    assert (mirror.store.client.get_run(before).info.status, len(mirror.store.runs(mirror.key))) == ("FAILED", 3)


def test_a_trial_that_goes_on_after_a_failure_ends_well_in_the_same_run(folder: StudyFolder) -> None:
    end(trial := begin(folder), "failed")
    Mirror(LOCAL, folder).sync()
    before = read_json(trial.mlflow)["run_id"]
    put_aside(trial, goes_on=True)
    report(trial, 30, 0.75)
    end(trial)
    (mirror := Mirror(LOCAL, folder)).sync()
    run = runs(mirror)["trial 0"]
    assert (run.info.run_id, run.info.status, steps(mirror)) == (before, "FINISHED", [10, 20, 30])
    assert not {"guidedmix.failure", "guidedmix.failure.message"} & set(run.data.tags)


def test_a_lost_database_is_made_anew(folder: StudyFolder, database: Path) -> None:
    end(begin(folder))
    Mirror(LOCAL, folder).sync()
    shutil.copyfile(database, folder.mlflow_db)
    (mirror := Mirror(LOCAL, folder)).sync()
    assert (steps(mirror), runs(mirror)["trial 0"].info.status) == ([10, 20], "FINISHED")


def test_a_study_that_was_moved_keeps_its_pictures_with_it(folder: StudyFolder, tmp_path: Path) -> None:
    end(begin(folder))
    Mirror(LOCAL, folder).sync()
    (tmp_path / "elsewhere").mkdir()
    moved = StudyFolder(shutil.move(folder.path, tmp_path / "elsewhere"))
    shutil.rmtree(moved.mlflow_artifacts)
    (mirror := Mirror(LOCAL, moved)).sync()
    assert (len(list(moved.mlflow_artifacts.glob("*/artifacts/config.yaml"))), folder.path.exists()) == (1, False)
    assert runs(mirror)["trial 0"].info.status == "FINISHED"


def test_what_was_not_finite_is_nan(folder: StudyFolder) -> None:
    trial = begin(folder)
    report(trial, 30, None)
    (mirror := Mirror(LOCAL, folder)).sync()
    assert math.isnan(runs(mirror)["trial 0"].data.metrics["val/miou"])


@pytest.mark.parametrize("name", ["bike & car", "a+b", "..", "", "straße", "50%", "void/", "//", "x" * 300, "[wall]"])
def test_any_class_name_is_a_metric(folder: StudyFolder, name: str) -> None:
    report(begin(folder), 30, 0.5, **{f"val/iou/{name}": 0.125})
    (mirror := Mirror(LOCAL, folder)).sync()
    assert runs(mirror)["trial 0"].data.metrics[metric_name(f"val/iou/{name}")] == 0.125


def test_class_names_that_differ_in_signs_only_stay_apart() -> None:
    assert len({metric_name(name) for name in ("a+b", "a-b", "a&b", "a b", "a_b")}) == 5


def test_what_was_best_after_each_of_many_trials_costs_a_look_at_each(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        end(begin(folder, number), objective=0.5)
    mirror, looks = Mirror(LOCAL, folder), []

    def counted(records: Iterable[TrialRecord], objective: Objective) -> TrialRecord | None:
        looks.extend(records := [*records])
        return best(records, objective)

    monkeypatch.setattr(mlflow_mirror, "best", counted)
    mirror.sync()
    assert len(looks) <= 40


def test_more_metrics_than_a_request_may_have_all_arrive(folder: StudyFolder) -> None:
    report(begin(folder), 30, 0.5, **{f"pseudo/recall/{i}": 0.5 for i in range(1500)})
    (mirror := Mirror(LOCAL, folder)).sync()
    assert len(runs(mirror)["trial 0"].data.metrics) == 1502


def test_a_trial_that_mlflow_refuses_holds_up_no_other(folder: StudyFolder) -> None:
    begin(folder, 0).config.write_text("method: [")
    end(begin(folder, 1))
    mirror = Mirror(LOCAL, folder)
    with pytest.raises(yaml.YAMLError):
        mirror.sync()
    assert (runs(mirror)["trial 1"].info.status, mirror.count_pending()) == ("FINISHED", 1)


def test_a_server_that_is_away_at_the_start_is_a_wrong_request(folder: StudyFolder) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"http://user:secret@127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(ConfigError, match=r"=http://127.*: Connection refused; .*tracking\.mlflow=null") as raised:
            Mirror(uri, folder)
    assert "secret" not in str(raised.value) + (folder.path / "mlflow.json").read_text()


def test_an_address_that_mlflow_does_not_know_is_a_wrong_request(folder: StudyFolder) -> None:
    with pytest.raises(ConfigError, match=r"tracking\.mlflow=ftp://nowhere"):
        Mirror("ftp://nowhere", folder)


def test_a_study_that_could_not_begin_can_be_ended(folder: StudyFolder) -> None:
    window = MlflowWindow("ftp://nowhere", folder)
    with pytest.raises(ConfigError):
        window.study_started(None, folder)
    window.study_ended()


@pytest.fixture
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "INTERVAL", 0.01)
    monkeypatch.setattr(tracking, "LAST_PAUSES", (0.01,))


@pytest.mark.usefixtures("_no_pauses")
def test_a_window_shows_the_study_and_leaves_nothing_running(folder: StudyFolder) -> None:
    window = MlflowWindow(LOCAL, folder)
    window.study_started(None, folder)
    done, cut = begin(folder, 0), begin(folder, 1)
    for trial in (done, cut):
        window.trial_started(load_trial(trial))
    window.trial_reported(load_trial(done), {"step": 20})
    end(done)
    window.trial_ended(load_trial(done))
    window.study_ended()
    found = {name: run.info.status for name, run in runs(Mirror(LOCAL, folder)).items()}
    assert found == {"a study": "KILLED", "trial 0": "FINISHED", "trial 1": "KILLED"}


@pytest.mark.usefixtures("_no_pauses")
def test_a_store_that_goes_away_is_said_and_loses_nothing(
    folder: StudyFolder, caplog: pytest.LogCaptureFixture
) -> None:
    window = MlflowWindow(LOCAL, folder)
    window.study_started(None, folder)
    trial = begin(folder)
    away = folder.mlflow_db.rename(folder.path / "away.db")
    with caplog.at_level(logging.WARNING, "orchestrator.tracking"):
        window.trial_started(load_trial(trial))
        end(trial)
        window.trial_ended(load_trial(trial))
        window.study_ended()
    last = caplog.messages[-1]
    assert (window.pending, "lacks 1 of 1 trials" in last, "\n" in last) == (1, True, False)
    away.replace(folder.mlflow_db)
    (mirror := Mirror(LOCAL, folder)).sync()
    assert (runs(mirror)["trial 0"].info.status, steps(mirror)) == ("FINISHED", [10, 20])


@pytest.mark.usefixtures("_no_pauses")
def test_a_study_goes_on_while_the_store_that_has_it_is_away(
    folder: StudyFolder, caplog: pytest.LogCaptureFixture
) -> None:
    end(begin(folder, 0))
    Mirror(LOCAL, folder).sync()
    trial = begin(folder, 1)
    away = folder.mlflow_db.rename(folder.path / "away.db")
    folder.mlflow_db.mkdir()
    window = MlflowWindow(LOCAL, folder)
    with caplog.at_level(logging.WARNING, "orchestrator.tracking"):
        window.study_started(None, folder)
        end(trial)
        window.trial_ended(load_trial(trial))
        window.study_ended()
    assert (window.pending, "lacks 1 of 2 trials" in caplog.messages[-1]) == (1, True)
    folder.mlflow_db.rmdir()
    away.replace(folder.mlflow_db)
    window.catch_up()
    assert (window.pending, steps(Mirror(LOCAL, folder), "trial 1")) == (0, [10, 20])


@pytest.mark.usefixtures("_no_pauses")
def test_a_store_that_comes_back_has_everything_at_the_end(folder: StudyFolder) -> None:
    window = MlflowWindow(LOCAL, folder)
    window.study_started(None, folder)
    trial = begin(folder)
    away = folder.mlflow_db.rename(folder.path / "away.db")
    window.trial_started(load_trial(trial))
    end(trial)
    away.replace(folder.mlflow_db)
    window.trial_ended(load_trial(trial))
    window.study_ended()
    assert (window.pending, runs(Mirror(LOCAL, folder))["trial 0"].info.status) == (0, "FINISHED")


def test_the_ui_of_a_study_without_mlflow_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not tracked by MLflow"):
        start_ui(study(tmp_path / "plain"), 5000)


def test_the_ui_says_that_its_port_is_taken(folder: StudyFolder) -> None:
    Mirror(LOCAL, folder)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port={port}: Address already in use; .* --port {port + 1}"):
            start_ui(folder, port)


def test_the_ui_opens_with_trials_ranked_and_what_was_searched(folder: StudyFolder) -> None:
    mirror = Mirror(LOCAL, folder)
    tags = mirror.store.client.get_experiment(mirror.store.experiment).tags
    view = json.loads(tags["mlflow.sharedViewState.guidedmix"])
    assert (view["orderByKey"], view["selectedColumns"][-1]) == ("metrics.`val/miou`", "params.`method.threshold`")
