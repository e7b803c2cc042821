"""The study folder, the only truth: its paths, records written whole or not at all, an append-only journal.

studies/<name>/
    study.yaml  journal.jsonl  summary.json  report.html  report/  provenance.json  code/<digest>.patch
    mlflow.db  mlflow-artifacts/  optuna.journal  aside/
    trials/<fingerprint>/
        trial.json  config.yaml  environment.json  metrics.jsonl  result.json  counts.npz  panels/  checkpoint/
        stop  leave  halving.json  traceback.txt  mlflow.json  attempts/
studies/stages/    what runs of all studies share; see `guidedmix_core/stage_folder.py`

What is written here is in the store, too, when the call returns, if the folder is a copy of one (`storage.py`).
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import math
import os
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from guidedmix_core import ConfigError, sync_folder, write_whole
from orchestrator.lease import Lease, is_held, leased
from orchestrator.storage import copy_of, is_uri, open_copy, publish, refresh, shown
from orchestrator.unlike import unlike_requests

log = logging.getLogger(__name__)

NO_PLACE = (errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS)  # nobody can write there
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""In C it is ten times faster, and the summary reads YAML at every event."""


class StudyFolder:
    """The paths of a study and the few ways to write there. Making one touches nothing on a disk; a URI is reached."""

    def __init__(self, path: Path | str) -> None:
        self.path = open_copy(str(path)) if is_uri(str(path)) else Path(path)
        self.place = shown(self.path)
        """As the user named it."""
        self._lease: Lease | None = None
        self.name = self.path.resolve().name
        self.study_yaml = self.path / "study.yaml"
        self.journal = self.path / "journal.jsonl"
        self.summary = self.path / "summary.json"
        self.report = self.path / "report.html"
        self.exports = self.path / "report"  # for papers and programs: tables, figures, raw numbers
        self.provenance = self.path / "provenance.json"
        self.code = self.path / "code"
        """Patches: uncommitted changes that a run was made with."""
        self.mlflow_db = self.path / "mlflow.db"
        self.mlflow_artifacts = self.path / "mlflow-artifacts"
        self.optuna_journal = self.path / "optuna.journal"
        self.stages = self.path.absolute().parent / "stages"
        """Of runs: all studies of the folder above share them."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Held by the one process that runs the study. ConfigError if another one does."""
        if copy_of(self.path) is None:
            with _exclusive(self.path, wait=1):  # who looks whether it is held holds it for a moment
                yield
            return
        with leased(self.path) as self._lease:
            self.path.mkdir(exist_ok=True)
            refresh(self.path)
            yield
            publish(self.path)

    def is_running(self) -> bool:
        """Whether a process runs the study, here or on another machine. In an object store it takes seconds to see."""
        return is_run(self.path) if copy_of(self.path) is None else is_held(self.path)

    def claim(self, request: Mapping[str, Any], identity: str) -> None:
        """The folder is this request's from now on. ConfigError if it is another one's.

        What the identity leaves out, such as the number of trials, may change from one start to the next.
        """
        if self.study_yaml.exists() and (found := self.request())["identity"] != identity:
            differing = unlike_requests(found, request) or f"identity {found['identity']} there and {identity} here"
            raise ConfigError(
                f"{shown(self.study_yaml)}: the folder holds another study: {differing}; choose another folder with "
                "--study DIR, or give the study another name"
            )
        (self.path / "trials").mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump({"identity": identity, **request}, sort_keys=False, allow_unicode=True)
        if not self.study_yaml.exists() or self.study_yaml.read_text(encoding="utf-8") != text:
            write_atomic(self.study_yaml, text)

    def request(self) -> dict[str, Any]:
        """What `claim` wrote. ConfigError if the folder is no study."""
        try:
            return yaml.load(self.study_yaml.read_text(encoding="utf-8"), YAML_LOADER)
        except FileNotFoundError:
            raise ConfigError(f"{self.place}: no study here: {self.study_yaml.name} is missing") from None
        except yaml.YAMLError as error:
            raise ConfigError(f"{shown(self.study_yaml)}: not readable as YAML: {error}") from None

    def trial(self, fingerprint: str) -> TrialFolder:
        return TrialFolder(self.path / "trials" / fingerprint)

    def trials(self, without: Container[str] = ()) -> list[TrialFolder]:
        """Those the driver has handed out, by fingerprint; some of them need not be looked at."""
        place = self.path / "trials"
        names = sorted(os.listdir(place)) if place.is_dir() else []
        found = (TrialFolder(place / name) for name in names if name not in without)
        return [trial for trial in found if trial.trial.exists()]

    def append(self, event: Mapping[str, Any]) -> None:
        """One event at the journal's end, with its time; on disk when this returns."""
        if self._lease is not None:
            self._lease.check()
        append_line(self.journal, {"time": now(), **event})

    def events(self, since: int = 0) -> list[dict[str, Any]]:
        """Without so many at the beginning."""
        return read_lines(self.journal, since)


class _Inside:
    """A path in a trial's folder, made when it is asked for: a study has thousands of folders."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: TrialFolder, owner: type[TrialFolder]) -> Path:
        return folder.path / self.name


class TrialFolder:
    """The paths of one trial, named by the fingerprint of its configuration."""

    trial = _Inside("trial.json")
    config = _Inside("config.yaml")
    environment = _Inside("environment.json")
    metrics = _Inside("metrics.jsonl")
    result = _Inside("result.json")
    counts = _Inside("counts.npz")
    panels = _Inside("panels")
    checkpoint = _Inside("checkpoint")
    stop = _Inside("stop")
    """Its existence asks the trial to stop after its next report."""
    leave = _Inside("leave")
    """Its existence asks the process of the trial to save where it is, and go."""
    halving = _Inside("halving.json")
    attempts = _Inside("attempts")
    traceback = _Inside("traceback.txt")
    mlflow = _Inside("mlflow.json")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fingerprint = path.name

    @property
    def stages(self) -> Path:
        """Stages of runs, beside the study: all studies there share them."""
        return self.path.absolute().parent.parent.parent / "stages"

    @property
    def code(self) -> Path:
        """The study's."""
        return self.path.parent.parent / "code"

    def running(self) -> AbstractContextManager[None]:
        """Held by the one process that runs the trial. A worker whose driver was killed may need a while to end."""
        return _exclusive(self.path, wait=60)


@contextmanager
def _exclusive(folder: Path, wait: float) -> Iterator[None]:
    """The system lets go of the lock when its process ends, however it ends."""
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=wait)
    except Timeout:
        raise ConfigError(f"{folder}: is being run by another process; wait for it, or stop it first") from None
    except OSError as error:
        if error.errno not in NO_PLACE:
            raise
        raise no_place(folder, error) from None
    try:
        yield
    finally:
        lock.release()


def no_place(folder: Path, error: OSError) -> ConfigError:
    """Of a folder that somebody has named and nobody can make or write to."""
    return ConfigError(f"{folder}: nothing can be written there ({error.strerror}); give another folder")


def is_run(folder: Path) -> bool:
    """Whether a process runs the study, or the trial, in this folder now; of a stage, too. It writes nothing."""
    try:
        handle = os.open(folder / ".lock", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # closing lets go
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def now() -> str:
    """The time as every record has it: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def write_atomic(path: Path, content: str | bytes) -> None:
    """The file has its old content or all of the new one, whatever happens meanwhile."""
    write_whole(path, lambda file: file.write(content.encode() if isinstance(content, str) else content))
    publish(path)


def write_json(path: Path, value: Any) -> None:
    """Atomic; a number that is not finite becomes null, which every reader of JSON knows."""
    write_atomic(path, json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """ConfigError if the file was damaged: `write_json` never leaves half a file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{shown(path)}: damaged, not readable as JSON: {error}; restore or delete it") from None


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """One JSON line in one write, on disk when this returns. A torn last line goes first: the file has one writer."""
    line = json.dumps(plain(record), ensure_ascii=False, allow_nan=False).encode() + b"\n"
    is_new = not path.exists()
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        cut_torn_line(handle)
        if os.write(handle, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(handle)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        os.close(handle)
    if is_new:
        sync_folder(path.parent)
    publish(path)


def read_lines(path: Path, since: int = 0) -> list[dict[str, Any]]:
    """The records of a file that grows by `append_line`, without so many at the beginning; none if there is no file.

    A torn last line is what a crash leaves: it is left out, and said so. Any other damage is a ConfigError.
    """
    if not path.exists():
        return []
    *lines, rest = path.read_bytes().split(b"\n")
    if rest:
        log.warning("%s: the last line is torn by a crash and left out", shown(path))
    return [_record(path, number, line) for number, line in enumerate(lines[since:], start=since + 1)]


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """All lines anew, atomically."""
    lines = (json.dumps(plain(record), ensure_ascii=False, allow_nan=False) for record in records)
    write_atomic(path, "".join(f"{line}\n" for line in lines))


def plain(value: Any) -> Any:
    """As JSON can say it: tuples as lists, a number that is not finite as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{shown(path)}:{number}: damaged, not readable as JSON: {error}; restore it") from None


def cut_torn_line(handle: int) -> None:
    """Of a file that grows by `append_line`, opened for reading and writing."""
    size = os.fstat(handle).st_size
    if size == 0 or os.pread(handle, 1, size - 1) == b"\n":
        return
    os.ftruncate(handle, os.pread(handle, size, 0).rfind(b"\n") + 1)
