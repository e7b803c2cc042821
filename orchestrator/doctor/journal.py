"""The journal: torn or damaged lines, and what it says of runs that their folders don't."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from orchestrator.doctor.finding import Finding, place_aside, read_whole_lines
from orchestrator.folder import StudyFolder, cut_torn_line, read_json, write_atomic, write_lines
from orchestrator.journal import repeated, unsaid
from orchestrator.results import TrialRecord, load_trials


def lines(folder: StudyFolder) -> Iterator[Finding]:
    """Whether it can be read."""
    found = read_whole_lines(folder.journal)
    if found.is_torn:
        cure = "cut off, as the next start does: what it was to say follows from the runs"
        yield Finding("untidy", folder.journal, "the last line is torn by a crash", cure, lambda: _cut(folder))
    if found.damaged:
        which = ", ".join(map(str, found.damaged[:5])) + (", …" if len(found.damaged) > 5 else "")
        cure = "set aside, and written again without them; what they said of runs follows from the runs"
        problem = f"not readable as JSON: line {which}"
        yield Finding("blocks", folder.journal, problem, cure, lambda: _rewrite(folder, found.records))


def against_runs(folder: StudyFolder) -> Iterator[Finding]:
    """Whether it agrees with the runs. Journal and records can be read."""
    if folder.request()["kind"] == "train":  # a single run keeps no journal
        return
    events, records = folder.events(), load_trials(folder)
    asked = {(event["fingerprint"], event["role"]) for event in events if event["event"] == "asked"}
    missing = [record for record in records if (record.fingerprint, record.role) not in asked]
    for record in missing:
        problem = f"does not say that {_name(record)} was asked for"
        cure = "the event is written, from the run's `trial.json`"
        yield Finding("wrong", folder.journal, problem, cure, _ask_again(folder, record))
    if twice := repeated(events):
        names = ", ".join(sorted({f"trial {events[place]['number']}" for place in twice}))
        kept = [event for place, event in enumerate(events) if place not in twice]
        cure = "set aside, and written again with the first of them"
        yield Finding("wrong", folder.journal, f"says twice that {names} ended", cure, lambda: _rewrite(folder, kept))
        return  # what is to be added is added to what is then there
    lacking = unsaid(events, records)

    def add() -> None:
        was_over = bool(events) and events[-1]["event"] == "study_ended"
        is_over = was_over and all(event["event"] == "trial_ended" for event in lacking)
        for event in [*lacking, *([{"event": "study_ended"}] if is_over else [])]:
            folder.append(event)

    by_fingerprint = {record.fingerprint: record for record in records}
    ended_again = {event["fingerprint"] for event in lacking if event["event"] == "trial_ended"}
    for event in lacking:
        record = by_fingerprint.get(event["fingerprint"])
        name = f"trial {event['number']}" if record is None else _name(record)
        if event["event"] == "trial_ended":
            problem, cure = f"does not say how {name} ended ({event['state']})", "the event is written"
            yield Finding("untidy", folder.journal, problem, cure, add)
        elif event["fingerprint"] in ended_again:
            yield Finding("wrong", folder.journal, f"has another end of {name}", "what was said is taken back", add)
        else:
            problem = f"says that {name} ended, and there is no result of it"
            cure = "it is written that the result was lost: the next start goes on with the run, if it is still wanted"
            yield Finding("wrong", folder.journal, problem, cure, add)


def _name(record: TrialRecord) -> str:
    return record.label or f"{record.role} {record.number}"


def _ask_again(folder: StudyFolder, record: TrialRecord) -> Any:
    keys = ("fingerprint", "number", "role", "label", "params", "cell", "block")

    def write() -> None:
        asked = read_json(folder.trial(record.fingerprint).trial)
        folder.append({"event": "asked", **{key: asked.get(key) for key in keys}})

    return write


def _cut(folder: StudyFolder) -> None:
    handle = os.open(folder.journal, os.O_RDWR)
    try:
        cut_torn_line(handle)
    finally:
        os.close(handle)


def _rewrite(folder: StudyFolder, events: list[dict[str, Any]]) -> None:
    """A copy goes aside first: at no moment there is none."""
    write_atomic(place_aside(folder, folder.journal), folder.journal.read_bytes())
    write_lines(folder.journal, events)
