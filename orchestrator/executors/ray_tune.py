"""Ray Tune, on this machine or on a cluster: runs side by side, each in a process that is kept warm for the next.

The study folder is the only truth: Tune starts anew each time, and what it writes is thrown away. A driver that
is killed at any moment loses nothing but the steps since each run's last checkpoint.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from ray import cloudpickle, tune
from ray.air.execution._internal import RayActorManager, TrackedActor
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError
from ray.tune.execution import tune_controller
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.search import Searcher

from guidedmix_core import ConfigError, Tree, dump
from orchestrator.clusters import this_cluster
from orchestrator.driver import Driver, driving
from orchestrator.failures import is_disk_full
from orchestrator.folder import StudyFolder
from orchestrator.listeners import Listener
from orchestrator.packing import packed
from orchestrator.preemption import on_sigterm
from orchestrator.proposals import Job
from orchestrator.ray_session import cluster, no_groups_left
from orchestrator.results import TrialRecord, load_trial
from orchestrator.scaling import Group, Task, at_once, group_of, run_task
from orchestrator.storage import ask_for, home, refresh
from orchestrator.study import Study
from orchestrator.trial import lose_trial

log = logging.getLogger(__name__)

LIGHT = {"memory": float(2**20)}
"""Of who passes on a group's reports: Tune wants something, the workers need every CPU."""
PATIENCE = 60.0
"""Seconds until a record that a worker has written must be visible to the driver."""
CROWDED = "run fewer at once (scaling.concurrent), or give each less: a smaller augment.crop or train.batch_size"
"""The cure where Ray ends processes because the memory of a node is full."""


def run(
    study: Study,
    base: Tree,
    folder: StudyFolder,
    listeners: Sequence[Listener] = (),
    device: str = "auto",
    *,
    retry_failed: bool = False,
) -> None:
    """Make every run of the study that has no end yet. ConfigError before the first one if the request is wrong."""
    study = study.model_copy(update={"scaling": packed(study, base, folder)})
    with (
        driving(study, base, folder, listeners, retry_failed=retry_failed) as driver,
        _scratch(folder) as scratch,
        cluster() as is_ours,
    ):
        grown = None if is_ours else this_cluster().num_gpus
        group = group_of(study.scaling, device, grown)
        many = at_once(study.scaling, group, grown, may_grow=not is_ours)
        with no_groups_left(), on_sigterm(driver.leave):  # after Ray has set its own
            _tune(driver, group, many, scratch)


def _tune(driver: Driver, group: Group, concurrent: int, scratch: Path) -> None:
    place, objective, failures = driver.folder.path.resolve(), driver.objective, driver.study.failures
    study = home(place) or place

    def trial(proposal: dict[str, Any]) -> None:
        run_task(Task(proposal["run"], study, proposal["fingerprint"], objective, group, scratch, failures))

    is_alone = group.workers == 1
    tuner = tune.Tuner(
        tune.with_resources(trial, group.resources if is_alone else LIGHT),
        tune_config=tune.TuneConfig(
            search_alg=_Proposals(driver),
            num_samples=-1,
            max_concurrent_trials=concurrent,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch),
            verbose=0,
            callbacks=[_Events(driver), _Silence()],
            # A group has its own restarts. Tune does not count a process whose node was taken away.
            failure_config=tune.FailureConfig(max_failures=failures.restarts if is_alone else 0),
        ),
    )
    try:
        with _mortal_actors():
            tuner.fit()
    except _Broken as broken:
        raise broken.error from None


class _MemoryFullError(RayActorError):
    """Of a process that Ray has ended because the memory of its node was full."""


class _Actors(RayActorManager):
    """To Ray's own, what an actor's process may die of is in two classes of errors. Any other, such as that its memory
    monitor has killed the process, it raises through Tune's loop, and all runs are lost."""

    def _actor_start_failed(self, tracked_actor: TrackedActor, exception: Exception) -> None:
        super()._actor_start_failed(tracked_actor, _as_death(exception))

    def _actor_task_failed(self, tracked_actor_task: TrackedActorTask, exception: Exception) -> None:
        super()._actor_task_failed(tracked_actor_task, _as_death(exception))


def _as_death(error: Exception) -> Exception:
    if not isinstance(error, RayError) or isinstance(error, (RayActorError, RayTaskError)):
        return error
    kind = _MemoryFullError if isinstance(error, OutOfMemoryError) else RayActorError
    return kind(error_msg=str(error))


@contextmanager
def _mortal_actors() -> Iterator[None]:
    """Inside, Tune's loop takes the death of any process for a failure of its run: Tune starts it again."""
    before = tune_controller.RayActorManager
    tune_controller.RayActorManager = _Actors
    try:
        yield
    finally:
        tune_controller.RayActorManager = before


class _Broken(BaseException):  # not an Exception: Tune would take that for the trial's own
    """Carries what the driver or a listener raised through Tune's loop."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def _through_tune() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise _Broken(error) from None


class _Proposals(Searcher):
    """Tune asks, the driver answers. How many at once is for Tune to say."""

    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self._driver = driver

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        with _through_tune():
            job = self._driver.next()
            if job is not None:
                return {"fingerprint": job.fingerprint, "run": dump(job.config)}
            return None if self._driver.out else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        return

    def save(self, checkpoint_path: str) -> None:
        return

    def restore(self, checkpoint_path: str) -> None:
        raise AssertionError("each start builds a fresh Tuner")

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune keeps a snapshot that nobody reads


class _Events(tune.Callback):
    """Tune tells, the driver hears. A run that reports waits until this returns."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        with _through_tune():
            if not (job := self._job(trial)).folder.result.exists():
                self._driver.started(job)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        with _through_tune():
            job = self._job(trial)
            if self._driver.reported(job, result["step"], json.loads(result["metrics"])):
                ask_for(job.folder.stop)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        with _through_tune():
            job = self._job(trial)
            if job.folder.leave.exists() and not job.folder.result.exists():
                self._driver.left(job)
            else:
                self._driver.ended(job, _visible_record(job))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Its processes died, more often than a run is restarted. Its own failures a run records itself."""
        with _through_tune():
            job, known = self._job(trial), _known_errors(trial)
            error = _last_error(trial, known)
            if is_disk_full(cause := getattr(error, "cause", error)):
                raise cause
            if job.folder.leave.exists():
                self._driver.left(job)
            else:
                self._driver.ended(job, lose_trial(job.config, job.folder, error, known))

    def _job(self, trial: Trial) -> Job:
        return self._driver.out[trial.config["fingerprint"]]

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _last_error(trial: Trial, known: str) -> BaseException:
    """As Tune keeps it on this machine; it may not have reached Tune's storage yet."""
    file = trial.pickled_error_file
    if file is None or not Path(file).exists():
        return ConnectionError(f"the process of the run was lost ({known or 'nothing more is known'})")
    error = cloudpickle.loads(Path(file).read_bytes())
    if isinstance(error, _MemoryFullError):  # Ray says a page: which processes had how much
        return ConnectionError(f"{str(error).splitlines()[0]}; {CROWDED}")
    return error


def _known_errors(trial: Trial) -> str:
    """Of all processes that the run has lost, as Tune has noted them on this machine."""
    file = trial.error_file
    return Path(file).read_text() if file is not None and Path(file).exists() else ""


class _Silence(TrialProgressCallback):
    """In the place of Tune's own, which prints each run that ended without a report."""

    def _print(self, msg: str) -> None:
        return


def _visible_record(job: Job) -> TrialRecord:
    """A shared file system may show the record a while after another node wrote it."""
    refresh(job.folder.path)
    deadline = time.monotonic() + PATIENCE
    while not job.folder.result.exists():
        if time.monotonic() > deadline:
            raise ConfigError(
                f"{job.folder.result}: written by a worker {PATIENCE:.0f} s ago, but not visible here; "
                "put the study on storage that all nodes share"
            )
        time.sleep(0.1)
    return load_trial(job.folder)


@contextmanager
def _scratch(folder: StudyFolder) -> Iterator[Path]:
    """Beside the study, because every node sees it; a study in a store needs no such place. Of another name at each
    start: into the last one's a worker of a killed driver may still write."""
    place = folder.path.resolve() / ".ray"
    shutil.rmtree(place, ignore_errors=True)
    path = place / uuid4().hex[:8]
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(place, ignore_errors=True)
