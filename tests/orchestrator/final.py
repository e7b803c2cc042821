"""What a study comes to, without what another run of it would have otherwise: times, and the ids of MLflow's runs."""

from __future__ import annotations

from collections import Counter
from typing import Any

from orchestrator.doctor import examine
from orchestrator.folder import StudyFolder, read_json, read_lines
from orchestrator.mlflow_store import MlflowStore

OF_TIME = ("seconds", "mlflow_run_id", "time")


def outcome(folder: StudyFolder) -> dict[str, Any]:
    """Summary, curves, what the journal says of each run, and all that MLflow has."""
    curves = {trial.fingerprint: _timeless(read_lines(trial.metrics)) for trial in folder.trials()}
    return {"summary": _timeless(read_json(folder.summary)), "curves": curves, "mlflow": _of_mlflow(folder)}


def repeated_runs(folder: StudyFolder) -> list[str]:
    """Runs that were started after their end, or have more than one."""
    found, ended = [], Counter[str]()
    for event in folder.events():
        fingerprint = event.get("fingerprint", "")
        if event["event"] in ("trial_started", "trial_ended") and ended[fingerprint]:
            found.append(fingerprint)
        ended[fingerprint] += event["event"] == "trial_ended"
    return found


def complaints(folder: StudyFolder) -> list[str]:
    """Of the doctor, notes left out."""
    found = [finding for finding in examine(folder) if finding.level != "note"]
    return [f"{finding.place.name}: {finding.problem}" for finding in found]


def _of_mlflow(folder: StudyFolder) -> list[Any]:
    """Of each run: name, status, every value of each metric with its step, and which it takes for the last."""
    known = read_json(folder.path / "mlflow.json")
    client = MlflowStore(known["uri"], folder, known["experiment_id"]).client
    found = []
    for run in client.search_runs([known["experiment_id"]]):
        names = sorted(name for name in run.data.metrics if not name.startswith("time/"))
        histories = {name: client.get_metric_history(run.info.run_id, name) for name in names}
        values = {name: sorted((point.step, point.value) for point in points) for name, points in histories.items()}
        last = {name: run.data.metrics[name] for name in names}
        found.append([run.info.run_name, run.info.status, values, last])
    return sorted(found, key=lambda run: run[0])


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: inner for key, inner in value.items() if key not in OF_TIME and not key.startswith("time/")}
        return {key: _timeless(inner) for key, inner in kept.items()}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value
