"""A search on Ray Tune, with a real Ray: it gives what the inline executor gives, through every kind of death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from ray.util.placement_group import placement_group_table

from guidedmix_core import ConfigError, Tree, build
from orchestrator import ray_session
from orchestrator.ablation import AblationStudy
from orchestrator.executors import inline, ray_tune
from orchestrator.folder import StudyFolder, read_lines
from orchestrator.listeners import Listener
from orchestrator.results import TrialRecord, load_trials
from orchestrator.scaling import Group, at_once
from orchestrator.study import SearchStudy
from orchestrator.tracking import tracker
from tests.runs import small_tree

pytestmark = [
    pytest.mark.timeout(900),  # a Ray starts slowly on a busy machine
]

POINTS = [{"optim.lr": lr} for lr in (0.01, 1e-7, 1e30)]  # learns, lags behind, diverges
LONG = {"train.steps": 16, "evaluate.every": 4}


def study_of(points: list[dict[str, float]] = POINTS, **sections: Any) -> SearchStudy:
    """A search of just these points: one at a time if ASHA judges them, so that both executors judge alike."""
    search = {"sampler": "random", "trials": len(points), "start_from": points}
    scheduler = {"name": "asha", "first_rung": 0.25, "eta": 2}
    request = {"base": "small", "parameters": {"optim.lr": {"log": [1e-9, 1e32]}}, "search": search}
    return build(Tree({**request, "scheduler": scheduler, "scaling": {"concurrent": 1}, **sections}, {}), SearchStudy)


class Diary(Listener):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def trial_started(self, record: TrialRecord) -> None:
        self.calls.append(f"{record.number} started")

    def trial_reported(self, record: TrialRecord, metrics: Any) -> None:
        self.calls.append(f"{record.number} reported {record.step}")

    def trial_ended(self, record: TrialRecord) -> None:
        self.calls.append(f"{record.number} {record.state}")


def outcomes(folder: StudyFolder) -> list[TrialRecord]:
    """All records, without what a clock measured and what MLflow named."""
    records = []
    for record in load_trials(folder):
        metrics = {name: value for name, value in record.metrics.items() if not name.startswith("time/")}
        unlike = {"seconds": 0, "best": None, "started": None, "ended": None, "mlflow_run_id": None}
        records.append(replace(record, metrics=metrics, **unlike))
    return records


@pytest.fixture(scope="module", autouse=True)
def ray_runs() -> Iterator[None]:
    """One Ray for all tests of this file, as for a study that joins one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # what a worker of one CPU gets: sums of floats depend on it
    with ray_session.cluster():
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[StudyFolder, Diary]]:
    """The same study by both executors."""
    made = {}
    for executor in (inline, ray_tune):
        folder, diary = StudyFolder(tmp_path_factory.mktemp("studies") / "demo"), Diary()
        executor.run(study_of(), small_tree(LONG), folder, [diary], "cpu")
        made[executor.__name__.rpartition(".")[2]] = folder, diary
    return made


def test_every_number_is_that_of_the_inline_executor(both: dict[str, tuple[StudyFolder, Diary]]) -> None:
    assert outcomes(both["ray_tune"][0]) == outcomes(both["inline"][0])
    assert [record.state for record in outcomes(both["inline"][0])] == ["complete", "stopped", "failed"]


def test_listeners_hear_each_event_in_order(both: dict[str, tuple[StudyFolder, Diary]]) -> None:
    assert both["ray_tune"][1].calls == both["inline"][1].calls


def test_an_ablation_gives_what_the_inline_executor_gives(tmp_path: Path) -> None:
    request = {"base": "small", "reference": "usual", "cells": {"usual": {}, "slow": {"optim.lr": 1e-5}}}
    study = build(Tree({**request, "blocks": {"seed": [0, 1]}, "scaling": {"concurrent": 2}}, {}), AblationStudy)
    folders = [StudyFolder(tmp_path / name / "demo") for name in ("inline", "ray")]
    for executor, folder in zip((inline, ray_tune), folders, strict=True):
        executor.run(study, small_tree(), folder, [], "cpu")
    assert outcomes(folders[1]) == outcomes(folders[0])
    assert [(record.cell, record.block) for record in outcomes(folders[1])] == [
        (cell, block) for block in (0, 1) for cell in ("usual", "slow")
    ]


def test_a_run_ends_at_the_report_that_stopped_it(both: dict[str, tuple[StudyFolder, Diary]]) -> None:
    folder, diary = both["ray_tune"]
    assert [call for call in diary.calls if call.startswith("1 ")] == ["1 started", "1 reported 4", "1 stopped"]
    stopped = folder.trial(load_trials(folder)[1].fingerprint)
    assert [row["step"] for row in read_lines(stopped.metrics)] == [4]


def test_a_run_that_diverges_is_failed_and_the_study_ends(both: dict[str, tuple[StudyFolder, Diary]]) -> None:
    folder, _ = both["ray_tune"]
    failed = load_trials(folder)[2]
    assert failed.failure is not None
    assert failed.failure["reason"] == "diverged"
    assert folder.events()[-1]["event"] == "study_ended"


def test_nothing_of_ray_is_left_behind(both: dict[str, tuple[StudyFolder, Diary]]) -> None:
    assert not (both["ray_tune"][0].path / ".ray").exists()
    assert {group["state"] for group in placement_group_table().values()} <= {"REMOVED"}


PAIR = [{"optim.lr": lr} for lr in (0.01, 0.02)]
STORE = "sqlite:///{study}/mlflow.db"
FREE = {"scheduler": {"name": "none"}, "scaling": {"concurrent": 2}}
KILLED = """
import os, signal, sys
from orchestrator import ray_session
from orchestrator.executors import ray_tune
from orchestrator.folder import StudyFolder
from orchestrator.listeners import Listener
from orchestrator.tracking import tracker
from tests.integration.test_ray_tune import FREE, LONG, PAIR, STORE, study_of
from tests.runs import small_tree

class Killer(Listener):
    reports = 0
    def trial_reported(self, record, metrics):
        self.reports += 1
        if self.reports == 3:
            os.kill(os.getpid(), signal.SIGKILL)

folder = StudyFolder(sys.argv[1])
ray_tune.run(study_of(PAIR, **FREE), small_tree(LONG), folder, [*tracker(STORE, folder), Killer()], "cpu")
"""


class Murderer(Listener):
    """Kills a worker of this process's Ray at the first report it hears."""

    victims = 0

    def trial_reported(self, record: TrialRecord, metrics: Any) -> None:
        if not self.victims:
            os.kill(worker_processes()[0], signal.SIGKILL)
            self.victims += 1


def worker_processes() -> list[int]:
    """Descendants of this process only: others may run a Ray on this machine, too."""
    listing = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [
        (int(pid), int(parent), name) for pid, parent, name in (row.split(maxsplit=2) for row in listing.splitlines())
    ]
    family = {os.getpid()}
    for _ in range(3):  # this process, its raylet, the raylet's workers
        family |= {pid for pid, parent, _ in rows if parent in family}
    return [pid for pid, _, name in rows if pid in family and name.startswith("ray::Implicit")]


def test_a_killed_driver_and_a_killed_worker_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    folder, whole = StudyFolder(tmp_path / "killed"), StudyFolder(tmp_path / "whole")
    driver = subprocess.Popen([sys.executable, "-c", KILLED, str(folder.path)], start_new_session=True)
    try:
        assert driver.wait() == -signal.SIGKILL
        murderer = Murderer()  # workers of the killed driver may still be at it; of the next ones, one dies too
        windows = tracker(STORE, folder)
        ray_tune.run(study_of(PAIR, **FREE), small_tree(LONG), folder, [*windows, murderer], "cpu")
    finally:
        with suppress(ProcessLookupError):  # what is left of the killed driver's Ray
            os.killpg(driver.pid, signal.SIGKILL)
    inline.run(study_of(PAIR, **FREE), small_tree(LONG), whole, [], "cpu")
    assert murderer.victims == 1
    assert outcomes(folder) == outcomes(whole)
    assert [event["number"] for event in folder.events() if event["event"] == "asked"] == [0, 1]
    assert sorted(event["number"] for event in folder.events() if event["event"] == "trial_ended") == [0, 1]
    for trial in folder.trials():
        assert [row["step"] for row in read_lines(trial.metrics)] == [4, 8, 12, 16]
    assert statuses_in_mlflow(folder) == {"study": ["FINISHED"], "trial": ["FINISHED", "FINISHED"]}
    assert trials_in_optuna(folder) == [(0, "COMPLETE", PAIR[0]), (1, "COMPLETE", PAIR[1])]


def statuses_in_mlflow(folder: StudyFolder) -> dict[str, list[str]]:
    """The status of every run there is, by role."""
    client = MlflowClient(f"sqlite:///{folder.mlflow_db.resolve()}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found: dict[str, list[str]] = {}
    for run in client.search_runs(experiments):
        found.setdefault(run.data.tags["guidedmix.role"], []).append(run.info.status)
    return found


def trials_in_optuna(folder: StudyFolder) -> list[tuple[int, str, dict[str, float]]]:
    storage = JournalStorage(JournalFileBackend(str(folder.optuna_journal)))
    (study,) = storage.get_all_studies()
    return [(trial.number, trial.state.name, trial.params) for trial in storage.get_all_trials(study._study_id)]


class Broken(Listener):
    def trial_reported(self, record: TrialRecord, metrics: Any) -> None:
        raise OSError("the disk is full")


def test_what_a_listener_raises_ends_the_study_and_is_no_failure_of_the_run(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "demo")
    with pytest.raises(OSError, match="the disk is full"):
        ray_tune.run(study_of(PAIR), small_tree(LONG), folder, [Broken()], "cpu")
    assert {record.state for record in load_trials(folder)} == {"running"}


def test_a_run_that_needs_more_than_this_machine_has_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"a run needs 2 workers of 1000 CPU each, the cluster has \d+ CPU; lower"):
        at_once(study_of().scaling, Group(workers=2, cpus=1000, gpus=0))
