"""Where the runs of a study are made.

Each executor is a function `run(study, base, folder, listeners, device)`, a loop around `driver.Driver`.
Calling it again goes on with the study: what has ended is not repeated, what was interrupted resumes first.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from guidedmix_core import Tree
    from orchestrator.folder import StudyFolder
    from orchestrator.listeners import Listener
    from orchestrator.study import Study


class Run(Protocol):
    """Makes every run of the study that has no end yet; on request those that failed, too.

    ConfigError before the first one if the request is wrong. On SIGTERM the runs save where they are: Preempted."""

    def __call__(
        self,
        study: Study,
        base: Tree,
        folder: StudyFolder,
        listeners: Sequence[Listener] = (),
        device: str = "auto",
        *,
        retry_failed: bool = False,
    ) -> None: ...


def executor_named(name: str) -> Run:
    """The `run` of `executors/NAME.py`. Only the one that is asked for is imported: Ray takes its time."""
    return cast(Run, importlib.import_module(f"{__name__}.{name}").run)
