"""A local folder and the folder of an object store that it copies: what is put, what is fetched, what is removed.

Objects are put whole and never renamed. A file has one writer at a time: a process takes no news of what it has
published itself.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from guidedmix_core import ConfigError

log = logging.getLogger(__name__)

GROWING = "journal.jsonl"
"""Grows by thousands of lines, so it is stored in parts of this many bytes; only the last one is ever put again."""
PART = 2**16
OF_A_PROCESS = (".lease", ".lock", ".ray", "mlflow.db", "mlflow-artifacts", "optuna.journal")
"""Files and folders that can be made again from the others, or say something about a process only."""
PATIENCE = 600.0
"""Seconds for which a store may answer errors before a process gives up."""
LONGEST_PAUSE = 20.0
PERMANENT = (FileNotFoundError, FileExistsError, PermissionError, NotADirectoryError, IsADirectoryError, ValueError)
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}

Stamp = tuple[int, int]
Answer = TypeVar("Answer")


class Copy:
    """A local folder and the folder of a store that it copies. Keys are relative to both."""

    def __init__(self, uri: str, root: Path) -> None:
        self.uri, self.root = uri.rstrip("/"), root
        self.files, base = _file_system(self.uri)
        self.base = base.rstrip("/")
        self.equal: dict[str, Stamp] = {}
        """Of each file that is as the store has it: when it was changed here, and its size."""
        self.versions: dict[str, Any] = {}
        """The store's, of each of them that another process has published."""
        self._turn = threading.RLock()
        """MLflow's thread publishes, too; a signal may, inside of either call."""

    def publish(self, path: Path) -> None:
        """What lies at the path is in the store when this returns. What is gone here stays there: a machine may have
        cleaned up what it takes for old."""
        with self._turn:
            for file in _own_files(path):
                name = self.key(file)
                if self.equal.get(name) != (stamp := _stamp(file)):
                    self._put(name, file)
                    self.equal[name] = stamp
                    self.versions.pop(name, None)

    def remove(self, path: Path) -> None:
        """What the store has at the path is gone there, whether or not it was fetched."""
        key = self.key(path)

        def clear() -> None:
            if found := self.files.find(self.object(key)):
                self.files.rm(found)

        with self._turn:
            self.ask(clear)
            for name in self._known(key):
                self._forget(name)

    def refresh(self, path: Path, without: Collection[str] = ()) -> None:
        """What others have published at the path lies here; folders of these names are left out."""
        with self._turn:
            self._refresh(self.key(path), without)

    def drop(self, path: Path) -> None:
        """What is in the store as it is here goes here alone."""
        with self._turn:
            self.publish(path)
            for name in self._known(self.key(path)):
                self.path(name).unlink(missing_ok=True)
                self._forget(name)

    def is_there(self, path: Path) -> bool:
        """Of a small file: it is read, which is one request where a look for it may be three."""
        try:
            self.ask(lambda: self.files.cat_file(self.object(self.key(path))))
        except FileNotFoundError:
            return False
        return True

    def names(self, path: Path) -> list[str]:
        """What the store has in a folder, without what is deeper in it."""
        try:
            found = self.ask(lambda: self.files.ls(self.object(self.key(path)), detail=False))
        except FileNotFoundError:
            return []
        return sorted(PurePosixPath(name).name for name in found)

    def size(self, path: Path) -> int:
        """Bytes that the store has there."""
        return self.ask(lambda: self.files.du(self.object(self.key(path))))

    def ask(self, question: Callable[[], Answer]) -> Answer:
        """The one place where a store is asked again: until it answers, or PATIENCE is over."""
        pause, deadline = 0.5, time.monotonic() + PATIENCE
        while True:
            try:
                return question()
            except PERMANENT:
                raise
            except Exception as error:  # botocore's, aiohttp's and gcsfs' have no class in common
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise  # this machine's own disk is full
                if time.monotonic() + pause > deadline:
                    raise OSError(f"{self.uri}: no answer for {PATIENCE:.0f} s: {error}") from error
                log.warning("%s: %s; trying again in %.1f s", self.uri, error, pause)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def key(self, path: Path) -> str:
        return path.absolute().relative_to(self.root).as_posix()

    def path(self, key: str) -> Path:
        return self.root / key

    def object(self, key: str) -> str:
        return self.base if key == "." else f"{self.base}/{key}"

    def _known(self, key: str) -> list[str]:
        """What is here as the store has it. Asked of a list of them: a signal may add some meanwhile."""
        return [name for name in [*self.equal] if _is_in(name, key)]

    def _refresh(self, key: str, without: Collection[str]) -> None:
        while True:
            found = self._listed(key, without)
            is_own = self.equal.keys() - self.versions.keys()
            new = [name for name, version in found.items() if self.versions.get(name) != version and name not in is_own]
            try:
                self._get(new)
                break
            except FileNotFoundError:  # deleted since it was listed
                continue
        for name in new:
            self.equal[name], self.versions[name] = _stamp(self.path(name)), found[name]
        for name in self._known(key):
            if name in self.versions and name not in found and not _is_left_out(name, without):
                self.path(name).unlink(missing_ok=True)
                self._forget(name)

    def _put(self, key: str, file: Path) -> None:
        if _grows(key):
            self._put_parts(key, file)
        else:
            self.ask(lambda: self.files.put_file(str(file), self.object(key)))

    def _put_parts(self, key: str, file: Path) -> None:
        """What has grown. A file that is shorter than it was has not grown: somebody has written it anew."""
        published, size = self.equal.get(key, (0, 0))[1], file.stat().st_size
        first, count = published // PART if size >= published else 0, -(-size // PART)
        with file.open("rb") as content:
            content.seek(first * PART)
            for number in range(first, count):
                name, part = self.object(_part(key, number)), content.read(PART)
                self.ask(lambda name=name, part=part: self.files.pipe_file(name, part))
        there = {f"{key}/{name}" for name, _ in self.versions.get(key, ())}
        there |= {_part(key, number) for number in range(-(-published // PART))}
        for name in sorted(there - {_part(key, number) for number in range(count)}):
            self.ask(lambda name=name: self.files.rm_file(self.object(name)))

    def _forget(self, key: str) -> None:
        self.equal.pop(key, None)
        self.versions.pop(key, None)

    def _listed(self, key: str, without: Collection[str]) -> dict[str, Any]:
        """The version of each object; of a file in parts, the versions of all parts."""
        listed = self.ask(lambda: self.files.find(self.object(key), detail=True))
        found: dict[str, Any] = {}
        for name, facts in sorted(listed.items()):
            own = name[len(self.base) + 1 :]
            if _is_left_out(own, (*without, *OF_A_PROCESS)):
                continue
            version = facts.get("ETag") or facts.get("etag") or facts.get("md5Hash") or facts["mtime"]
            parent, _, part = own.rpartition("/")
            if parent.endswith(GROWING):
                found[parent] = (*found.get(parent, ()), (part, version))
            else:
                found[own] = version
        return found

    def _get(self, keys: list[str]) -> None:
        """Whole or not at all: another thread may be reading the file."""
        simple = [key for key in keys if not _grows(key)]
        parts = {key: self.path(f"{key}.part") for key in simple}
        for part in parts.values():
            part.parent.mkdir(parents=True, exist_ok=True)
        if simple:
            self.ask(lambda: self.files.get([self.object(key) for key in simple], [str(parts[key]) for key in simple]))
        for key, part in parts.items():
            os.replace(part, self.path(key))
        for key in set(keys) - set(simple):
            pieces = self.ask(lambda key=key: self.files.cat(self.files.find(self.object(key))))
            self.path(key).parent.mkdir(parents=True, exist_ok=True)
            whole = b"".join(pieces[name] for name in sorted(pieces))
            part = self.path(f"{key}.part")
            part.write_bytes(whole[: whole.rfind(b"\n") + 1])  # who put it may have died between two parts
            os.replace(part, self.path(key))


def _file_system(uri: str) -> tuple[Any, str]:
    import fsspec

    protocol = uri.partition("://")[0]
    # Asking again is ours; neither a list of an hour ago nor the address that another copy had is of use.
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if protocol in ("s3", "s3a"):
        options["config_kwargs"] = {"retries": {"total_max_attempts": 1}, "connect_timeout": 10, "read_timeout": 60}
    try:
        files, base = fsspec.core.url_to_fs(uri, **options)
    except ImportError as error:
        if (extra := EXTRAS.get(protocol)) is None:
            raise ConfigError(f"{uri}: {error}") from None
        raise ConfigError(f"{uri}: {error}; pip install 'guidedmix-orchestrator[{extra}]'") from None
    except ValueError as error:
        raise ConfigError(f"{uri}: {error}; expected a folder, or s3://… or gs://…") from None
    if hasattr(files, "retries"):
        files.retries = 1
    return files, base


def _own_files(path: Path) -> Iterator[Path]:
    found = path.rglob("*") if path.is_dir() else [path]
    for file in found:
        is_own = any(part in OF_A_PROCESS for part in file.parts) or file.name.startswith("mlflow.db")
        if not is_own and file.suffix != ".part" and file.is_file():
            yield file


def _stamp(file: Path) -> Stamp:
    facts = file.stat()
    return facts.st_mtime_ns, facts.st_size


def _grows(key: str) -> bool:
    """Whether the store has the file in parts."""
    return PurePosixPath(key).name == GROWING


def _part(key: str, number: int) -> str:
    return f"{key}/{number:06}"


def _is_in(name: str, key: str) -> bool:
    return key == "." or name == key or name.startswith(f"{key}/")


def _is_left_out(name: str, without: Collection[str]) -> bool:
    return any(part in without for part in PurePosixPath(name).parts)
