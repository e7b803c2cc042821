"""Makes MLflow match a study folder, from the folder alone, as often as one likes.

Beside each trial lies `mlflow.json`, written once MLflow has accepted: a durable outbox. A driver that was killed
finds its runs again by their tags, and logs what is missing and nothing twice.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Collection
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

from guidedmix_core import ConfigError
from orchestrator import attempts, mlflow_run
from orchestrator.folder import StudyFolder, TrialFolder, read_json, read_lines, write_json
from orchestrator.mlflow_outbox import Cursor, is_behind, note, noted
from orchestrator.mlflow_store import METRICS_PER_BATCH, MlflowStore, StoredRun, first_line, shown, wants_login
from orchestrator.results import ENDED, TrialRecord, best, load_trial, objectives_of
from orchestrator.storage import home

STATUS = {"complete": "FINISHED", "stopped": "KILLED", "failed": "FAILED", "interrupted": "KILLED"}
STUDY_FILES = ("study.yaml", "summary.json", "report.html")
BETWEEN_FILES = 30.0
"""Seconds for which they may be old while the study runs: of thousands of runs, the summary has megabytes."""


class Mirror:
    """One study in one MLflow. It must be the only writer of the runs and of `mlflow.json`."""

    def __init__(self, uri: str, folder: StudyFolder) -> None:
        """Find the study in MLflow, or make it: experiment, parent run, and which run is which trial's.

        ConfigError if the store can't be used.
        """
        self.folder = folder
        self.file = folder.path / "mlflow.json"
        self.cursors: dict[str, Cursor] = {}
        self.ended: dict[str, TrialRecord] = {}
        """Trials of which MLflow has everything."""
        self.uri = shown(uri)
        request = folder.request()
        self.levels, self.goal = request.get("levels") or {}, objectives_of(request)[0]
        self._tried: set[str] = set()
        """Trials whose run was asked for, whether or not the store said that it made it."""
        self._sent, self._ranked = -math.inf, 0
        self.key, self.files = self._read()
        try:
            self.store = MlflowStore(uri, folder)
            self.store.offer_view(mlflow_run.table_view(request))
            self._find_runs()
        except ConfigError:
            raise
        except Exception as error:  # of MLflow, its database driver, the network or the disk, as the URI has it
            cure = "" if wants_login(error) else "start the server or correct the address, "
            without = f"{cure}or go without: tracking.mlflow=null"
            raise ConfigError(f"tracking.mlflow={self.uri}: {first_line(error)}; {without}") from error

    def sync(self, running: Collection[str] = (), *, is_over: bool = True) -> None:
        """Make MLflow match the folder. `running`: fingerprints of the trials that somebody works on now.

        A trial that MLflow refuses holds up no other one; what it raised comes last. If the store is away, this raises
        at once.
        """
        refused: list[Exception] = []
        for trial in self.folder.trials(without=self.ended):
            try:
                self._sync_trial(trial, trial.fingerprint in running)
            except Exception as error:  # raised below, if it is not the store that is away
                self.store.ping()
                refused.append(error)
        self._sync_study(is_over)
        if refused:
            raise refused[0]

    def count_pending(self) -> int:
        """How many trials MLflow lacks, or shows behind their record."""
        trials = self.folder.trials(without=self.ended)
        return sum(is_behind(trial, self.cursors.get(trial.fingerprint)) for trial in trials)

    def _read(self) -> tuple[str, dict[str, str]]:
        """The study's key in the store, and digests of the files it has. A new key for another store."""
        known = read_json(self.file) if self.file.exists() else {}
        if known.get("uri") == self.uri:
            return known["key"], known["files"]
        key = uuid4().hex  # on disk before the run it marks exists: a crash in between makes no second run
        write_json(self.file, {"uri": self.uri, "key": key, "files": {}})
        return key, {}

    def _write(self) -> None:
        known = {"uri": self.uri, "key": self.key, "experiment_id": self.store.experiment, "run_id": self.run}
        write_json(self.file, {**known, "files": self.files})

    def _find_runs(self) -> None:
        runs = self.store.runs(self.key)
        parent = next((run for run in runs if run.tags["guidedmix.role"] == "study"), None)
        if parent is None:
            tags = {
                "guidedmix.study": self.key,
                "guidedmix.role": "study",
                "guidedmix.folder": home(self.folder.path) or str(self.folder.path.resolve()),
            }
            tags |= mlflow_run.SOURCE
            self.run, self.status = self.store.create(self.folder.name, tags), "RUNNING"
            self.progress, self.files = 0, {}
        else:
            self.run, self.status = parent.id, parent.status
            self.progress = self.store.last_step(parent)
        self._write()
        for run in runs:
            if run.tags["guidedmix.role"] not in ("study", mlflow_run.ASIDE):
                self._take_up(run)

    def _take_up(self, run: StoredRun) -> None:
        """Match a run with its trial. Close it if there is no such trial, or if another run is the trial's."""
        trial, is_open = self.folder.trial(run.tags["guidedmix.fingerprint"]), run.status == "RUNNING"
        if trial.trial.exists() and run.attempt != attempts.present(trial):
            self._put_aside(run.id, is_open=is_open)
        elif not trial.trial.exists() or trial.fingerprint in self.cursors:
            if is_open:
                self.store.close(run.id, "KILLED")
        elif (known := noted(trial)) is not None and known.run_id == run.id:
            self.cursors[trial.fingerprint] = self._resumed(run, known)
        else:  # made, but not noted before a crash
            self.cursors[trial.fingerprint] = self._resumed(run, Cursor(run.id, attempt=run.attempt))

    def _put_aside(self, run: str, *, is_open: bool) -> None:
        """Of an attempt after which the trial began anew: it has failed, unless MLflow has heard how it ended."""
        tags = {"guidedmix.role": mlflow_run.ASIDE}
        if is_open:
            self.store.close(run, "FAILED")
            tags["guidedmix.state"] = "failed"
        self.store.log(run, tags=tags)

    def _resumed(self, run: StoredRun, noted: Cursor) -> Cursor:
        """MLflow may have accepted more than was noted before a crash."""
        if noted.state is not None and run.status == STATUS.get(noted.state):
            return noted
        step = self.store.last_step(run)
        return replace(noted, cursor=max(step, noted.cursor or 0) if step else noted.cursor, state="running")

    def _sync_trial(self, trial: TrialFolder, is_running: bool) -> None:
        record = load_trial(trial)
        state = record.state if record.state in ENDED else "running" if is_running else "interrupted"
        if (cursor := self._present(trial)) is None:
            if state == "interrupted" and not trial.config.exists():
                return  # handed out, and never begun
            cursor = self._create(trial, record)
        if cursor.state != state or state == "running":
            self._update(cursor, trial, record, state)
        if state in ENDED:
            self.ended[trial.fingerprint] = record

    def _present(self, trial: TrialFolder) -> Cursor | None:
        """Of the attempt that the trial is now. The run of an earlier one is put aside."""
        cursor = self.cursors.get(trial.fingerprint)
        if cursor is None or cursor.attempt == attempts.present(trial):
            return cursor
        self._put_aside(cursor.run_id, is_open=cursor.state in (None, "running"))
        del self.cursors[trial.fingerprint]
        return None

    def _create(self, trial: TrialFolder, record: TrialRecord) -> Cursor:
        """One that seemed to fail may have made the run."""
        attempt = attempts.present(trial)
        if trial.fingerprint in self._tried and (found := self.store.find(self.key, trial.fingerprint, attempt)):
            return self._accepted(trial, self._resumed(found, Cursor(found.id, attempt=attempt)))
        self._tried.add(trial.fingerprint)
        tags = {"guidedmix.study": self.key, "mlflow.parentRunId": self.run, "guidedmix.attempt": str(attempt)}
        tags |= mlflow_run.tags(record, {}, self.levels)
        run = self.store.create(mlflow_run.run_name(record), tags, record.started)
        return self._accepted(trial, Cursor(run, attempt=attempt))

    def _accepted(self, trial: TrialFolder, cursor: Cursor) -> Cursor:
        self.cursors[trial.fingerprint] = cursor
        note(trial, cursor)
        return cursor

    def _update(self, cursor: Cursor, trial: TrialFolder, record: TrialRecord, state: str) -> None:
        """Log what the trial has and its run has not; then give the run its status."""
        tags = {}
        if cursor.state != state:
            tags = {"guidedmix.state": state, **mlflow_run.tags(record, mlflow_run.environment(trial), self.levels)}
        if state == "running" and cursor.state not in (None, "running"):
            self.store.reopen(cursor.run_id, mlflow_run.run_name(record))
        rows = read_lines(trial.metrics)
        cursor = self._log(cursor, trial, rows, tags)
        if state in ENDED:
            self._log_end(cursor, trial, record, rows)
        if state != "running":
            end = record.ended or (rows[-1]["time"] if rows else None)
            self.store.close(cursor.run_id, STATUS[state], end)
        if cursor.state != state:
            self._accepted(trial, replace(cursor, state=state))

    def _log(self, cursor: Cursor, trial: TrialFolder, rows: list[dict[str, Any]], tags: dict[str, str]) -> Cursor:
        """A run that went back to its checkpoint repeats no step."""
        is_first = cursor.cursor is None and trial.config.exists()
        parameters = mlflow_run.parameters(trial) if is_first else {}
        new = [row for row in rows if row["step"] > (cursor.cursor or 0)]
        size = max(1, METRICS_PER_BATCH // max(map(len, new), default=1))
        for start in range(0, max(len(new), 1), size):
            group = new[start : start + size]
            self.store.log(cursor.run_id, group, parameters, tags)
            if group or parameters:
                cursor = self._accepted(trial, replace(cursor, cursor=group[-1]["step"] if group else 0))
            parameters, tags = {}, {}
        return cursor

    def _log_end(self, cursor: Cursor, trial: TrialFolder, record: TrialRecord, rows: list[dict[str, Any]]) -> None:
        """All of it may be logged again: files are replaced, data of equal digest is the same."""
        with tempfile.TemporaryDirectory() as folder:
            mlflow_run.write_artifacts(trial, rows, Path(folder))
            self.store.log_files(cursor.run_id, Path(folder))
        if data := mlflow_run.data_digest(trial):
            self.store.log_data(cursor.run_id, *data)
        if not record.failure:  # what went on after a failure has failed no more
            self.store.untag(cursor.run_id, *mlflow_run.FAILURE)
        last = {"step": record.step, "time": record.ended, "objective": record.objective}
        self.store.log(cursor.run_id, [] if record.objective is None else [last], tags=mlflow_run.end_tags(record))

    def _sync_study(self, is_over: bool) -> None:
        """Files that have changed, the best objective so far, and the status."""
        if is_over or time.monotonic() - self._sent > BETWEEN_FILES:
            self._send_files()
            self._sent = time.monotonic()
        self._log_progress()
        if (status := self._study_status(is_over)) != self.status:
            if status == "RUNNING":
                self.store.reopen(self.run, self.folder.name)
            else:
                self.store.close(self.run, status)
            self.status = status

    def _send_files(self) -> None:
        for file in [*(self.folder.path / name for name in STUDY_FILES), *sorted(self.folder.exports.glob("[!.]*"))]:
            name = file.relative_to(self.folder.path).as_posix()
            if file.exists() and (digest := sha256(file.read_bytes()).hexdigest()) != self.files.get(name):
                self.store.log_files(self.run, file, None if file.parent == self.folder.path else file.parent.name)
                if file == self.folder.summary:
                    self._log_cells()
                self.files[name] = digest
                self._write()

    def _log_cells(self) -> None:
        """Of an ablation: its table, where MLflow's UI looks for tables."""
        summary = read_json(self.folder.summary)
        if "cells" not in summary:
            return
        with tempfile.TemporaryDirectory() as folder:
            write_json(Path(folder) / mlflow_run.CELLS, mlflow_run.cells_table(summary))
            self.store.log_files(self.run, Path(folder))
        self.store.log(self.run, tags=mlflow_run.table_tag(mlflow_run.CELLS))

    def _study_status(self, is_over: bool) -> str:
        """KILLED: it was interrupted, and can be gone on with."""
        if not is_over:
            return "RUNNING"
        events = self.folder.events()
        if not events:  # a single run keeps no journal
            return "FINISHED" if len(self.ended) == len(self.folder.trials()) else "KILLED"
        return "FINISHED" if events[-1]["event"] == "study_ended" else "KILLED"

    def _log_progress(self) -> None:
        """The best objective after so many ended trials, and which trial has it."""
        if len(self.ended) == self._ranked:
            return
        goal = self.goal
        ended = sorted(
            (record for record in self.ended.values() if record.role == "trial"), key=lambda record: record.ended or ""
        )
        rows, tags = [], {}
        winner = best(ended[: self.progress], goal)
        for count, record in enumerate(ended[self.progress :], start=self.progress + 1):
            if winner := best([record] if winner is None else [winner, record], goal):
                rows.append({"step": count, "time": record.ended, f"best/{goal.metric}": winner.objective})
                tags = {"guidedmix.best": mlflow_run.run_name(winner)}
        self.store.log(self.run, rows, tags=tags)
        self.progress, self._ranked = len(ended), len(self.ended)
