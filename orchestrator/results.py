"""What a study has found so far, read from its folder and nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from orchestrator.folder import StudyFolder, TrialFolder, read_json, read_lines
from orchestrator.study import Objective

State = Literal["running", "complete", "stopped", "failed"]
ENDED = ("complete", "stopped", "failed")
SETTLED = 2 * 10**9
"""Nanoseconds after which what changes a folder gives it another time, on every file system."""
Role = Literal["reference", "trial", "tuning", "confirm"]
"""tuning: of a reference's own search. confirm: a fresh run of what the search found. Neither is on the leaderboard."""
ROLES = get_args(Role)
OF_DATA = ("data", "split", "evaluate")
"""Sections of a run that decide what it reads."""
CLASS = "val/iou/"
"""Of the metrics that are the IoU of a class."""


@dataclass(frozen=True)
class TrialRecord:
    """One run of the study. Whatever has no end yet is `running`, also when nobody works on it at the moment."""

    fingerprint: str
    number: int
    role: Role
    label: str | None
    """The name of a reference, which it keeps if the search proposes it too; of a cell's run, such as `x · seed 0`."""
    params: dict[str, Any]
    seed: int
    state: State
    objective: float | None
    """At the last evaluation: the maximum over evaluations flatters. None while running, and if failed."""
    step: int
    steps: int
    seconds: float
    metrics: dict[str, float]
    best: dict[str, Any] | None
    """{"step", "metrics"} of the evaluation with the best objective."""
    failure: dict[str, Any] | None
    """{"reason", "message", "step"} if it failed."""
    started: str | None
    ended: str | None
    mlflow_run_id: str | None
    stages: list[dict[str, Any]]
    """What became of the stages before the run, once it has ended: method, steps, state, seconds, metrics."""
    adjusted: dict[str, Any] | None
    """If memory ran out: the micro-batches with which it was made instead; see `halving.adjustment`."""
    cell: str | None
    """Of an ablation, or of fresh runs: the cell, and the index of the block. Of a reference's own search: the
    reference. None of the other runs of a search."""
    block: int | None
    reused_from: str | None
    """The study that trained it, if it was not this one."""
    data: str | None = None
    """The fingerprint of what it has read. None while running, and of older records."""

    @property
    def halvings(self) -> int:
        """How often its micro-batches were halved, if that is more than a way to save memory: BatchNorm saw them."""
        return self.adjusted["halvings"] if self.adjusted and self.adjusted["sees_batches"] else 0

    def is_alike(self, other: TrialRecord) -> bool:
        """Whether the two may be paired: BatchNorm saw batches of one size, and the data has not changed."""
        return self.halvings == other.halvings and not self.has_other_data(other)

    def has_other_data(self, other: TrialRecord) -> bool:
        """Whether the data has changed between the two, which ask for the same. What nobody has noted is no change."""
        own, theirs = (
            {path: value for path, value in run.params.items() if path.startswith(OF_DATA)} for run in (self, other)
        )
        return own == theirs and None not in (self.data, other.data) and self.data != other.data


def load_trials(folder: StudyFolder) -> list[TrialRecord]:
    """References first, then trials by number, then what a search adds to compare them."""
    return Records(folder).load()


class Records:
    """The records of a study. To load them again costs a look at each trial, and reading only those that changed."""

    def __init__(self, folder: StudyFolder) -> None:
        self.folder = folder
        self._known: dict[str, tuple[int | None, TrialRecord]] = {}

    def load(self) -> list[TrialRecord]:
        """As `load_trials`. A trial that has not changed has the very same record as the last time."""
        place = self.folder.path / "trials"
        names = sorted(os.listdir(place)) if place.is_dir() else []
        found = (self._current(f"{place}/{name}", name) for name in names)
        records = [record for record in found if record is not None]
        return sorted(records, key=lambda record: (ROLES.index(record.role), record.number))

    def _current(self, path: str, name: str) -> TrialRecord | None:
        """A folder has another time when a file in it is made, replaced or removed, which is how all records but the
        curves are written. None of what is no trial."""
        changed, now = os.stat(path).st_mtime_ns, time.time_ns()
        known, record = self._known.get(name, (None, None))
        if record is not None and known == changed and record.state != "running":
            return record
        trial = TrialFolder(Path(path))
        if not trial.trial.exists():
            return None
        record = load_trial(trial)
        self._known[name] = (changed if now - changed > SETTLED else None, record)
        return record


def load_trial(folder: TrialFolder) -> TrialRecord:
    """The record of a trial that was handed out, whether it has begun or not."""
    asked = read_json(folder.trial)
    has = set(os.listdir(folder.path))
    window = read_json(folder.mlflow) if folder.mlflow.name in has else {}
    end = read_json(folder.result) if folder.result.name in has else _so_far(folder, asked)
    return TrialRecord(
        fingerprint=asked["fingerprint"],
        number=asked["number"],
        role=asked["role"],
        label=asked["label"],
        params=asked["params"],
        seed=asked["seed"],
        state=end["state"],
        objective=end["objective"],
        step=end["step"],
        steps=end["steps"],
        seconds=end["seconds"],
        metrics=_measured(end["metrics"]),
        best=end["best"],
        failure=end["failure"],
        started=end["started"],
        ended=end["ended"],
        mlflow_run_id=window.get("run_id"),
        stages=end.get("stages", []),
        adjusted=end.get("adjusted"),
        cell=asked.get("cell"),
        block=asked.get("block"),
        reused_from=asked.get("reused_from"),
        data=end.get("data"),
    )


def curves(folder: StudyFolder, fingerprint: str) -> list[dict[str, Any]]:
    """One row an evaluation: step, time, and every metric that has a number there."""
    return [_measured(row) for row in read_lines(folder.trial(fingerprint).metrics)]


def class_names(folder: TrialFolder) -> list[str]:
    """Of a run that has ended, in the order of their ids; also of a class that is never seen."""
    return [name.removeprefix(CLASS) for name in read_json(folder.result)["metrics"] if name.startswith(CLASS)]


def objectives(folder: StudyFolder) -> tuple[Objective, ...]:
    """What the study optimizes; the first one decides what is best."""
    return objectives_of(folder.request())


def best(records: Iterable[TrialRecord], objective: Objective) -> TrialRecord | None:
    """The complete trial with the best objective; the earlier one of equals. A reference is no candidate, and of an
    ablation no run is: the best of its blocks says nothing of a cell."""
    trials = ranked((record for record in records if record.role == "trial" and record.cell is None), objective)
    return trials[0] if trials else None


def ranked(records: Iterable[TrialRecord], objective: Objective) -> list[TrialRecord]:
    """The complete ones from best to worst; the earlier one of equals first."""
    sign = -1 if objective.mode == "max" else 1
    complete = [record for record in records if record.state == "complete"]
    places = [(sign * record.objective, record.number, record) for record in complete if record.objective is not None]
    return [record for *_, record in sorted(places, key=lambda place: place[:2])]


def objectives_of(request: Mapping[str, Any]) -> tuple[Objective, ...]:
    """Of the content of `study.yaml`."""
    return tuple(Objective.model_validate(objective) for objective in request["objectives"])


def _so_far(folder: TrialFolder, asked: dict[str, Any]) -> dict[str, Any]:
    rows = read_lines(folder.metrics)
    last = rows[-1] if rows else {"step": 0}
    return {
        "state": "running",
        "objective": None,
        "step": last["step"],
        "steps": asked["steps"],
        "seconds": last.get("time/seconds") or 0.0,
        "metrics": {key: value for key, value in last.items() if key not in ("step", "time")},
        "best": None,
        "failure": None,
        "started": rows[0]["time"] if rows else None,
        "ended": None,
    }


def _measured(row: dict[str, Any]) -> dict[str, Any]:
    """Without what was not finite, which is null in the file."""
    return {key: value for key, value in row.items() if value is not None}
