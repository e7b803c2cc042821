"""What a check finds, and how a repair sets things aside: what a run has made is moved, never deleted."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from orchestrator.folder import StudyFolder
from orchestrator.storage import move

Level = Literal["blocks", "wrong", "untidy", "note"]
"""blocks: the study can't be gone on with. wrong: a run, or what is told of one, is missing or not to be trusted.
untidy: it takes room, or shows something old. note: nothing is wrong with it."""


@dataclass(frozen=True)
class Finding:
    """One inconsistency. Several may share a repair, which is then made once."""

    level: Level
    place: Path
    problem: str
    cure: str
    """What the repair does; without one, what to do by hand; of a note, what to expect."""
    repair: Callable[[], object] | None = None


def aside(folder: StudyFolder, *paths: Path) -> Callable[[], None]:
    """A repair that moves what is there of these to the same place under `aside/`."""

    def repair() -> None:
        for path in paths:
            if path.exists():
                move(path, place_aside(folder, path))

    return repair


def place_aside(folder: StudyFolder, path: Path) -> Path:
    """Free, under `aside/`, and with the path that the file had; of what studies share, from the folder above on."""
    study = folder.path.absolute()
    inside = path.absolute().relative_to(study if path.absolute().is_relative_to(study) else study.parent)
    wanted = study / "aside" / inside
    taken = [*wanted.parent.glob(f"{wanted.name}*")] if wanted.parent.exists() else []
    return wanted.with_name(f"{wanted.name}.{len(taken) + 1}") if taken else wanted


def json_problem(path: Path) -> str | None:
    """Why a file of JSON, if it is there, can't be read."""
    try:
        if path.exists():
            json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        return f"not readable as JSON: {error}"
    return None


def archive_problem(path: Path) -> str | None:
    """Why a file of torch or NumPy, if it is there, can't be read. Both are archives, whose index stands at their end:
    no need to read gigabytes to see that one was cut."""
    if not path.exists() or zipfile.is_zipfile(path):
        return None
    return f"cut, or no archive ({path.stat().st_size:,} bytes)"


@dataclass(frozen=True)
class Lines:
    """What can be read of a file of JSON lines."""

    records: list[dict[str, Any]]
    damaged: list[int]
    """Numbers of lines that can't be read; the first is 1."""
    is_torn: bool
    """The last line has no end."""


def read_whole_lines(path: Path) -> Lines:
    *lines, rest = path.read_bytes().split(b"\n") if path.exists() else [b""]
    records, damaged = [], []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if isinstance(record, dict):
            records.append(record)
        else:
            damaged.append(number)
    return Lines(records, damaged, bool(rest))


def leftovers(folder: Path) -> Iterator[Path]:
    """Of a process that was killed while it wrote a file whole. Not of MLflow's or Ray's files, or what is aside."""
    yield from (path for path in folder.glob(".*.part") if path.is_file())


def megabytes(count: int) -> str:
    return f"{count / 2**20:,.1f} MB"
