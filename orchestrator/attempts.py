"""What a run was before it was started again: kept beside it in `attempts/1`, `attempts/2`, …, counted in no table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.chains import stages_of
from orchestrator.comparison import asked_for
from orchestrator.failures import OF_THE_MACHINE
from orchestrator.folder import StudyFolder, TrialFolder, read_json, read_lines
from orchestrator.results import load_trials
from orchestrator.storage import move, refresh


def put_aside(folder: TrialFolder, *more: Path, goes_on: bool) -> int:
    """Move the run's end away, and unless it goes on from its checkpoint all else that it wrote; the attempt's number.

    The result goes last: a crash in between leaves a failed run, of which the rest is put aside by the next call.
    """
    refresh(folder.path, without=())
    number = 1 + max((int(place.name) for place in folder.attempts.glob("*") if place.name.isdecimal()), default=0)
    made = () if goes_on else (folder.metrics, folder.checkpoint, folder.environment)
    place = folder.attempts / str(number)
    for path in (*made, *more, folder.stop, *folder.path.glob("traceback*.txt"), folder.result):
        if path.exists():
            move(path, place / path.name)
    return number


def present(folder: TrialFolder) -> int:
    """The number of the attempt that the run is now, which it keeps where it goes on from its checkpoint."""
    begun_anew = [int(place.parent.name) for place in folder.attempts.glob("*/environment.json")]
    return max(begun_anew, default=0) + 1


def retry_failed(folder: StudyFolder, request: Mapping[str, Any]) -> None:
    """Failed runs that the study asks for have no end any more, so that it makes them again."""
    for record in asked_for(request, load_trials(folder)):
        if record.failure is None:
            continue
        reason = record.failure["reason"]
        attempt = retry(folder.trial(record.fingerprint), reason)
        names = {"fingerprint": record.fingerprint, "number": record.number, "role": record.role}
        folder.append({"event": "trial_retried", **names, "reason": reason, "attempt": attempt})


def retry(trial: TrialFolder, reason: str) -> int:
    """A failed run has no end any more; the attempt's number.

    What the machine did (`hang`, `infrastructure`) goes on from its checkpoint. All else starts from the first step:
    code, data or memory may be other ones now.
    """
    goes_on = reason in OF_THE_MACHINE
    with trial.running():
        return put_aside(trial, *(() if goes_on else (trial.halving,)), goes_on=goes_on)


def seconds_aside(folder: TrialFolder) -> float:
    """What attempts took from which the run began anew, with the stages that they trained."""
    return sum(_seconds(TrialFolder(place)) for place in folder.attempts.glob("*"))


def _seconds(made: TrialFolder) -> float:
    """As it ended, or as it reported last. One that goes on left its record, and with it its time, in the run."""
    if not made.environment.exists():
        return 0.0
    stages = sum(stage["seconds"] or 0.0 for stage in stages_of(made) if stage["state"] == "trained")
    if made.result.exists():
        return stages + read_json(made.result)["seconds"]
    rows = read_lines(made.metrics)
    return stages + (rows[-1].get("time/seconds") or 0.0 if rows else 0.0)
