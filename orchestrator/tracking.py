"""MLflow, a window on the study folder: a thread of the driver keeps it up to date. The folder is the record.

A server that is away loses nothing: the thread tries again, and what is missing at the end is counted, said, and made
up for by the next start.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from orchestrator.folder import StudyFolder
from orchestrator.listeners import Listener
from orchestrator.mlflow_experiments import read_experiment
from orchestrator.mlflow_mirror import Mirror
from orchestrator.mlflow_outbox import count_behind, was_reached
from orchestrator.mlflow_registry import register
from orchestrator.mlflow_store import chosen, first_line, shown
from orchestrator.mlflow_ui import start_ui
from orchestrator.results import TrialRecord
from orchestrator.storage import home

if TYPE_CHECKING:
    from orchestrator.study import Study

__all__ = ["MlflowWindow", "read_experiment", "register", "start_ui", "tracker"]

log = logging.getLogger(__name__)

INTERVAL = 2.0
"""Seconds between two looks at the folder: reports that come faster share one request."""
LONGEST_PAUSE = 60.0
"""Seconds between two attempts to reach a server that is away; the pause doubles up to it."""
LAST_PAUSES = (1.0, 4.0)
"""Seconds before each further attempt when the study has ended."""


def tracker(uri: str | None, folder: StudyFolder) -> list[MlflowWindow]:
    """The listener that `tracking.mlflow` asks for: none without a URI. `auto` is settled here.

    A database needs a disk: a study in an object store has one made when somebody looks (`start_ui`).
    """
    if uri is None or ("{study}" in (store := chosen(uri)) and home(folder.path) is not None):
        return []
    return [MlflowWindow(store, folder)]


class MlflowWindow(Listener):
    """Keeps MLflow up to date while a study runs. Once it has begun, nothing that MLflow does reaches the study."""

    def __init__(self, uri: str, folder: StudyFolder) -> None:
        self.uri, self.folder = uri, folder
        self._mirror: Mirror | None = None
        self.pending = 0
        """How many trials MLflow lacks or shows behind their record, after the last attempt."""
        self._running: set[str] = set()
        self._is_over = False
        self._is_away = False
        self._news, self._leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep_up, name="mlflow", daemon=True)

    def study_started(self, study: Study, folder: StudyFolder) -> None:
        """ConfigError if MLflow can't be reached, unless it has the study: whoever starts it again loses nothing. The
        database exists before any worker does."""
        if not was_reached(self.folder, self.uri):
            self._mirror = Mirror(self.uri, self.folder)
        self._thread.start()
        self._news.set()

    def trial_started(self, record: TrialRecord) -> None:
        self._running.add(record.fingerprint)
        self._news.set()

    def trial_reported(self, record: TrialRecord, metrics: Mapping[str, float]) -> None:
        self._news.set()

    def trial_ended(self, record: TrialRecord) -> None:
        self._running.discard(record.fingerprint)
        self._news.set()

    def trial_reused(self, record: TrialRecord) -> None:
        self._news.set()

    def study_ended(self) -> None:
        """No run says RUNNING afterwards, unless the server is away: then a warning tells how many trials it lacks."""
        if not self._thread.is_alive():
            return  # MLflow could not be reached, so the study has not begun
        self._leave.set()
        self._news.set()
        self._thread.join()
        self._running.clear()
        self._is_over = True
        self.catch_up()

    def catch_up(self) -> None:
        """After the end: also for what was added to the folder since. Gives up after a few attempts, with a warning."""
        error = self._attempt()
        for pause in LAST_PAUSES:
            if error is not None:
                time.sleep(pause)
                error = self._attempt()
        if error is None:
            return
        behind = f"lacks {self.pending} of {len(self.folder.trials())} trials"
        cure = "the study folder has them all, and running the same command again catches up"
        log.warning("MLflow (%s) %s: %s; %s", shown(self.uri), behind, first_line(error), cure)

    def _keep_up(self) -> None:
        pause = INTERVAL
        while not self._leave.is_set():
            self._news.wait()
            self._news.clear()
            error = None if self._leave.is_set() else self._attempt()
            if error is None:
                pause, self._is_away = INTERVAL, False
            else:
                pause = min(2 * pause, LONGEST_PAUSE)
                self._complain(error)
                self._news.set()
            self._leave.wait(pause)

    def _complain(self, error: Exception) -> None:
        """Once for each time that it goes away."""
        if not self._is_away:
            log.warning("MLflow (%s): %s; the study goes on, MLflow will catch up", shown(self.uri), first_line(error))
        self._is_away = True

    def _attempt(self) -> Exception | None:
        try:
            if self._mirror is None:
                self._mirror = Mirror(self.uri, self.folder)
            self._mirror.sync(frozenset(self._running), is_over=self._is_over)
        except (
            Exception
        ) as error:  # a window must not break the house: what is missing is counted, tried again, and said
            self.pending = count_behind(self.folder) if self._mirror is None else self._mirror.count_pending()
            return error
        self.pending = 0
        return None
