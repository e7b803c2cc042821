"""A tracking server: killed and started again, on PostgreSQL, and one that wants a login."""

from __future__ import annotations

import logging
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from guidedmix_core import ConfigError
from orchestrator import tracking
from orchestrator.folder import StudyFolder, read_json
from orchestrator.mlflow_mirror import Mirror
from orchestrator.results import load_trial
from orchestrator.tracking import MlflowWindow, tracker
from tests.mlflow_server import mlflow_server, postgres
from tests.orchestrator.test_tracking import begin, draw_panel, end, report, runs, steps, study

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return study(tmp_path / "a study")


def wait_until_noted(folder: StudyFolder, step: int) -> None:
    """The window's thread has sent so many steps of the only trial."""
    deadline = time.monotonic() + 60
    while not (file := folder.trials()[0].mlflow).exists() or (read_json(file)["cursor"] or 0) < step:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.timeout(600)
def test_a_server_that_is_killed_and_comes_back_has_everything_once_and_in_order(
    folder: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracking, "INTERVAL", 0.05)
    monkeypatch.setattr(tracking, "LONGEST_PAUSE", 0.5)
    with mlflow_server(tmp_path) as server, caplog.at_level(logging.WARNING, "orchestrator.tracking"):
        window = MlflowWindow(server.uri, folder)
        window.study_started(None, folder)
        trial = begin(folder)
        window.trial_started(load_trial(trial))
        wait_until_noted(folder, 20)
        server.kill()
        for step in (30, 40):
            report(trial, step, step / 100)
            window.trial_reported(load_trial(trial), {"step": step})
            time.sleep(0.3)
        server.start()
        report(trial, 50, 0.5)
        window.trial_reported(load_trial(trial), {"step": 50})
        wait_until_noted(folder, 50)
        draw_panel(trial)
        end(trial)
        window.trial_ended(load_trial(trial))
        window.study_ended()
        mirror = Mirror(server.uri, folder)
        assert sorted(runs(mirror)) == ["a study", "trial 0"]
        assert steps(mirror) == [10, 20, 30, 40, 50]
        run = runs(mirror)["trial 0"].info
        history = mirror.store.client.get_metric_history(run.run_id, "val/miou")
        assert (run.status, window.pending) == ("FINISHED", 0)
        files = {file.path for file in mirror.store.client.list_artifacts(run.run_id)}
    assert [point.value for point in history] == [0.25, 0.5, 0.3, 0.4, 0.5]
    assert [point.timestamp for point in history] == sorted(point.timestamp for point in history)
    assert files == {"class_iou.json", "config.yaml", "environment.json", "panels"}
    assert not folder.mlflow_artifacts.exists(), "artifacts go through the server"
    assert [message for message in caplog.messages if "MLflow will catch up" in message] == caplog.messages[:1]


@pytest.mark.timeout(600)
def test_a_server_on_postgresql_has_what_the_folder_has(folder: StudyFolder, tmp_path: Path) -> None:
    trial = begin(folder)
    report(trial, 30, None)
    end(trial)
    with postgres(tmp_path) as database, mlflow_server(tmp_path, database) as server:
        Mirror(server.uri, folder).sync()
        for file in (trial.mlflow, folder.path / "mlflow.json"):  # as another machine that has never synced
            file.rename(file.with_suffix(".gone"))
        (folder.path / "mlflow.gone").rename(folder.path / "mlflow.json")
        mirror = Mirror(server.uri, folder)
        mirror.sync()
        assert sorted(runs(mirror)) == ["a study", "trial 0"]
        assert (steps(mirror), runs(mirror)["trial 0"].info.status) == ([10, 20, 30], "FINISHED")


class Door(BaseHTTPRequestHandler):
    """Lets nobody in, and remembers what they said."""

    heard: list[str | None]

    def do_GET(self) -> None:
        self.heard.append(self.headers["Authorization"])
        self.send_response(401)
        self.end_headers()
        self.wfile.write(b"You are not authenticated")

    def log_message(self, *words: object) -> None:
        return


@pytest.fixture
def door() -> Iterator[str]:
    Door.heard = []
    with HTTPServer(("127.0.0.1", 0), Door) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("way", ["password", "token"])
def test_a_login_is_taken_from_the_environment_and_never_shown(
    folder: StudyFolder, door: str, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "token":
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "hush")
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hush")
    with pytest.raises(ConfigError, match=r"lets nobody in .* MLFLOW_TRACKING_TOKEN, in the environment") as raised:
        Mirror(door, folder)
    said = {"token": "Bearer hush", "password": f"Basic {b64encode(b'me:hush').decode()}"}
    assert Door.heard[0] == said[way]
    assert "hush" not in str(raised.value)
    assert not [file for file in folder.path.rglob("*") if file.is_file() and b"hush" in file.read_bytes()]


def test_auto_is_the_server_of_the_environment(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.org:5000")
    assert [window.uri for window in tracker("auto", folder)] == ["http://example.org:5000"]
    assert [window.uri for window in tracker("sqlite:///mine.db", folder)] == ["sqlite:///mine.db"]
    assert tracker(None, folder) == []


def test_auto_is_a_database_in_the_folder_without_one(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert [window.uri for window in tracker("auto", folder)] == ["sqlite:///{study}/mlflow.db"]
