"""Studies in an object store: each process works on a copy of the study's folder, and keeps it equal to the store.

All code reads and writes files of the copy, in a temporary folder of this process. Three calls keep that honest:

    publish(path)   what lies at the path is in the store when this returns
    refresh(path)   what others have published at the path lies here
    remove(path)    what lies at the path is gone, here and in the store: that it is gone here alone says nothing

Of a path that is in no copy the first two do nothing: a folder that all nodes see needs neither.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from guidedmix_core import ConfigError
from orchestrator.object_store import EXTRAS, Copy

LOOK_AFAR = 5.0
"""Seconds between two looks for what another node may have put into a store."""

HEAVY = ("checkpoint", "stages")
"""Folders that only who goes on with a run needs."""

PREFIX = "guidedmix-copy-"
_copies: dict[str, Copy] = {}
"""By the URI of the folder above the studies."""


def is_uri(where: str) -> bool:
    """ConfigError if a slash of it is missing: it would be a folder here."""
    if re.match(rf"({'|'.join(EXTRAS)}|file):/?(?!/)", where):
        raise ConfigError(f"{where}: a URI has two slashes, such as s3://bucket/studies/NAME")
    return "://" in where


def open_copy(uri: str) -> Path:
    """Where a study's folder `s3://bucket/studies/NAME` is copied to in this process; nothing is fetched yet.

    The folder above it, with the studies beside and the stages they share, has one copy. ConfigError if it can't be
    reached, or if the URI has no folder above the study.
    """
    if uri.startswith("file://"):
        return Path(uri.removeprefix("file://"))
    above, _, name = uri.rstrip("/").rpartition("/")
    if not name or not above.partition("://")[2] or ".." in uri:
        raise ConfigError(f"{uri}: expected a study's folder in a bucket, such as s3://bucket/studies/NAME")
    if above not in _copies:
        _copies[above] = _reached(above, _own_place())
    return _copies[above].root / name


def fetched(where: str) -> Path:
    """Where a single file lies, or a copy of it. ConfigError if there is none at the URI."""
    if not is_uri(where):
        return Path(where)
    path = open_copy(where)
    refresh(path, without=())
    if not path.is_file():
        raise ConfigError(f"{where}: no such file")
    return path


def copy_of(path: Path) -> Copy | None:
    """The copy that the path lies in."""
    if not _copies:
        return None
    place = path.absolute()
    return next((copy for copy in _copies.values() if place.is_relative_to(copy.root)), None)


def drop(path: Path) -> None:
    """This process has done with what lies there: in the store it stays, here it need not."""
    if (copy := copy_of(path)) is not None:
        copy.drop(path)


def stay_here(path: Path) -> None:
    """What this process writes there from now on is nobody else's."""
    _copies.pop(next(uri for uri, copy in _copies.items() if copy is copy_of(path)))


def names_beside(path: Path) -> list[str]:
    """Of the studies that the store has beside this one; none if it is in no copy: they lie there."""
    if copy_of(path) is None:
        return []
    return [name for name in names_in(path.parent) if name not in (path.name, "stages")]


def names_in(folder: Path) -> list[str]:
    """What lies in a folder, here or where another node has put it; none if there is no such folder."""
    if (copy := copy_of(folder)) is not None:
        return copy.names(folder)
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def publish(path: Path) -> None:
    """What lies at the path, a file or a folder, is where every node sees it."""
    if (copy := copy_of(path)) is not None:
        copy.publish(path)


def refresh(path: Path, without: Collection[str] = HEAVY) -> None:
    """What every node sees lies at the path; folders of these names are left out."""
    if (copy := copy_of(path)) is not None:
        copy.refresh(path, without)


def is_there(path: Path) -> bool:
    """Whether a file exists, here or where another node has put it."""
    return path.exists() if (copy := copy_of(path)) is None else copy.is_there(path)


def size_of(path: Path) -> int:
    """Bytes in a folder, where it is kept."""
    return bytes_in(path) if (copy := copy_of(path)) is None else copy.size(path)


def bytes_in(folder: Path) -> int:
    """What lies there on this machine; what vanishes meanwhile counts nothing."""
    found = 0
    for place, _, files in os.walk(folder):
        for name in files:
            with suppress(FileNotFoundError):
                found += (Path(place) / name).stat().st_size
    return found


def ask_for(path: Path) -> None:
    """Put an empty file there, for another process to find."""
    path.touch()
    publish(path)


def remove(path: Path) -> None:
    """What lies at the path, a file or a folder, is gone for every node."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    if (copy := copy_of(path)) is not None:
        copy.remove(path)


def move(path: Path, target: Path) -> None:
    """For every node; at no moment what lies at the path is nowhere."""
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    if (copy := copy_of(path)) is not None:
        copy.publish(target)
        copy.remove(path)


def shown(path: Path) -> str:
    """As the user named it: the URI of what lies in a copy."""
    return str(path) if (copy := copy_of(path)) is None else f"{copy.uri}/{copy.key(path)}"


def home(path: Path) -> str | None:
    """What another node needs to open a study's folder: its URI; None if all nodes see the path itself."""
    return None if copy_of(path) is None else shown(path)


def _own_place() -> Path:
    """An empty folder that goes with this process, which holds a lock on it: systemd removes what is old, but nothing
    that is locked. What processes left that were killed goes, too."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            handle = _locked(left)
            shutil.rmtree(left, ignore_errors=True)
            os.close(handle)
    new = Path(tempfile.mkdtemp()).resolve()
    _locked(new)  # before it has a name that others look for
    root = new.rename(new.with_name(f"{PREFIX}{new.name}"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root


def _locked(folder: Path) -> int:
    """A handle that locks it until it is closed. OSError if another process has it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


def _reached(uri: str, root: Path) -> Copy:
    copy = Copy(uri, root)
    bucket = copy.base.partition("/")[0]
    try:
        try:
            copy.files.ls(copy.base)
        except FileNotFoundError:  # an empty folder is none; a bucket must be there
            copy.files.ls(bucket)
    except FileNotFoundError:
        raise ConfigError(f"{uri}: there is no bucket {bucket!r}; check its name, or make it first") from None
    except Exception as error:
        cure = "check the address, and that the credentials are where its library looks for them (AWS_…, GOOGLE_…)"
        raise ConfigError(f"{uri}: can't be reached: {error}; {cure}") from error
    return copy
