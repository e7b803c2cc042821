"""MLflow beside the folder: runs that say RUNNING, that are missing, or that have other metrics than their trials."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from guidedmix_core import ConfigError
from orchestrator import attempts
from orchestrator.doctor.finding import Finding, aside
from orchestrator.folder import StudyFolder, read_json
from orchestrator.mlflow_mirror import STATUS, Mirror
from orchestrator.mlflow_outbox import Cursor
from orchestrator.mlflow_run import ASIDE, metric_name, run_name
from orchestrator.mlflow_store import MlflowStore, StoredRun, first_line, located
from orchestrator.results import TrialRecord, curves, load_trials, objectives

SYNC = "MLflow is made to match the folder"


def mlflow(folder: StudyFolder) -> Iterator[Finding]:
    """Nothing of a study that is not tracked. Records can be read."""
    file = folder.path / "mlflow.json"
    known = read_json(file) if file.exists() else {}
    if "experiment_id" not in known:
        return
    uri = located(known["uri"], folder)
    database = Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None
    if database and not database.exists():
        anew = lambda: _match(folder, known["uri"])  # noqa: E731
        yield Finding("wrong", database, "is gone", "made anew from the folder", anew)
        return
    if database and (problem := _damage(database)) is not None:
        yield Finding("wrong", database, problem, "set aside, and made anew from the folder", _anew(folder, database))
        return
    try:
        yield from _Audit(folder, known).findings()
    except Exception as error:  # of MLflow, its database driver or the network, as the URI has it
        said = f"MLflow ({known['uri']}) can't be read: {first_line(error)}"
        yield Finding("untidy", file, said, "look again when it answers; the study goes on without it")


class _Audit:
    """Reads only. All that it finds is mended at once."""

    def __init__(self, folder: StudyFolder, known: dict[str, Any]) -> None:
        self.folder, self.known = folder, known
        self.store = MlflowStore(known["uri"], folder, known["experiment_id"])
        self.metric = metric_name(objectives(folder)[0].metric)
        self.incomplete: dict[str, Cursor] = {}
        self.superfluous: list[str] = []

    def findings(self) -> Iterator[Finding]:
        records = load_trials(self.folder)
        parents, of_trial = self._runs()
        yield from self._study(parents, records)
        for record in records:
            yield from self._trial(record, of_trial.pop(record.fingerprint, []))
        yield from self._gone([run for runs in of_trial.values() for run in runs])

    def _runs(self) -> tuple[list[StoredRun], dict[str, list[StoredRun]]]:
        parents: list[StoredRun] = []
        of_trial: dict[str, list[StoredRun]] = defaultdict(list)
        for run in self.store.runs(self.known["key"]):
            if (role := run.tags["guidedmix.role"]) == "study":
                parents.append(run)
            elif role != ASIDE:
                of_trial[run.tags["guidedmix.fingerprint"]].append(run)
        return parents, of_trial

    def _study(self, parents: list[StoredRun], records: list[TrialRecord]) -> Iterator[Finding]:
        events = self.folder.events()
        is_over = events[-1]["event"] == "study_ended" if events else all(r.state != "running" for r in records)
        wanted = "FINISHED" if is_over else "KILLED"
        if not parents:
            yield self._finding("MLflow has no run of the study")
        elif parents[0].status != wanted:
            yield self._finding(f"MLflow says {parents[0].status} of the study, not {wanted}")

    def _trial(self, record: TrialRecord, runs: list[StoredRun]) -> Iterator[Finding]:
        name, trial = run_name(record), self.folder.trial(record.fingerprint)
        attempt = attempts.present(trial)
        if len(current := [run for run in runs if run.attempt == attempt]) < len(runs):
            yield self._finding(f"MLflow takes an attempt that was put aside for {name}")
            runs = current
        if not runs:
            if trial.config.exists():
                yield self._finding(f"MLflow has no run of {name}")
            return
        noted = read_json(trial.mlflow)["run_id"] if trial.mlflow.exists() else None
        run, *others = sorted(runs, key=lambda run: run.id != noted)
        if others:
            self.superfluous += [other.id for other in others]
            yield self._finding(f"MLflow has {len(runs)} runs of {name}", "the others go into MLflow's trash")
        steps = Counter(self.store.steps(run, self.metric))
        missing = [row["step"] for row in curves(self.folder, record.fingerprint) if row["step"] not in steps]
        state = "interrupted" if record.state == "running" else record.state
        if twice := [step for step, times in steps.items() if times > 1]:
            self.superfluous.append(run.id)
            problem = f"MLflow has step {twice[0]} of {name} twice"
            yield self._finding(problem, "the run goes into MLflow's trash, and is made anew from the folder")
        elif missing:
            self.incomplete[record.fingerprint] = Cursor(run.id, attempt=attempt)
            yield self._finding(f"MLflow lacks step {missing[0]} of {name}")
        elif run.status != STATUS[state] or run.tags.get("guidedmix.state") != state:
            yield self._finding(f"MLflow says {run.status} of {name}, which is {state}")

    def _gone(self, runs: list[StoredRun]) -> Iterator[Finding]:
        if running := [run.id for run in runs if run.status == "RUNNING"]:
            yield self._finding(f"{len(running)} runs in MLflow say RUNNING, and their trials are gone")
        if kept := len(runs) - len(running):
            said = f"{kept} runs in MLflow have no trial here any more"
            yield Finding("note", self.folder.path / "mlflow.json", said, "they stay: nothing else tells of them")

    def _finding(self, problem: str, cure: str = SYNC) -> Finding:
        return Finding("wrong", self.folder.path / "mlflow.json", problem, cure, self.repair)

    def repair(self) -> None:
        for run in self.superfluous:
            self.store.discard(run)
        _match(self.folder, self.known["uri"], self.incomplete)


def _match(folder: StudyFolder, uri: str, incomplete: dict[str, Cursor] | None = None) -> None:
    """`incomplete`: of trials whose runs get all their metrics once more; what MLflow has, it drops."""
    mirror = Mirror(uri, folder)
    mirror.cursors |= incomplete or {}
    try:
        mirror.sync()
    except Exception as error:  # of MLflow, its database driver or the network
        raise ConfigError(f"MLflow ({uri}): {first_line(error)}; try again when it answers") from error


def _anew(folder: StudyFolder, database: Path) -> Any:
    def repair() -> None:
        aside(folder, *database.parent.glob(f"{database.name}*"))()
        _match(folder, read_json(folder.path / "mlflow.json")["uri"])

    return repair


def _damage(database: Path) -> str | None:
    """Before MLflow opens it, which would keep it open."""
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as opened:
            (said,) = opened.execute("pragma quick_check(1)").fetchone()
            return None if said == "ok" else said
    except sqlite3.OperationalError:  # somebody holds it
        return None
    except sqlite3.DatabaseError as error:
        return str(error)
