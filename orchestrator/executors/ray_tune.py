"""Ray Tune, on this machine or on a cluster: runs side by side, each in a process that is kept warm for the next.

The cluster is that of $RAY_ADDRESS, which `ray job submit` sets; without it Ray is started here and ends with the
study. The study folder is the only truth: Tune starts anew each time, and what it writes is thrown away. A driver that
is killed at any moment loses nothing but the steps since each run's last checkpoint.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.search import Searcher
from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group

from guidedmix_core import ConfigError, Tree, dump
from orchestrator.driver import Driver, driving
from orchestrator.folder import StudyFolder
from orchestrator.listeners import Listener
from orchestrator.preemption import on_sigterm
from orchestrator.proposals import Job
from orchestrator.provenance import quiet_dependencies
from orchestrator.results import TrialRecord, load_trial
from orchestrator.scaling import Group, Task, at_once, group_of, run_task
from orchestrator.storage import ask_for, home, refresh
from orchestrator.study import Study
from orchestrator.trial import lose_trial

log = logging.getLogger(__name__)

SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",  # Tune's tables
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # the paths of data are relative to where the user is
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # how soon a group's end is noticed; 2 seconds otherwise
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",  # that a group fits is known before; starting it may be slow
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the study at once: nothing is left to be saved
    "TUNE_RESULT_BUFFER_LENGTH": "1",  # each report is decided on before its run goes on
}
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
OBJECT_STORE = 128 * 2**20
"""Bytes of shared memory for a Ray of our own: only reports pass through it."""
LIGHT = {"memory": float(2**20)}
"""What the process that passes on a group's reports reserves: Tune wants something, and the workers need every CPU."""
PATIENCE = 60.0
"""Seconds until a record that a worker has written must be visible to the driver."""


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
    with (
        driving(study, base, folder, listeners, retry_failed=retry_failed) as driver,
        _scratch(folder) as scratch,
        cluster() as is_ours,
    ):
        group = group_of(study.scaling, device)
        with _no_groups_left(), on_sigterm(driver.leave):  # after Ray has set its own
            _tune(driver, group, at_once(study.scaling, group, is_ours), scratch)


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
        tuner.fit()
    except _Broken as broken:
        raise broken.error from None


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
            if self._driver.reported(job, result["step"], result["metrics"]):
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
            job = self._job(trial)
            error = trial.get_pickled_error() or RuntimeError(trial.get_error())
            if job.folder.leave.exists():
                self._driver.left(job)
            else:
                self._driver.ended(job, lose_trial(job.config, job.folder, error))

    def _job(self, trial: Trial) -> Job:
        return self._driver.out[trial.config["fingerprint"]]

    def __getstate__(self) -> dict[str, Any]:
        return {}


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
    """Beside the study, because every node sees it; a study in a store needs no such place."""
    path = folder.path.resolve() / ".ray"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def cluster() -> Iterator[bool]:
    """Ray, if it does not run in this process yet; True if it is this machine's and ends here."""
    quiet_dependencies()
    logger = logging.getLogger("ray")
    level = logger.level
    os.environ.update(SETTINGS)
    is_joined = ray.is_initialized()
    is_ours = not is_joined and _start_ray()
    logger.setLevel(logging.CRITICAL)
    try:
        yield is_ours
    finally:
        if not is_joined:
            ray.shutdown()
        logger.setLevel(level)


def _start_ray() -> bool:
    address = os.environ.get("RAY_ADDRESS", "")
    if not address:
        _start_ray_here()
        return True
    if "://" in address:
        raise ConfigError(
            f"RAY_ADDRESS={address}: expected host:port, on a node of the cluster; from elsewhere use `ray job submit`"
        )
    try:
        ray.init(address=address, **QUIET)
    except ConnectionError as error:
        raise ConfigError(f"RAY_ADDRESS={address}: no cluster answers ({error}); unset it to run here") from None
    return False


def _start_ray_here(tries: int = 3) -> None:
    """Ray gives its agents 15 seconds to start; from a cold disk or on a busy machine they may take longer at first."""
    for left in reversed(range(tries)):
        try:
            ray.init(address="local", include_dashboard=False, object_store_memory=OBJECT_STORE, **QUIET)
            return
        except Exception as error:
            if not left or "timed out during startup" not in str(error):
                raise
            log.warning("Ray did not start in time; once more")


@contextmanager
def _no_groups_left() -> Iterator[None]:
    """Resources that a run reserved are free again when the study ends, also after an error."""
    before = _placement_groups()
    try:
        yield
        deadline = time.monotonic() + 10
        while (left := _placement_groups() - before) and time.monotonic() < deadline:
            time.sleep(0.1)
        if left:
            log.warning("%d placement groups were left behind; they are removed", len(left))
    finally:
        for group in _placement_groups() - before:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(group))))


def _placement_groups() -> set[str]:
    """Those of this driver and its workers that hold or want resources: a group's id ends with that of its job."""
    job = ray.get_runtime_context().get_job_id()
    alive = [group for group, entry in placement_group_table().items() if entry["state"] != "REMOVED"]
    return {group for group in alive if group.endswith(job)}
