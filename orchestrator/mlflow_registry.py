"""A study's winner in MLflow's model registry: only when somebody asks for it, with what its numbers stand on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from guidedmix_core import ConfigError
from orchestrator.confirmation import Confirmation, confirmation
from orchestrator.folder import StudyFolder, read_json
from orchestrator.mlflow_run import data_digest, metric_name, run_name
from orchestrator.mlflow_store import connect, first_line, located
from orchestrator.results import TrialRecord, best, load_trials, objectives_of
from orchestrator.storage import refresh, shown
from orchestrator.units import show

if TYPE_CHECKING:
    from mlflow import MlflowClient


def winner_of(folder: StudyFolder) -> TrialRecord:
    """The best trial of a search, or the single run. ConfigError if there is none: an ablation compares means."""
    request = folder.request()
    if request["kind"] == "ablate":
        raise ConfigError(
            f"{folder.place}: an ablation compares means over blocks and has no winning run; train the configuration "
            "you want with guidedmix train, and register that"
        )
    record = best(load_trials(folder), objectives_of(request)[0])
    if record is None:
        raise ConfigError(f"{folder.place}: no trial is complete, so there is nothing to register")
    return record


def register(folder: StudyFolder, name: str) -> str:
    """The version of the winner's best checkpoint. One that is registered already keeps its version, which is told what
    has become known since, such as fresh runs.

    ConfigError if the study or its winner is not in MLflow, or the checkpoint is gone.
    """
    if set(name) & set("'/:"):
        raise ConfigError(f"--name={name}: MLflow's registry takes no ' / or : in a name")
    record = winner_of(folder)
    trial, known = folder.trial(record.fingerprint), folder.path / "mlflow.json"
    checkpoint = trial.checkpoint / "best.pt"
    refresh(checkpoint, without=())
    if not checkpoint.exists():
        raise ConfigError(f"{shown(checkpoint)}: no such checkpoint; run the study again to make it anew")
    if not known.exists() or not trial.mlflow.exists():
        raise ConfigError(f"{folder.place}: not tracked by MLflow; run the study again with tracking.mlflow set")
    uri, run = read_json(known)["uri"], read_json(trial.mlflow)["run_id"]
    try:
        client = connect(located(uri, folder))
        place = str(client.get_run(run).info.artifact_uri)
        if "{study}" in uri and not place.startswith(folder.mlflow_artifacts.resolve().as_uri()):
            raise ConfigError(f"{folder.place}: was moved since MLflow saw it; run the study again, which tells MLflow")
        return _version(client, name, run, f"{place}/checkpoint", checkpoint, _facts(folder, record))
    except ConfigError:
        raise
    except Exception as error:  # of MLflow, its database driver or the network
        raise ConfigError(f"{name}: not registered: {first_line(error)}") from error


def _version(
    client: MlflowClient, name: str, run: str, source: str, checkpoint: Path, facts: tuple[str, dict[str, str]]
) -> str:
    """The checkpoint becomes an artifact of its run, so that the version has something to stand on."""
    said, tags = facts
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    for found in client.search_model_versions(f"name = '{name}'"):
        if found.tags.get("guidedmix.fingerprint") == tags["guidedmix.fingerprint"]:
            client.update_model_version(name, found.version, said)
            for key, value in tags.items():
                client.set_model_version_tag(name, found.version, key, value)
            return str(found.version)
    client.log_artifact(run, str(checkpoint), "checkpoint")
    return str(client.create_model_version(name, source, run, tags=tags, description=said).version)


def _facts(folder: StudyFolder, record: TrialRecord) -> tuple[str, dict[str, str]]:
    """A description, and tags: what the weights are of, how good, on which data."""
    assert record.best is not None, "a complete trial was evaluated"
    step, metrics, goal = record.best["step"], record.best["metrics"], objectives_of(folder.request())[0]
    said = (
        f"Weights of step {step} of {run_name(record)} of {folder.name}: of its evaluations the one with the best "
        f"{goal.metric}, chosen by the images that it was judged on."
    )
    tags = {"guidedmix.fingerprint": record.fingerprint, "guidedmix.study": folder.name, "step": str(step)}
    told = {each: value for each, value in metrics.items() if each.startswith("val/") and value is not None}
    tags |= {metric_name(each): f"{value:.6g}" for each, value in told.items()}
    if data := data_digest(folder.trial(record.fingerprint)):
        tags |= {"data.name": data[0], "data.fingerprint": data[2]}
    fresh, of_fresh = _of_fresh_runs(folder, record)
    return said + fresh, tags | of_fresh


def _of_fresh_runs(folder: StudyFolder, record: TrialRecord) -> tuple[str, dict[str, str]]:
    """What the same configuration came to in the blocks that its search has not seen; empty without such runs."""
    found = confirmation(folder.request(), load_trials(folder))
    if not isinstance(found, Confirmation):
        return "", {}
    cells = {winner.trial.fingerprint: winner.cell for winner in found.winners}
    cell, metric = cells.get(record.fingerprint), found.comparison.objective.metric
    if cell is None or cell.value is None:
        return "", {}
    n, mean = cell.value.n, cell.value.mean
    said = (
        f" Run again in fresh blocks, {n} of them complete, the configuration has a mean {metric} of "
        f"{show(metric, mean)} on the {found.part} part: quote that."
    )
    return said, {"fresh.n": str(n), "fresh.part": found.part, f"fresh.{metric_name(metric)}": f"{mean:.6g}"}
