"""What several tests of verbs need."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import cli


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """The exit code of a command line in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(command: str) -> int:
        monkeypatch.setattr("sys.argv", shlex.split(command))
        with pytest.raises(SystemExit) as left:
            cli.main()
        return int(left.value.code or 0)

    return call
