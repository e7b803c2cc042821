"""What the choice of a search's winner cost, and what that of each reference: one was tuned, was the other?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.folder import StudyFolder
from orchestrator.results import ENDED, TrialRecord, objectives_of, ranked


@dataclass(frozen=True)
class Budget:
    """Of a reference, or of the search itself."""

    trials: int
    """That have ended, in whatever way."""
    seconds: float
    """Of their training, stages left out."""
    best: TrialRecord | None
    """The complete one with the best objective."""


@dataclass(frozen=True)
class Budgets:
    search: Budget
    references: dict[str, Budget | None]
    """By label, in the order of the file; None: it has no search of its own."""

    def sentences(self, value: Callable[[float], str], duration: Callable[[float], str]) -> list[str]:
        """Whether each reference was tuned as long as the winner. Trials are what is equal; seconds are only told."""
        n, said = self.search.trials, []
        for label, own in self.references.items():
            if own is not None:
                counts = f"{n} trials each" if own.trials == n else f"{own.trials} trials, {n} in the search"
                times = f"{duration(own.seconds)} of training, {duration(self.search.seconds)} in the search"
                best = own.best.objective if own.best is not None else None
                said.append(f"{label} was tuned, too: {counts} ({times}). {_reached(best, value)}")
        return said

    @property
    def warnings(self) -> list[str]:
        """The references that were not tuned, beside a search that was more than one trial."""
        n = self.search.trials
        if n < 2:
            return []
        untuned = [label for label, own in self.references.items() if own is None]
        return [f"{label} is untuned: the search had {n} trials, the reference one." for label in untuned]


def _reached(best: float | None, value: Callable[[float], str]) -> str:
    return "None of its trials is complete." if best is None else f"Its best trial has {value(best)}."


class TunedRuns:
    """The runs that each reference's own search has asked for. The journal knows: some may be the search's or the
    reference's own run, too. It only grows, and what was read of it is not read again."""

    def __init__(self, folder: StudyFolder) -> None:
        self._folder, self._lines = folder, 0
        self._by_label: dict[str, set[str]] = defaultdict(set)

    def of(self, label: str) -> set[str]:
        """Their fingerprints."""
        events = self._folder.events(self._lines)
        self._lines += len(events)
        for event in events:
            if event["event"] == "asked" and event["role"] == "tuning":
                self._by_label[event["cell"]].add(event["fingerprint"])
        return self._by_label[label]


def budgets(tuned: TunedRuns, request: Mapping[str, Any], records: Iterable[TrialRecord]) -> Budgets:
    """Of a search."""
    records, goal = list(records), objectives_of(request)[0]
    spaces = request.get("reference_parameters") or {}

    def budget(found: list[TrialRecord]) -> Budget:
        ended = [record for record in found if record.state in ENDED]
        best = ranked(ended, goal)
        return Budget(len(ended), sum(record.seconds for record in ended), best[0] if best else None)

    references: dict[str, Budget | None] = {}
    for label in request.get("references") or {}:
        own = tuned.of(label) if label in spaces else None
        references[label] = None if own is None else budget([run for run in records if run.fingerprint in own])
    return Budgets(budget([record for record in records if record.role == "trial"]), references)
