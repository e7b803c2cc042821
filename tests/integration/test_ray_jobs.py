"""Jobs on a real head with its dashboard, which asks for a token: handed in, followed, stopped, gone on with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
import yaml
from mlflow import MlflowClient

from orchestrator import cli
from orchestrator.clusters import read_cluster
from orchestrator.folder import StudyFolder, read_lines
from orchestrator.jobs import Jobs
from orchestrator.results import load_trials
from orchestrator.submission import Submission, environment
from tests.runs import SMALL

pytestmark = [
    pytest.mark.timeout(900),  # a Ray starts slowly on a busy machine
    pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning"),  # Ray's use of aiohttp
]

ROOT = Path(__file__).parents[2]
TOKEN, PASSWORD = "planted-token-5e1f7ab2", "planted-password-90c4d3"
ABLATION = {
    "base": "small.yaml",
    "reference": "usual",
    "cells": {"usual": {}},
    "blocks": {"seed": [0, 1]},
    "scaling": {"gpus_per_worker": 0, "concurrent": 1},
}
LONG = "train.steps=450 evaluate.every=50 evaluate.telemetry_images=0 blocks.seed=[0]"  # a run looks once a second


@dataclass(frozen=True)
class Started:
    """A head, and the place on this machine from which is submitted."""

    address: str
    temp: Path
    work: Path
    token: Path
    variables: dict[str, str]
    told: dict[str, str]
    """What following a job showed, by its study."""
    start: Callable[[], subprocess.Popen[bytes]]
    running: list[subprocess.Popen[bytes]]

    def restart(self) -> None:
        """After a death without a word, with all its processes; a new one answers at the same address."""
        os.killpg(self.running[-1].pid, signal.SIGKILL)
        self.running.pop().wait()
        self.running.append(self.start())
        _wait(lambda: _answers(self.address))

    def study(self, name: str) -> StudyFolder:
        return StudyFolder(self.work.parent / "storage" / name)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    place = tmp_path_factory.mktemp("jobs")
    (work := place / "work").mkdir()
    (token := place / "token").write_text(f"{TOKEN}\n")
    token.chmod(0o600)
    port, dashboard, client, agent = _free_ports(4)
    address = f"http://127.0.0.1:{dashboard}"
    (work / "small.yaml").write_text(yaml.safe_dump(SMALL))
    (work / "labels.yaml").write_text(yaml.safe_dump(ABLATION, sort_keys=False))
    cluster = {"kind": "ray_job", "dashboard": address, "storage": str(place / "storage")}
    (work / "here.yaml").write_text(yaml.safe_dump({**cluster, "secrets": ["MLFLOW_TRACKING_PASSWORD"]}))
    (work / "lacking.yaml").write_text(yaml.safe_dump({**cluster, "secrets": ["NOBODY_HAS_SET_THIS"]}))
    temp = Path(tempfile.mkdtemp(prefix="gmx", dir="/tmp"))  # Ray's sockets allow no long path
    variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
    secrets = {"MLFLOW_TRACKING_PASSWORD": PASSWORD, "AWS_SECRET_ACCESS_KEY": PASSWORD}
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    options = {
        "port": port,
        "dashboard-host": "127.0.0.1",
        "dashboard-port": dashboard,
        "ray-client-server-port": client,
        "dashboard-agent-listen-port": agent,
        "node-ip-address": "127.0.0.1",
        "temp-dir": temp,
        "num-cpus": 2,
        "num-gpus": 0,
        "object-store-memory": 10**8,
    }

    def start() -> subprocess.Popen[bytes]:
        with (place / "head.log").open("a") as log:
            return subprocess.Popen(
                [shutil.which("ray", path=path["PATH"]) or "ray", "start", "--head", "--block"]
                + [f"--{name}={value}" for name, value in options.items()],
                env={**os.environ, **variables, **secrets, **path, "HOME": str(place)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    running = [start()]
    try:
        _wait(lambda: _answers(address))
        yield Started(address, temp, work, token, variables, {}, start, running)
    finally:
        running[-1].send_signal(signal.SIGTERM)  # with --block it takes all of its Ray along
        running[-1].wait()
        shutil.rmtree(temp, ignore_errors=True)


@pytest.fixture
def call(head: Started, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """The exit code of a command line, typed where the files are by someone who has the token."""
    monkeypatch.chdir(head.work)
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(head.token))

    def call(command: str) -> int:
        monkeypatch.setattr("sys.argv", ["guidedmix", *command.split()])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return int(left.value.code or 0)

    return call


@pytest.fixture
def finished(head: Started, call: Callable[[str], int], capfd: pytest.CaptureFixture[str]) -> str:
    """What following the submission of `small` showed. It is made once."""
    if "small" not in head.told:
        assert call("submit ablate labels.yaml --cluster here.yaml --study small --follow") == 0
        head.told["small"] = capfd.readouterr().out
    return head.told["small"]


def test_a_dry_run_shows_what_would_be_sent_and_sends_nothing(head: Started, call, capfd) -> None:
    (head.work / "studies").mkdir(exist_ok=True)
    (head.work / "studies" / "old.txt").write_text("a result")
    assert call("submit ablate labels.yaml --cluster here.yaml --study never --dry-run") == 0
    said = capfd.readouterr().out
    assert "4 files" in said
    assert "left out   studies/" in said
    assert f"guidedmix ablate labels.yaml --study {head.study('never').path}" in said
    assert "1 node, 0 GPUs" in said
    assert f"token, from {head.token}" in said
    assert "MLFLOW_TRACKING_PASSWORD: must be set on the nodes; not sent" in said
    assert call("jobs --cluster here.yaml") == 0
    assert "never" not in capfd.readouterr().out


def test_a_study_is_submitted_followed_and_submitted_again_without_a_run_made_twice(
    head, call, finished, capfd
) -> None:
    folder = head.study("small")
    assert "usual · seed 1: complete" in finished
    assert "Ray 2." in finished
    assert [record.state for record in load_trials(folder)] == ["complete", "complete"]
    begun = [event for event in folder.events() if event["event"] == "trial_started"]
    assert call("submit ablate labels.yaml --cluster here.yaml --study small --follow") == 0
    assert "small: 2 of 2 already done" in capfd.readouterr().out
    assert [event for event in folder.events() if event["event"] == "trial_started"] == begun
    assert call("logs small --cluster here.yaml") == 0
    assert "small: 2 of 2 already done" in capfd.readouterr().out
    assert call("jobs --cluster here.yaml") == 0
    assert "succeeded" in capfd.readouterr().out


def test_a_study_that_is_stopped_saves_where_it_is_and_is_gone_on_with(head: Started, call, capfd) -> None:
    folder = head.study("long")
    submit = f"submit ablate labels.yaml {LONG} --cluster here.yaml --study long"
    assert call(submit) == 0
    _wait(lambda: any(read_lines(trial.metrics) for trial in folder.trials()))
    job = job_in(capfd.readouterr().out)
    assert call(submit) == 0
    assert job == job_in(said := capfd.readouterr().out)
    assert "long is running already" in said
    assert call(f"{submit} optim.lr=0.1") == 2
    assert f"{job} is at it, with another command" in capfd.readouterr().err.replace("\n", " ")

    assert call("stop long --cluster here.yaml") == 0
    said = capfd.readouterr().out
    assert f"{job}: stopped" in said
    assert "Runs saved where they were" in said
    assert [event["event"] for event in folder.events()][-1] == "trial_left"
    assert "RUNNING" not in statuses_in_mlflow(folder)

    assert call(f"{submit} --follow") == 0
    (trial,) = folder.trials()
    assert [record.state for record in load_trials(folder)] == ["complete"]
    assert [row["step"] for row in read_lines(trial.metrics)] == list(range(50, 451, 50))


def test_a_job_gets_more_than_rays_three_seconds_to_leave(head: Started, call, capfd) -> None:
    jobs = Jobs(cluster := read_cluster("here.yaml"), "here.yaml")
    command = "trap 'sleep 6; echo saved; exit' TERM; echo ready; while true; do sleep 0.2; done"
    job = jobs.submit(Submission("slow", "/nowhere/slow", command, environment(cluster)), head.work)
    _wait(lambda: "\nready" in jobs.log(job))
    assert call("stop slow --cluster here.yaml") == 0
    said = capfd.readouterr().out
    assert "stopped" in said
    assert "saved" in said


def test_a_single_run_is_a_job_of_one_cpu(head: Started, call, capfd) -> None:
    assert call("submit train small.yaml --cluster here.yaml --study one --follow") == 0
    assert [record.state for record in load_trials(head.study("one"))] == ["complete"]


def test_a_wrong_token_and_none_are_refused_in_plain_words(head: Started, call, capfd, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-another-cluster")
    assert call("jobs --cluster here.yaml") == 2
    assert "the token of $RAY_AUTH_TOKEN is not the cluster's" in capfd.readouterr().err
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "nowhere"))
    assert call("jobs --cluster here.yaml") == 2
    assert "nowhere: no token there (No such file or directory)" in capfd.readouterr().err


def test_a_job_without_its_secret_ends_before_the_study_begins(head: Started, call, capfd) -> None:
    assert call("submit ablate labels.yaml --cluster lacking.yaml --study lacking --follow") == 2
    assert "NOBODY_HAS_SET_THIS: not set where this job runs" in capfd.readouterr().out
    assert not head.study("lacking").path.exists()


def test_rays_own_command_does_the_same(head: Started, finished: str) -> None:
    command = ["ray", "job", "submit", "--address", head.address, "--working-dir", ".", "--"]
    verb = ["guidedmix", "ablate", "labels.yaml", "--study", str(head.study("small").path)]
    environment = {**os.environ, **head.variables, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    said = subprocess.run([*command, *verb], cwd=head.work, env=environment, capture_output=True, text=True, check=True)
    assert "small: 2 of 2 already done" in said.stdout


def test_no_secret_is_in_any_file_of_a_study_nor_in_what_the_cluster_tells_of_its_jobs(head, finished: str) -> None:
    jobs = requests.get(f"{head.address}/api/jobs/", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60)
    details = json.loads(jobs.text)
    assert any(job["submission_id"].startswith("small-") for job in details)
    files = [file for file in (head.work.parent / "storage").rglob("*") if file.is_file()]
    logs = list(head.temp.glob("session_*/logs/**/job-driver-*.log"))
    assert {"study.yaml", "journal.jsonl", "mlflow.db", "environment.json", "report.html"} <= {f.name for f in files}
    assert logs
    for secret in (TOKEN, PASSWORD):
        assert secret not in jobs.text
        assert secret not in finished
        assert [file for file in [*files, *logs] if secret.encode() in file.read_bytes()] == []


def test_a_study_goes_on_on_the_head_that_comes_after_one_that_died(head: Started, call, capfd) -> None:
    command = f"submit ablate labels.yaml {LONG} --cluster here.yaml --study orphan"
    assert call(command) == 0
    study = head.study("orphan")
    _wait(lambda: any(read_lines(trial.metrics) for trial in study.trials()))
    head.restart()
    assert call(f"{command} --follow") == 0
    (record,) = load_trials(study)
    assert record.state == "complete"
    assert [row["step"] for row in read_lines(study.trial(record.fingerprint).metrics)] == list(range(50, 451, 50))
    assert [event["event"] for event in study.events()].count("trial_ended") == 1
    assert statuses_in_mlflow(study) == {"FINISHED"}


def job_in(said: str) -> str:
    """The id in what `submit` has printed."""
    return next(line.split()[1] for line in said.splitlines() if line.startswith("job "))


def statuses_in_mlflow(folder: StudyFolder) -> set[str]:
    client = MlflowClient(f"sqlite:///{folder.mlflow_db.resolve()}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return {run.info.status for run in client.search_runs(experiments)}


def _wait(is_so: Callable[[], bool]) -> None:
    while not is_so():  # the test's own limit ends it
        time.sleep(0.2)


def _answers(address: str) -> bool:
    try:
        found = requests.get(f"{address}/api/v0/nodes", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10)
        return bool(found.json()["data"]["result"]["result"])
    except (requests.ConnectionError, ValueError, KeyError):
        return False


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    try:
        return [found.getsockname()[1] for found in sockets]
    finally:
        for found in sockets:
            found.close()
