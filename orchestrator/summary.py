"""`summary.json`: the study in one file for whoever wants to read it, made from the records and nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from orchestrator.comparison import Cell, Comparison, asked_for, compare
from orchestrator.evidence import Evidence
from orchestrator.factorial import FactorEffect, half_normal
from orchestrator.folder import StudyFolder, write_json
from orchestrator.results import ENDED, TrialRecord, best, load_trials, objectives_of
from orchestrator.stats import Estimate

ROW = ("fingerprint", "number", "role", "label", "params", "seed", "state", "objective", "step", "steps", "seconds")
ROW = (*ROW, "mlflow_run_id", "cell", "block", "reused_from")


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
        summary["reused"] = dict(Counter(record.reused_from for record in records if record.reused_from))
        summary |= compared(compare(request, records))
    return summary


def write_summary(folder: StudyFolder) -> None:
    write_json(folder.summary, summarize(folder))


def compared(comparison: Comparison) -> dict[str, Any]:
    """The cells; the headroom, if there is a ceiling: null until both cells share a block; effects of a design."""
    found: dict[str, Any] = {"cells": [_cell(cell) for cell in comparison.cells]}
    if comparison.ceiling is not None:
        room = comparison.headroom
        found["headroom"] = room and {**_difference(room), "enough": comparison.has_headroom}
    if comparison.effects is not None:
        found["effects"] = [_effect(effect) for effect in comparison.effects]
        found["half_normal"] = [
            {"quantile": place, "size": size, "factors": factors}
            for place, size, factors in half_normal(comparison.effects)
        ]
    return found


def _row(record: TrialRecord) -> dict[str, Any]:
    row = {key: value for key, value in asdict(record).items() if key in ROW}
    return {**row, "failure": record.failure} if record.failure else row


def _cell(cell: Cell) -> dict[str, Any]:
    value = cell.value
    return {
        "name": cell.name,
        "levels": cell.levels,
        "changes": cell.changes,
        "n": 0 if value is None else value.n,
        "mean": value and value.mean,
        "sd": value and value.sd,
        "ci": value and value.interval,
        "vs_reference": cell.evidence and _evidence(cell.evidence),
        "verdict": cell.verdict,
        "is_small": cell.is_small,
        "star": cell.is_starred,
        "failed": cell.failed,
    }


def _evidence(evidence: Evidence) -> dict[str, Any]:
    versus, effect = evidence.versus, evidence.effect
    return {
        "n": versus.n,
        **_difference(versus),
        "sd": versus.sd,
        "basis": evidence.basis,
        "p": evidence.p,
        "p_adjusted": evidence.p_adjusted,
        "p_smaller": evidence.p_smaller,
        "p_smaller_adjusted": evidence.p_smaller_adjusted,
        "p_sign_flip": evidence.p_sign_flip,
        "p_signed_rank": evidence.p_signed_rank,
        "effect_size": effect and {"hedges_g": effect.g, "ci": effect.interval},
        "bootstrap": {"ci": evidence.bootstrap.interval, "absent": evidence.bootstrap.absent},
        "decided_after": evidence.decided_after,
    }


def _effect(effect: FactorEffect) -> dict[str, Any]:
    over = effect.estimate
    return {"factors": effect.factors, "aliases": effect.aliases, "n": over.n, **_difference(over)}


def _difference(versus: Estimate) -> dict[str, Any]:
    return {"diff": versus.mean, "ci": versus.interval}
