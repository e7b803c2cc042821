"""Who works on a study in an object store: an object `.lease` that its holder writes anew every few seconds.

Clocks play no part: who finds a lease watches whether it changes. One that does not, for longer than its holder ever
leaves it alone, was left by a process that died, and is taken over.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from guidedmix_core import ConfigError
from orchestrator.storage import Copy, copy_of, shown

BEAT = 5.0
"""Seconds between two signs of life."""
WATCH = 20.0
"""Seconds without one after which the holder is taken for dead."""
SETTLED = 2.0
"""Seconds in which processes that take a lease over at the same moment have all written."""


@contextmanager
def leased(path: Path) -> Iterator[Lease]:
    """Hold the study. ConfigError if somebody else does; it may take a while to see that nobody lives."""
    lease = _lease(path)
    lease.take()
    try:
        yield lease
    finally:
        lease.give_back()


def is_held(path: Path) -> bool:
    """Whether somebody works on the study. It takes until their next sign of life, or a while without one."""
    return bool(_lease(path).holder())


def _lease(path: Path) -> Lease:
    copy = copy_of(path)
    assert copy is not None
    return Lease(copy, f"{copy.key(path)}/.lease", shown(path))


class Lease:
    def __init__(self, copy: Copy, key: str, place: str) -> None:
        self._copy, self._key, self._place = copy, copy.object(key), place
        self._me = {"token": uuid4().hex, "host": socket.gethostname(), "pid": os.getpid()}
        self._beats = 0
        self._lost: str | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def take(self) -> None:
        """ConfigError if its holder lives."""
        try:
            self._copy.ask(lambda: self._copy.files.pipe_file(self._key, self._content(), mode="create"))
        except FileExistsError:
            self._take_over()
        self._thread.start()

    def check(self) -> None:
        """ConfigError if it was taken over, or may be: this process could not reach the store for too long."""
        if self._lost is not None:
            raise ConfigError(f"{self._place}: {self._lost}; this process stops, and writes nothing more")

    def give_back(self) -> None:
        self._over.set()
        self._thread.join()
        if self._lost is None and self._read().get("token") == self._me["token"]:
            self._copy.ask(lambda: self._copy.files.rm_file(self._key))

    def holder(self) -> dict[str, Any]:
        """Who gives a sign of life; nothing if nobody does."""
        before = self._read()
        deadline = time.monotonic() + WATCH
        while before and time.monotonic() < deadline:
            time.sleep(1)
            if (found := self._read()) != before:
                return found
        return {}

    def _take_over(self) -> None:
        if found := self.holder():
            raise ConfigError(
                f"{self._place}: is being run by process {found['pid']} on {found['host']}; wait for it, or stop it "
                "first"
            )
        self._copy.ask(self._put)
        time.sleep(SETTLED)  # the last one has it
        if (found := self._read()).get("token") != self._me["token"]:
            raise ConfigError(f"{self._place}: is being run by another process, on {found.get('host')}")

    def _keep(self) -> None:
        while not self._over.wait(BEAT):
            try:
                found = self._copy.ask(self._beat)
            except Exception as error:  # whatever it is, nobody sees a sign of life any more
                self._lost = f"its lease can't be kept: {error}"
                return
            if found.get("token") != self._me["token"]:
                self._lost = f"was taken over by process {found.get('pid')} on {found.get('host')}"
                return

    def _beat(self) -> dict[str, Any]:
        """Who has it. Asked again after an outage it looks again: who took over meanwhile is not written over."""
        found = self._found()
        if found.get("token") == self._me["token"]:
            self._put()
        return found

    def _content(self) -> bytes:
        self._beats += 1
        return json.dumps({**self._me, "beats": self._beats}).encode()

    def _put(self) -> None:
        self._copy.files.pipe_file(self._key, self._content())

    def _found(self) -> dict[str, Any]:
        """Nothing if there is none."""
        try:
            return json.loads(self._copy.files.cat_file(self._key))
        except FileNotFoundError:
            return {}

    def _read(self) -> dict[str, Any]:
        return self._copy.ask(self._found)
