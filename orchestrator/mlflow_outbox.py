"""What MLflow has accepted, noted in the study and beside each trial: what it lacks is known without asking it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from orchestrator import attempts
from orchestrator.folder import StudyFolder, TrialFolder, read_json, write_json
from orchestrator.mlflow_store import shown
from orchestrator.results import ENDED, load_trial


@dataclass(frozen=True)
class Cursor:
    """The content of a trial's `mlflow.json`."""

    run_id: str
    cursor: int | None = None
    """The last step whose metrics it has; 0: the parameters only; None: nothing."""
    state: str | None = None
    """As in the record; `interrupted`: nobody works on it."""
    attempt: int = 1
    """A trial that begins anew is another run."""


def was_reached(folder: StudyFolder, uri: str) -> bool:
    """Whether the store has the study, as far as is known here."""
    file = folder.path / "mlflow.json"
    known = read_json(file) if file.exists() else {}
    return known.get("uri") == shown(uri) and "run_id" in known


def noted(trial: TrialFolder) -> Cursor | None:
    return Cursor(**read_json(trial.mlflow)) if trial.mlflow.exists() else None


def note(trial: TrialFolder, cursor: Cursor) -> None:
    write_json(trial.mlflow, asdict(cursor))


def count_behind(folder: StudyFolder) -> int:
    """How many trials MLflow lacks, or shows behind their record, as far as is known here."""
    return sum(is_behind(trial, noted(trial)) for trial in folder.trials())


def is_behind(trial: TrialFolder, cursor: Cursor | None) -> bool:
    """Whether MLflow lacks the trial, or shows it behind its record."""
    record = load_trial(trial)
    if cursor is None or cursor.cursor is None or cursor.attempt != attempts.present(trial):
        return trial.config.exists()
    return record.state != cursor.state if record.state in ENDED else record.step > cursor.cursor
