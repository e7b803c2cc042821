"""What a study has found so far, read from its folder and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from orchestrator.folder import StudyFolder, TrialFolder, read_json, read_lines
from orchestrator.study import Objective

State = Literal["running", "complete", "stopped", "failed"]
ENDED = ("complete", "stopped", "failed")
Role = Literal["reference", "trial", "tuning", "confirm"]
"""tuning: of a reference's own search. confirm: a fresh run of what the search found. Neither is on the leaderboard."""
ROLES = get_args(Role)


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
    cell: str | None
    """Of an ablation, or of fresh runs: the cell, and the index of the block. Of a reference's own search: the
    reference. None of the other runs of a search."""
    block: int | None


def load_trials(folder: StudyFolder) -> list[TrialRecord]:
    """References first, then trials by number, then what a search adds to compare them."""
    records = [load_trial(trial) for trial in folder.trials()]
    return sorted(records, key=lambda record: (ROLES.index(record.role), record.number))


def load_trial(folder: TrialFolder) -> TrialRecord:
    """The record of a trial that was handed out, whether it has begun or not."""
    asked = read_json(folder.trial)
    window = read_json(folder.mlflow) if folder.mlflow.exists() else {}
    end = read_json(folder.result) if folder.result.exists() else _so_far(folder, asked)
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
        cell=asked.get("cell"),
        block=asked.get("block"),
    )


def curves(folder: StudyFolder, fingerprint: str) -> list[dict[str, Any]]:
    """One row an evaluation: step, time, and every metric that has a number there."""
    return [_measured(row) for row in read_lines(folder.trial(fingerprint).metrics)]


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
