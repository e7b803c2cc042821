"""The journal beside the results: what a crash kept it from saying, and what it says of results that are gone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.results import TrialRecord

Event = dict[str, Any]
NAMES = ("fingerprint", "number", "role")
REOPENS = ("trial_retried", "trial_lost")
"""Events after which a run has no end, until the next one."""


def unsaid(events: Iterable[Mapping[str, Any]], records: Iterable[TrialRecord]) -> list[Event]:
    """The events after which the journal has the end of each run as its result has it: the result is the record.

    A crash can fall between a result and its event; a result can be lost, or be another one, since.
    """
    said = ends(events)
    found: list[Event] = []
    for record in records:
        names = {key: getattr(record, key) for key in NAMES}
        known = said.pop(record.fingerprint, None)
        if record.state == "running":
            found += [{"event": "trial_lost", **names}] if known else []
        elif known is None or (known["state"], known["objective"]) != (record.state, record.objective):
            found += [{"event": "trial_lost", **names}] if known else []
            found.append({"event": "trial_ended", **names, "state": record.state, "objective": record.objective})
    return [*found, *({"event": "trial_lost", **{key: end[key] for key in NAMES}} for end in said.values())]


def ends(events: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """By fingerprint, the event with which each run has ended that has not begun again since."""
    said: dict[str, Mapping[str, Any]] = {}
    for event in events:
        if event["event"] == "trial_ended":
            said[event["fingerprint"]] = event
        elif event["event"] in REOPENS:
            said.pop(event["fingerprint"], None)
    return said


def repeated(events: Iterable[Mapping[str, Any]]) -> list[int]:
    """The places of ends that say of a run again what was said: it has not begun anew in between."""
    said: dict[str, tuple[Any, Any]] = {}
    found = []
    for place, event in enumerate(events):
        if event["event"] == "trial_ended":
            end = (event["state"], event["objective"])
            if said.get(event["fingerprint"]) == end:
                found.append(place)
            said[event["fingerprint"]] = end
        elif event["event"] in REOPENS:
            said.pop(event["fingerprint"], None)
    return found
