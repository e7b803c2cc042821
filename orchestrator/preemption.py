"""SIGTERM: the machine is about to be taken away. Runs save where they are, and the same command goes on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def on_sigterm(leave: Callable[[], None]) -> Iterator[None]:
    """Inside, the signal calls `leave` instead of ending this process. Only a main thread can catch one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: leave())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
