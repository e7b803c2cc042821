"""One study's place in an MLflow store: its experiment, and runs to write to. The only file that imports MLflow.

It does so inside functions: the import costs a second that `guidedmix --help` need not pay.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.folder import StudyFolder, now
from orchestrator.mlflow_run import metrics
from orchestrator.provenance import quiet_dependencies

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

LOCAL = "sqlite:///{study}/mlflow.db"
METRICS_PER_BATCH = 800
LABELS_PER_BATCH = 100
"""Parameters, and tags. MLflow takes 1000 entries at once, and no more than 100 of these."""

VIEW = "guidedmix"
"""The key of the study's view of the runs' table."""

LOGIN = (
    "the server lets nobody in without a login, or not with this one; give MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, in the environment"
)
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Retrying is the window's: MLflow's own takes minutes a request. What the user has set stays."""


@dataclass(frozen=True)
class StoredRun:
    """A run as MLflow has it."""

    id: str
    status: str
    tags: Mapping[str, str]
    metrics: Collection[str]
    """Names."""

    @property
    def attempt(self) -> int:
        """Of the trial, at which the run shows it."""
        return int(self.tags.get("guidedmix.attempt", 1))


def shown(uri: str) -> str:
    """Without user and password."""
    return re.sub(r"//[^/@]*@", "//", uri)


def chosen(uri: str) -> str:
    """What `auto` means here and now."""
    return (os.environ.get("MLFLOW_TRACKING_URI") or LOCAL) if uri == "auto" else uri


def wants_login(error: BaseException) -> bool:
    """Whether it is a server's answer to who has no login, or a wrong one."""
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException) and error.get_http_status_code() in (401, 403)


def first_line(error: BaseException) -> str:
    """What to tell the user: the system's word if it is at the root. A message may quote the address's password."""
    if wants_login(error):
        return LOGIN
    root = error
    while inner := root.__cause__ or root.__context__:
        root = inner
    if isinstance(root, OSError) and root.strerror:
        return root.strerror
    return shown((str(error).strip() or type(error).__name__).splitlines()[0])


def located(uri: str, folder: StudyFolder) -> str:
    """`{study}` in a URI is the study's folder."""
    return uri.replace("{study}", str(folder.path.resolve()))


class MlflowStore:
    """Raises whatever MLflow, its database driver or the network raise. One thread at a time."""

    def __init__(self, uri: str, folder: StudyFolder, experiment: str | None = None) -> None:
        """The study's experiment is found or made, unless its id is given."""
        self.client = connect(located(uri, folder))
        self.experiment = experiment or self._find_experiment(uri, folder)

    def offer_view(self, view: Mapping[str, Any]) -> None:
        """A state of the runs' table that the UI opens with `viewStateShareKey`, as its Share button makes them."""
        self.client.set_experiment_tag(self.experiment, f"mlflow.sharedViewState.{VIEW}", json.dumps(view))

    def ping(self) -> None:
        """Raises if the store does not answer."""
        self.client.get_experiment(self.experiment)

    def runs(self, study: str) -> list[StoredRun]:
        """All that carry the study's key, except those the user has deleted."""
        found, token, query = [], None, f"tags.`guidedmix.study` = '{study}'"
        while True:
            page = self.client.search_runs([self.experiment], query, page_token=token)
            found += map(_stored, page)
            if not (token := page.token):
                return found

    def find(self, study: str, fingerprint: str, attempt: int) -> StoredRun | None:
        """The run of a trial."""
        tags = {"study": study, "fingerprint": fingerprint, "attempt": attempt}
        query = " AND ".join(f"tags.`guidedmix.{name}` = '{value}'" for name, value in tags.items())
        return next(map(_stored, self.client.search_runs([self.experiment], query, max_results=1)), None)

    def create(self, name: str, tags: Mapping[str, str], started: str | None = None) -> str:
        """The id of a new run, RUNNING."""
        start = _milliseconds(started or now())
        return self.client.create_run(self.experiment, start_time=start, run_name=name, tags=dict(tags)).info.run_id

    def last_step(self, run: StoredRun) -> int:
        """The last step of which the run has metrics, 0 if of none. Not by the objective: it is logged at the end."""
        name = next((name for name in run.metrics if name != "objective"), None)
        return max(self.steps(run, name), default=0) if name else 0

    def steps(self, run: StoredRun, name: str) -> list[int]:
        """At which the run has a value of the metric; twice if it has two."""
        return [metric.step for metric in self.client.get_metric_history(run.id, name)]

    def log(
        self,
        run: str,
        rows: Sequence[Mapping[str, Any]] = (),
        parameters: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """In one request, up to a thousand entries. A row is a line of `metrics.jsonl`; what MLflow has, it drops."""
        from mlflow.entities import Metric, Param, RunTag

        times = [(row, _milliseconds(row["time"])) for row in rows]
        numbers = [Metric(*pair, time, row["step"]) for row, time in times for pair in metrics(row).items()]
        params, labels = (
            [Param(*pair) for pair in (parameters or {}).items()],
            [RunTag(*pair) for pair in (tags or {}).items()],
        )
        while numbers or params or labels:
            batch = {
                "metrics": numbers[:METRICS_PER_BATCH],
                "params": params[:LABELS_PER_BATCH],
                "tags": labels[:LABELS_PER_BATCH],
            }
            self.client.log_batch(run, **batch)
            numbers = numbers[METRICS_PER_BATCH:]
            params, labels = params[LABELS_PER_BATCH:], labels[LABELS_PER_BATCH:]

    def untag(self, run: str, *names: str) -> None:
        """Take back what a run may have been tagged with."""
        for name in self.client.get_run(run).data.tags.keys() & set(names):
            self.client.delete_tag(run, name)

    def log_data(self, run: str, name: str, source: str, digest: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(name=name, digest=digest, source_type="guidedmix", source=source)
        self.client.log_inputs(run, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    def log_files(self, run: str, path: Path, under: str | None = None) -> None:
        """A file, or all in a folder, into the artifacts or a folder there; what has the same name is replaced."""
        if path.is_dir():
            self.client.log_artifacts(run, str(path), under)
        else:
            self.client.log_artifact(run, str(path), under)

    def reopen(self, run: str, name: str) -> None:
        self.client.update_run(run, status="RUNNING", name=name)

    def close(self, run: str, status: str, ended: str | None = None) -> None:
        self.client.set_terminated(run, status, _milliseconds(ended or now()))

    def discard(self, run: str) -> None:
        """Into MLflow's trash, from which a user can take it back."""
        self.client.delete_run(run)

    def _find_experiment(self, uri: str, folder: StudyFolder) -> str:
        # A server keeps artifacts where it wants; a database has no place for them.
        is_server = re.match(r"https?:|databricks", uri)
        place = None if is_server else folder.mlflow_artifacts.resolve().as_uri()
        found = self.client.get_experiment_by_name(folder.name)
        if found and "{study}" in uri and found.artifact_location != place:
            # The study was moved with its database, which knows the old place only. All can be logged anew.
            self.client.rename_experiment(found.experiment_id, f"{folder.name}, before it was moved ({now()})")
            self.client.delete_experiment(found.experiment_id)
            found = None
        if found:
            if found.lifecycle_stage == "deleted":
                self.client.restore_experiment(found.experiment_id)
            return found.experiment_id
        # The kind decides what the UI opens with: runs, not traces of language models.
        kind = {"mlflow.experimentKind": "custom_model_development"}
        return self.client.create_experiment(folder.name, artifact_location=place, tags=kind)


def connect(uri: str) -> MlflowClient:
    """A silent client; a database is created, with its folder."""
    quiet_dependencies()
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # tracebacks of what it raises, too
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=uri)


def _stored(run: Run) -> StoredRun:
    return StoredRun(run.info.run_id, run.info.status, run.data.tags, run.data.metrics)


def _milliseconds(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1000)
