"""Ray, started here or joined, and left as it was found: no reserved resource stays behind.

The cluster is that of $RAY_ADDRESS, which `ray job submit` sets; without it Ray is started here and ends with the
study.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group

from guidedmix_core import ConfigError
from orchestrator.provenance import quiet_dependencies

log = logging.getLogger(__name__)

SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",  # Tune's tables
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # the paths of data are relative to where the user is
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # how soon a group's end is noticed; 2 seconds otherwise
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",  # that a group fits is known before; starting it may be slow
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the study at once: nothing is left to be saved
    "TUNE_GLOBAL_CHECKPOINT_S": "inf",  # seconds between two snapshots, which nobody reads
    "TUNE_RESULT_BUFFER_LENGTH": "1",  # each report is decided on before its run goes on
}
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
OBJECT_STORE = 128 * 2**20
"""Bytes of shared memory for a Ray of our own: only reports pass through it."""


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
        dashboard = ray.init(address=address, **QUIET).dashboard_url
    except ConnectionError as error:
        raise ConfigError(f"RAY_ADDRESS={address}: no cluster answers ({error}); unset it to run here") from None
    if dashboard:
        print(f"Ray's dashboard: http://{dashboard}", flush=True)
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
def no_groups_left() -> Iterator[None]:
    """Resources that a run reserved are free again when the study ends, also after an error."""
    before = placement_groups()
    try:
        yield
        deadline = time.monotonic() + 10
        while (left := placement_groups() - before) and time.monotonic() < deadline:
            time.sleep(0.1)
        if left:
            log.warning("%d placement groups were left behind; they are removed", len(left))
    finally:
        for group in placement_groups() - before:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(group))))


def placement_groups() -> set[str]:
    """Those of this driver and its workers that hold or want resources: a group's id ends with that of its job."""
    job = ray.get_runtime_context().get_job_id()
    alive = [group for group, entry in placement_group_table().items() if entry["state"] != "REMOVED"]
    return {group for group in alive if group.endswith(job)}
