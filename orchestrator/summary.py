"""`summary.json`: the study in one file for whoever wants to read it, made from the records and nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from orchestrator.comparison import Cell, Comparison, asked_for, compare
from orchestrator.folder import StudyFolder, write_json
from orchestrator.results import ENDED, TrialRecord, best, load_trials, objectives_of
from orchestrator.stats import Estimate

ROW = ("fingerprint", "number", "role", "label", "params", "seed", "state", "objective", "step", "steps", "seconds")
ROW = (*ROW, "mlflow_run_id", "cell", "block")


def summarize(folder: StudyFolder) -> dict[str, Any]:
    """The content of `summary.json`."""
    request = folder.request()
    records = asked_for(request, load_trials(folder))
    goals = objectives_of(request)
    states = [record.state for record in records]
    winner = best(records, goals[0])
    summary = {
        "study": folder.name,
        "kind": request["kind"],
        "objective": {"metric": goals[0].metric, "mode": goals[0].mode},
        "counts": {"planned": request["planned"], **{state: states.count(state) for state in ENDED}},
        "trials": [_row(record) for record in records],
        "best": None if winner is None else _row(winner),
    }
    if len(goals) > 1:
        summary["objectives"] = [{"metric": goal.metric, "mode": goal.mode} for goal in goals]
    if request["kind"] == "ablate":
        summary |= _compared(compare(request, records))
    return summary


def write_summary(folder: StudyFolder) -> None:
    write_json(folder.summary, summarize(folder))


def _row(record: TrialRecord) -> dict[str, Any]:
    row = {key: value for key, value in asdict(record).items() if key in ROW}
    noted = {"failure": record.failure, "adjusted": record.adjusted}
    return {**row, **{key: value for key, value in noted.items() if value}}


def _compared(comparison: Comparison) -> dict[str, Any]:
    """The cells; and the headroom, if there is a ceiling: null until both cells share a block."""
    found: dict[str, Any] = {"cells": [_cell(cell) for cell in comparison.cells]}
    if comparison.ceiling is not None:
        room = comparison.headroom
        found["headroom"] = room and {**_difference(room), "enough": comparison.has_headroom}
    return found


def _cell(cell: Cell) -> dict[str, Any]:
    value = cell.value
    return {
        "name": cell.name,
        "changes": cell.changes,
        "n": 0 if value is None else value.n,
        "mean": value and value.mean,
        "sd": value and value.sd,
        "ci": value and value.interval,
        "vs_reference": cell.versus and {"n": cell.versus.n, **_difference(cell.versus)},
        "failed": cell.failed,
        "failures": dict(Counter(cell.failures)),
        "adjusted": len(cell.adjusted),
    }


def _difference(versus: Estimate) -> dict[str, Any]:
    return {"diff": versus.mean, "ci": versus.interval}
