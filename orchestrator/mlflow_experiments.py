"""Experiments of any tool, read from MLflow and never written to."""

from __future__ import annotations

from pathlib import Path

from guidedmix_core import ConfigError, nearest
from orchestrator.foreign import ForeignRun
from orchestrator.mlflow_run import ASIDE
from orchestrator.mlflow_store import connect, first_line, shown


def read_experiment(uri: str, name: str) -> list[ForeignRun]:
    """All runs but those that stand for a whole study, or for an attempt that was put aside.

    ConfigError if there is no such store or experiment."""
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise ConfigError(f"{uri}: no such database; give MLFLOW_TRACKING_URI or --mlflow another address")
    try:
        client = connect(uri)
        experiment = client.get_experiment_by_name(name)
        names = [] if experiment else [found.name for found in client.search_experiments()]
    except Exception as error:  # of MLflow, its database driver or the network
        raise ConfigError(f"{shown(uri)}: {first_line(error)}; is this the address of an MLflow store?") from error
    if experiment is None:
        raise ConfigError(f"mlflow:{name}: no such experiment in {shown(uri)}; {nearest(name, names)}")
    found, token = [], None
    while True:
        page = client.search_runs([experiment.experiment_id], page_token=token)
        found += [
            ForeignRun(run.info.run_id, run.info.status, run.data.params, run.data.metrics)
            for run in page
            if run.data.tags.get("guidedmix.role") not in ("study", ASIDE)
        ]
        if not (token := page.token):
            return found
