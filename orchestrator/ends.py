"""How a run ended: the content of `result.json`."""

from __future__ import annotations

from typing import Any

from guidedmix_core import Result, RunConfig, fingerprint
from orchestrator import halving
from orchestrator.chains import stages_of
from orchestrator.failures import Failure
from orchestrator.folder import TrialFolder, now, read_json, read_lines
from orchestrator.study import Objective


def whole_end(config: RunConfig, folder: TrialFolder, end: dict[str, Any], started: str) -> dict[str, Any]:
    made = read_json(folder.environment) if folder.environment.exists() else {}
    more = {"stages": stages_of(folder), "adjusted": halving.adjustment(config, folder), "data": made.get("data")}
    return {"fingerprint": fingerprint(config), **end, **more, "started": started, "ended": now()}


def good_end(result: Result, objective: Objective) -> dict[str, Any]:
    return {
        "state": "stopped" if result.stopped else "complete",
        "objective": result.metrics[objective.metric],
        "step": result.step,
        "steps": result.steps,
        "seconds": result.seconds,
        "metrics": result.metrics,
        "best": {"step": result.best.step, "metrics": result.best.metrics},
        "failure": None,
    }


def failed_end(config: RunConfig, folder: TrialFolder, failure: Failure) -> dict[str, Any]:
    *_, last = [{"step": 0}, *read_lines(folder.metrics)]
    return {
        "state": "failed",
        "objective": None,
        "step": last["step"] if failure.step is None else failure.step,
        "steps": config.train.steps,
        "seconds": last.get("time/seconds") or 0.0,
        "metrics": {key: value for key, value in last.items() if key not in ("step", "time")},
        "best": None,
        "failure": failure.as_record(),
    }
