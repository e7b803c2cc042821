"""This process, one run after another: for small studies, tests and debugging."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from guidedmix_core import Tree
from orchestrator.driver import driving
from orchestrator.folder import StudyFolder
from orchestrator.listeners import Listener
from orchestrator.preemption import on_sigterm
from orchestrator.study import Study
from orchestrator.trial import run_trial


def run(
    study: Study,
    base: Tree,
    folder: StudyFolder,
    listeners: Sequence[Listener] = (),
    device: str = "auto",
    *,
    retry_failed: bool = False,
) -> None:
    policy: dict[str, Any] = {"device": device, "failures": study.failures}
    with driving(study, base, folder, listeners, retry_failed=retry_failed) as driver, on_sigterm(driver.leave):
        while (job := driver.next()) is not None:
            driver.started(job)
            on = {"on_report": partial(driver.reported, job), "on_stage": partial(driver.staged, job)}
            driver.ended(job, run_trial(job.config, job.folder, driver.objective, **on, **policy))
