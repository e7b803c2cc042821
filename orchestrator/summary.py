"""`summary.json`: the study in one file for whoever wants to read it, made from the records and nothing else."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from orchestrator.budgets import Budgets, budgets
from orchestrator.comparison import Cell, Comparison, asked_for, compare
from orchestrator.confirmation import Confirmation, Winner, confirmation
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
    if request.get("references"):
        summary["budgets"] = _budgets(budgets(folder, request, records))
    if request.get("confirm"):
        summary["confirmation"] = _confirmed(confirmation(request, records))
    return summary


def write_summary(folder: StudyFolder) -> None:
    write_json(folder.summary, summarize(folder))


def _row(record: TrialRecord) -> dict[str, Any]:
    row = {key: value for key, value in asdict(record).items() if key in ROW}
    return {**row, "failure": record.failure} if record.failure else row


def _compared(comparison: Comparison) -> dict[str, Any]:
    """The cells; and the headroom, if there is a ceiling: null until both cells share a block."""
    found: dict[str, Any] = {"cells": [_cell(cell) for cell in comparison.cells]}
    if comparison.ceiling is not None:
        room = comparison.headroom
        found["headroom"] = room and {**_difference(room), "enough": comparison.has_headroom}
    return found


def _budgets(found: Budgets) -> list[dict[str, Any]]:
    """The search first. Of a reference that was not tuned: one trial, itself."""
    rows = {"search": found.search, **found.references}
    return [
        {"of": name, "tuned": own is not None}
        | ({"trials": 1} if own is None else {"trials": own.trials, "seconds": own.seconds})
        | ({"best": own.best.fingerprint} if own is not None and own.best is not None else {})
        for name, own in rows.items()
    ]


def _confirmed(found: Confirmation | str | None) -> dict[str, Any] | None:
    """null while the search goes on."""
    if found is None:
        return None
    if isinstance(found, str):
        return {"refusal": found}
    return {
        "winners": [_winner(winner) for winner in found.winners],
        "cells": [_cell(cell) for cell in found.comparison.cells],
        "is_current": found.is_current,
    }


def _winner(winner: Winner) -> dict[str, Any]:
    value, gap = winner.cell.value, winner.gap
    return {
        "trial": winner.trial.number,
        "params": winner.trial.params,
        "search": winner.trial.objective,
        "n": 0 if value is None else value.n,
        "mean": value and value.mean,
        "ci": value and value.interval,
        "gap": gap and {"n": gap.n, **_difference(gap)},
        "vs": {label: versus and {"n": versus.n, **_difference(versus)} for label, versus in winner.versus.items()},
        "runs": [run.fingerprint for run in winner.cell.complete.values()],
    }


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
    }


def _difference(versus: Estimate) -> dict[str, Any]:
    return {"diff": versus.mean, "ci": versus.interval}
