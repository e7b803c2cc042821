"""A command of the user's that is told what happens to a study: a message on a phone, a line in a channel.

It gets the event as JSON on its input, and `GUIDEDMIX_EVENT`, `GUIDEDMIX_STUDY` and `GUIDEDMIX_MESSAGE` in its
environment. What it prints is not kept, and nothing of the command is shown: it may hold a password.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from orchestrator.console import short, title
from orchestrator.folder import StudyFolder, now, plain
from orchestrator.listeners import Listener
from orchestrator.resources import Notify
from orchestrator.results import TrialRecord, best, load_trials
from orchestrator.study import Study
from orchestrator.units import show

log = logging.getLogger(__name__)

LIMIT = 10.0
"""Seconds after which it is killed."""
ENOUGH = 3
"""Failures in a row after which it is called no more."""


def notifier(notify: Notify | None, folder: StudyFolder) -> list[Listener]:
    """The listener that `notify` asks for: none without it."""
    return [] if notify is None else [Notifier(notify, folder)]


class Notifier(Listener):
    """One call after another, in a thread of its own: no run waits, and a failure is a warning."""

    def __init__(self, notify: Notify, folder: StudyFolder) -> None:
        self._notify, self._folder = notify, folder
        self._calls = ThreadPoolExecutor(1, thread_name_prefix="notify")
        self._failures = 0
        self._has_begun = False

    def study_started(self, study: Study, folder: StudyFolder) -> None:
        self._goal, self._has_begun = study.objectives[0], True
        self._tell("study_started", "started", {})

    def trial_ended(self, record: TrialRecord) -> None:
        value = f"{short(self._goal.metric)} {show(self._goal.metric, record.objective)}"
        why = f"{record.failure['reason']}: {record.failure['message']}" if record.failure else value
        facts = {"trial": title(record), "fingerprint": record.fingerprint, "state": record.state}
        facts |= {"metric": self._goal.metric, "objective": record.objective, "failure": record.failure}
        message = f"{title(record)} {record.state}: {why}"
        self._tell("trial_ended", message, facts)
        if record.failure:
            self._tell("trial_failed", message, facts)

    def study_ended(self) -> None:
        """All that happened has been told when this returns, if the command did not fail. Of a study that another
        listener has refused nothing has."""
        if self._has_begun and "study_ended" in self._notify.on:
            self._tell("study_ended", *self._end())
        self._calls.shutdown()

    def _end(self) -> tuple[str, dict[str, Any]]:
        events, records = self._folder.events(), load_trials(self._folder)
        state = "complete" if events and events[-1]["event"] == "study_ended" else "interrupted"
        counts = {kind: sum(record.state == kind for record in records) for kind in ("complete", "stopped", "failed")}
        words = [f"{number} {kind}" for kind, number in counts.items() if number]
        facts: dict[str, Any] = {"state": state, **counts}
        if (winner := best(records, self._goal)) is not None:
            facts["best"] = {"trial": title(winner), "metric": self._goal.metric, "objective": winner.objective}
            words.append(f"best {title(winner)}: {show(self._goal.metric, winner.objective)}")
        return f"{state}: {', '.join(words) or 'no run has ended'}", facts

    def _tell(self, event: str, message: str, facts: Mapping[str, Any]) -> None:
        if event not in self._notify.on:
            return
        name = self._folder.name
        said = {"event": event, "study": name, "folder": self._folder.place, "time": now()}
        self._calls.submit(self._call, {**said, "message": f"{name}: {message}", **facts})

    def _call(self, said: Mapping[str, Any]) -> None:
        if self._failures >= ENOUGH:
            return
        problem = _run(self._notify.command, said)
        self._failures = self._failures + 1 if problem else 0
        if problem:
            last = "; it is called no more" if self._failures == ENOUGH else ""
            log.warning("notify: the command %s when it was told of %s%s", problem, said["event"], last)


def _run(command: Sequence[str], said: Mapping[str, Any]) -> str | None:
    """What went wrong, without a word of the command."""
    names = {f"GUIDEDMIX_{name.upper()}": str(said[name]) for name in ("event", "study", "message")}
    text = json.dumps(plain(said), ensure_ascii=False)
    environment = {**os.environ, **{name: value.replace("\0", "") for name, value in names.items()}}
    try:  # in a session of its own: Ctrl-C is not meant for it, and all it has started can be killed
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        return f"could not be started ({error.strerror})"
    try:
        process.communicate(text.encode(), timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"took longer than {LIMIT:g} s, and was killed,"
    return f"ended with code {process.returncode}" if process.returncode else None
