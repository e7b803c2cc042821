"""What the page tells, read once from the study folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from orchestrator.comparison import Comparison, asked_for, compare
from orchestrator.folder import StudyFolder, TrialFolder, read_json
from orchestrator.report.wording import short_names
from orchestrator.results import TrialRecord, best, class_names, curves, load_trials, objectives_of
from orchestrator.spending import Spending, spending
from orchestrator.study import Objective

SCORED = ("complete", "stopped")


class Curves(dict[str, list[dict[str, Any]]]):
    """By fingerprint, a row an evaluation. Read when asked for: the page of 10,000 runs draws the curves of a few."""

    def __init__(self, folder: StudyFolder) -> None:
        self._folder = folder

    def __missing__(self, fingerprint: str) -> list[dict[str, Any]]:
        self[fingerprint] = rows = curves(self._folder, fingerprint)
        return rows


class Environments(dict[str, dict[str, Any]]):
    """By fingerprint, what a run was made with; empty if it has not begun. Read when asked for."""

    def __init__(self, folder: StudyFolder) -> None:
        self._folder = folder

    def __missing__(self, fingerprint: str) -> dict[str, Any]:
        file = self._folder.trial(fingerprint).environment
        made = read_json(file) if file.exists() else {}
        self[fingerprint] = made = {key: value for key, value in made.items() if key != "packages"}
        return made


@dataclass(frozen=True)
class Facts:
    """The study's request, records and curves, and the few judgments all sections share."""

    folder: StudyFolder
    request: dict[str, Any]
    goals: tuple[Objective, ...]
    records: tuple[TrialRecord, ...]
    curves: Curves
    environments: Environments

    @cached_property
    def comparison(self) -> Comparison:
        """Of an ablation, or of fresh runs. Made once: page and files ask for it, which takes seconds of many cells."""
        return compare(self.request, self.records)

    @cached_property
    def trials(self) -> tuple[TrialRecord, ...]:
        return tuple(record for record in self.records if record.role == "trial")

    @cached_property
    def references(self) -> tuple[TrialRecord, ...]:
        return tuple(record for record in self.records if record.label is not None and record.cell is None)

    @cached_property
    def spending(self) -> Spending:
        return spending(self.folder, self.request)

    @property
    def goal(self) -> Objective:
        """The first objective decides what is best."""
        return self.goals[0]

    @property
    def is_search(self) -> bool:
        return self.request["kind"] == "tune"

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """Dotted path to what was searched there."""
        declared = self.request.get("parameters") or {}
        seen = dict.fromkeys(path for trial in self.trials for path in trial.params)
        return {path: declared.get(path) for path in [*declared, *(path for path in seen if path not in declared)]}

    @cached_property
    def short(self) -> dict[str, str]:
        return short_names(self.parameters)

    @cached_property
    def best(self) -> TrialRecord | None:
        return best(self.records, self.goal)

    @cached_property
    def reference(self) -> TrialRecord | None:
        """The one that the best trial is shown beside: `supervised` if it is there."""
        judged = [record for record in self.references if record.state == "complete" and record is not self.best]
        return min(judged, key=lambda record: record.label != "supervised", default=None)

    @cached_property
    def scored(self) -> tuple[TrialRecord, ...]:
        """Trials that have a value of every objective."""
        return tuple(
            t for t in self.trials if t.state in SCORED and all(self.value(t, goal) is not None for goal in self.goals)
        )

    @cached_property
    def front(self) -> frozenset[str]:
        """Fingerprints of the complete trials that no other complete trial beats in all objectives."""
        complete = [trial for trial in self.scored if trial.state == "complete"]
        points = {trial.fingerprint: self._oriented(trial) for trial in complete}
        return frozenset(
            mine for mine, point in points.items() if not any(_dominates(other, point) for other in points.values())
        )

    @cached_property
    def ranking(self) -> tuple[TrialRecord, ...]:
        """Complete trials from best to worst, then stopped ones (those that came further first), running, failed."""
        order = ("complete", "stopped", "running", "failed")

        def place(trial: TrialRecord) -> tuple[Any, ...]:
            behind = len(self.goals) > 1 and trial.fingerprint not in self.front
            further = 0 if trial.state == "complete" else -trial.step
            value = trial.objective if trial.objective is not None else float("inf") * -self.sign
            return order.index(trial.state), behind, further, -self.sign * value, trial.number

        return tuple(sorted(self.trials, key=place))

    @property
    def sign(self) -> int:
        return 1 if self.goal.mode == "max" else -1

    def value(self, record: TrialRecord, goal: Objective) -> float | None:
        """At the last evaluation; None while running or if failed."""
        if record.state not in SCORED:
            return None
        return record.objective if goal == self.goal else record.metrics.get(goal.metric)

    def home(self, record: TrialRecord) -> TrialFolder:
        return self.folder.trial(record.fingerprint)

    def name(self, record: TrialRecord) -> str:
        """`trial 5`, the label of a reference or of a cell in its block, or `this run` where there is only one."""
        if record.cell is not None:
            return str(record.label)
        if not self.is_search:
            return "this run"
        return f"trial {record.number}" if record.role == "trial" else str(record.label)

    @cached_property
    def classes(self) -> list[str]:
        """In the order of their ids; a class that is never seen is still listed (its IoU is null)."""
        for record in filter(None, (self.best, self.reference, *self.records)):
            if self.home(record).result.exists() and (names := class_names(self.home(record))):
                return names
        return []

    def _oriented(self, trial: TrialRecord) -> list[float]:
        return [(self.value(trial, goal) or 0.0) * (1 if goal.mode == "max" else -1) for goal in self.goals]


def read_facts(folder: StudyFolder) -> Facts:
    request = folder.request()
    records = tuple(asked_for(request, load_trials(folder)))
    return Facts(folder, request, objectives_of(request), records, Curves(folder), Environments(folder))


def _dominates(other: Sequence[float], point: Sequence[float]) -> bool:
    return all(a >= b for a, b in zip(other, point, strict=True)) and any(
        a > b for a, b in zip(other, point, strict=True)
    )
