"""Processes that Ray Tune loses: what is made of their errors, without a Ray."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle
from ray.air.execution._internal import RayActorManager, TrackedActor
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import ActorDiedError, OutOfMemoryError
from ray.tune.execution import tune_controller
from ray.tune.utils import flatten_dict

from orchestrator import scaling
from orchestrator.executors import ray_tune
from orchestrator.folder import StudyFolder
from orchestrator.proposals import Job
from orchestrator.trial import hand_out
from tests.runs import small_run

KILLED = OutOfMemoryError("1 worker(s) were killed due to the node running low on memory (0.96)\nTop 10 users: …")


class Resources:
    """Those of Ray's manager."""

    def free_resources(self, acquired_resource: Any) -> None:
        return


class Driver:
    """Remembers what it was told of its only run."""

    def __init__(self, job: Job) -> None:
        self.out = {job.fingerprint: job}
        self.told: list[Any] = []

    def reported(self, job: Job, step: int, metrics: dict[str, float]) -> bool:
        self.told = [step, metrics]
        return False

    def ended(self, job: Job, record: Any) -> None:
        self.told = [record]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    config, folder = small_run(), StudyFolder(tmp_path / "demo").trial("here")
    hand_out(folder, config)
    return Job(0, "trial", None, {}, config, folder)


def lost(job: Job, place: Path, error: Exception | None, words: str) -> Any:
    """Tune's trial after its last process, with the files that Tune has written."""
    (place / "error.txt").write_text(words)
    if error is not None:
        (place / "error.pkl").write_bytes(cloudpickle.dumps(error))
    files = {"error_file": str(place / "error.txt"), "pickled_error_file": str(place / "error.pkl")}
    return SimpleNamespace(config={"fingerprint": job.fingerprint}, **files)


def test_tune_asks_the_place_that_is_exchanged_for_its_actors_and_it_is_given_back() -> None:
    assert "RayActorManager" in tune_controller.TuneController.__init__.__code__.co_names
    assert tune_controller.RayActorManager is RayActorManager
    with ray_tune._mortal_actors():
        assert tune_controller.RayActorManager is ray_tune._Actors
    assert tune_controller.RayActorManager is RayActorManager


def test_a_process_that_ray_has_killed_for_memory_is_a_dead_actor_to_tune() -> None:
    heard: list[Exception] = []
    actors = ray_tune._Actors(Resources())  # pyright: ignore[reportArgumentType]
    for fail in ("start", "task"):
        actor = TrackedActor(0, on_error=lambda _, error: heard.append(error))
        actors._live_actors_to_ray_actors_resources[actor] = (None, None)  # pyright: ignore[reportArgumentType]
        if fail == "start":
            actors._actor_start_failed(actor, KILLED)
        else:
            actors._actor_task_failed(TrackedActorTask(actor), KILLED)
    assert [(type(error), str(error)) for error in heard] == [(ray_tune._MemoryFullError, str(KILLED))] * 2


def test_what_is_none_of_ray_s_errors_is_still_raised() -> None:
    task = TrackedActorTask(TrackedActor(0))
    with pytest.raises(RuntimeError, match="a mistake"):
        ray_tune._Actors(Resources())._actor_task_failed(task, ValueError("a mistake"))  # pyright: ignore[reportArgumentType]


def test_a_run_lost_for_memory_says_what_to_do_and_its_traceback_has_every_death(job: Job, tmp_path: Path) -> None:
    trial = lost(job, tmp_path, ray_tune._as_death(KILLED), "Failure # 1\nfirst\nFailure # 2\nsecond\n")
    ray_tune._Events(driver := Driver(job)).on_trial_error(0, [], trial)  # pyright: ignore[reportArgumentType]
    (record,) = driver.told
    assert record.failure["reason"] == "infrastructure"
    assert record.failure["message"] == (
        "ConnectionError: 1 worker(s) were killed due to the node running low on memory (0.96); run fewer at once "
        "(scaling.concurrent), or give each less: a smaller augment.crop or train.batch_size"
    )
    assert job.folder.traceback.read_text() == "Failure # 1\nfirst\nFailure # 2\nsecond\n"


@pytest.mark.parametrize("error", [ActorDiedError(), None])
def test_a_run_whose_processes_died_keeps_its_own_traceback_beside_theirs(
    job: Job, tmp_path: Path, error: Exception | None
) -> None:
    job.folder.traceback.write_text("where it was\n")
    trial = lost(job, tmp_path, error, "Failure # 1\n")
    ray_tune._Events(driver := Driver(job)).on_trial_error(0, [], trial)  # pyright: ignore[reportArgumentType]
    assert driver.told[0].failure["reason"] == "infrastructure"
    assert job.folder.traceback.read_text() == "where it was\n\nFailure # 1\n"


def test_tune_gets_one_number_a_report_and_the_driver_every_metric(job: Job) -> None:
    report = scaling._report(4, {"val/miou": 0.1 + 0.2, "val/iou/sky": math.inf})
    assert [value for value in flatten_dict(report).values() if not isinstance(value, str)] == [4]
    trial = SimpleNamespace(config={"fingerprint": job.fingerprint})
    ray_tune._Events(driver := Driver(job)).on_trial_result(0, [], trial, report)  # pyright: ignore[reportArgumentType]
    assert driver.told == [4, {"val/miou": 0.1 + 0.2, "val/iou/sky": math.inf}]


def test_what_a_killed_driver_left_of_ray_keeps_no_start_from_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / ".ray" / "tune" / "of a worker that still writes"
    left.mkdir(parents=True)
    monkeypatch.setattr(ray_tune.shutil, "rmtree", lambda path, ignore_errors: None)
    with ray_tune._scratch(StudyFolder(tmp_path)) as first:
        pass
    with ray_tune._scratch(StudyFolder(tmp_path)) as second:
        assert second.is_dir()
        assert len({first, second, left.parent}) == 3
