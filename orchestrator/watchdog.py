"""A run that gives no sign of life for too long ends its process, once it is written down where each thread was."""

from __future__ import annotations

import faulthandler
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

TICK = 1.0
"""Seconds between two looks."""
PATIENCE = 60.0
"""Seconds in which the end of a run that hangs has to be written."""


class Watchdog:
    """Counts its own looks since the last beat, and no clock: while the machine sleeps, or the process is stopped, it
    looks no more than the run steps. A run that never lets go of Python's lock keeps it from looking, too.

        with Watchdog(minutes, when_silent) as watchdog:
            ...watchdog.beat()
    """

    def __init__(self, minutes: float | None, when_silent: Callable[[], None]) -> None:
        self._seconds, self._when_silent = None if minutes is None else 60 * minutes, when_silent
        self._silent = 0.0
        self._pauses = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def beat(self) -> None:
        """The run lives. An assignment: it may be called at every step."""
        self._silent = 0.0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While the run waits for somebody else."""
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1
            self.beat()

    def __enter__(self) -> Watchdog:
        if self._seconds is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        assert self._seconds is not None
        tick = min(TICK, self._seconds / 10)
        while not self._over.wait(tick):
            self._silent = 0.0 if self._pauses else self._silent + tick
            if self._silent >= self._seconds:
                self._when_silent()
                return


def write_tracebacks(path: Path) -> None:
    """Where each thread of this process is."""
    with path.open("w") as file:
        faulthandler.dump_traceback(file, all_threads=True)


def end_process(record: Callable[[], None], message: str) -> None:
    """Nothing of a run that hangs can be asked to end. Whatever happens to the record, the process goes: it may be the
    disk that hangs."""

    def tell() -> None:
        record()
        log.error(message)

    try:
        teller = threading.Thread(target=tell, daemon=True)
        teller.start()
        teller.join(PATIENCE)
    finally:
        os._exit(1)
