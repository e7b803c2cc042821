"""The two ways to fail: the request is wrong, or one run is lost. And one way to leave that is no failure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal

Reason = Literal["diverged", "oom", "data", "checkpoint", "bug"]


class ConfigError(Exception):
    """The request is wrong. Raised before anything runs; the message names the place, the value, what was expected
    and the cure."""


class TrialFailed(Exception):  # noqa: N818 - it is what happened to the trial
    """This run is lost, the study goes on. `reason` is the class of failure, `step` the step at which it happened."""

    def __init__(self, message: str, *, reason: Reason, step: int | None = None) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.step = step

    def __reduce__(self):  # keyword-only arguments do not survive the default pickling between processes
        return _trial_failed, (str(self), self.reason, self.step)


class Preempted(BaseException):
    """The process was asked to go. Whatever runs has written a checkpoint, and the same call goes on from it."""


def _trial_failed(message: str, reason: Reason, step: int | None) -> TrialFailed:
    return TrialFailed(message, reason=reason, step=step)


def nearest(name: str, names: Iterable[str]) -> str:
    """What to say after an unknown name: the nearest known one, and all of them."""
    known = sorted(names)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}available: {', '.join(known)}"
