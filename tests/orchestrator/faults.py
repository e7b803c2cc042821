"""Studies in processes that end where a test says: killed at a write, or on a disk that is full from there on.

Importing everything takes seconds, so one process does it once and forks for each job, before it has a thread.
"""

from __future__ import annotations

import fnmatch
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.runs import SMALL

REAL = {name: getattr(os, name) for name in ("replace", "rename", "unlink", "write")}
ABLATION = {
    "base": "small.yaml",
    "changes": {"stages": [{"method": "supervised", "steps": 3, "optim": {"lr": 0.01}}]},
    "reference": "usual",
    "cells": {"usual": {}, "slow": {"optim.lr": 1e-5}},
    "blocks": {"seed": [0, 1]},
}
SEARCH = {
    "base": "small.yaml",
    "parameters": {"optim.lr": {"log": [0.0001, 0.01]}},
    "search": {"sampler": "tpe", "startup_trials": 2, "trials": 4},
    "scheduler": {"name": "none"},
    "references": {"slow": {"optim.lr": 0.00001}},
    "confirm": {"against": ["slow"], "blocks": {"seed": [10]}},
}
FILES = {"small.yaml": SMALL, "ablation.yaml": ABLATION, "search.yaml": SEARCH}


@dataclass(frozen=True)
class Point:
    """Where a process ends: at the count-th operation of a kind on a path of a study that fits the pattern.

    Kinds: `append` (a line), `replace` (a file written whole), `rename`, `unlink`, `step` (of training, no path),
    `mlflow` (a run is made, no path); `*`: any.
    """

    kind: str
    pattern: str = "*"
    count: int = 1
    when: str = "after"
    """before it, half way through what it writes, or after it."""


class Forks:
    """The process that has imported everything. `run` is one job; it returns the exit code, and what was said."""

    def __init__(self, place: Path) -> None:
        self.place = place
        for name, content in FILES.items():
            (place / name).write_text(yaml.safe_dump(content))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GUIDEDMIX_CACHE": str(place / "cache")}
        self.server = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=place,
            env={**environment, "PYTHONPATH": str(Path(__file__).parents[2])},
        )

    def run(self, do: str, *arguments: str, kill: Point | None = None, full: Point | None = None) -> tuple[int, str]:
        """`do`: a name in `JOBS`."""
        job = {"do": do, "arguments": arguments, "kill": kill and asdict(kill), "full": full and asdict(full)}
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(job) + "\n")
        self.server.stdin.flush()
        answer = json.loads(self.server.stdout.readline())
        return answer["code"], answer["said"]

    def close(self) -> None:
        self.server.communicate()


@contextmanager
def forks(place: Path) -> Iterator[Forks]:
    server = Forks(place)
    try:
        yield server
    finally:
        server.close()


def watch(act: Callable[[str, str, Callable[[], object]], None]) -> None:
    """From now on, `act(kind, path, half)` is called before each operation, and once more, as `kind done`, after."""

    def path_of(target: Any) -> str:
        return os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else os.fspath(target)

    def wrapped(kind: str, name: str, place: int) -> None:
        def operate(*arguments: Any, **options: Any) -> Any:
            path = path_of(arguments[place])
            if "/cache/" in path or not path.startswith("/"):
                path = os.path.abspath(path)
            counts = "/studies/" in path
            half = lambda: REAL["write"](arguments[0], arguments[1][: len(arguments[1]) // 2])  # noqa: E731
            if counts:
                act(kind, path, half if kind == "append" else lambda: None)
            done = REAL[name](*arguments, **options)
            if counts:
                act(f"{kind} done", path, lambda: None)
            return done

        setattr(os, name, operate)

    for kind, name, place in (("append", "write", 0), ("replace", "replace", 1), ("rename", "rename", 0)):
        wrapped(kind, name, place)
    wrapped("unlink", "unlink", 0)
    from mlflow import MlflowClient

    from guidedmix_core.trainer import Run

    for kind, owner, name in (("step", Run, "train_step"), ("mlflow", MlflowClient, "create_run")):
        real = getattr(owner, name)

        def called(*arguments: Any, real: Any = real, kind: str = kind, **options: Any) -> Any:
            act(kind, "", lambda: None)
            done = real(*arguments, **options)
            act(f"{kind} done", "", lambda: None)
            return done

        setattr(owner, name, called)


def end_at(point: Point, end: Callable[[], object]) -> None:
    """Before, half way through or after the operation, `end` is called."""
    seen = {"": 0}

    def act(kind: str, path: str, half: Callable[[], object]) -> None:
        is_done = kind.endswith(" done")
        if point.kind not in ("*", kind.removesuffix(" done")) or not fnmatch.fnmatch(path, point.pattern):
            return
        seen[""] += not is_done
        if seen[""] == point.count and is_done == (point.when == "after"):
            if point.when == "half":
                half()
            end()

    watch(act)


def fill_the_disk() -> None:
    """The kernel refuses every byte that is written to a file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


def make(kind: str, folder: str) -> None:
    """Run the study, with MLflow, and without a report."""
    from orchestrator import tracking
    from orchestrator.ablation import AblationStudy
    from orchestrator.executors.inline import run
    from orchestrator.folder import StudyFolder
    from orchestrator.study import SearchStudy, load_study

    study, base = load_study(f"{kind}.yaml", [], AblationStudy if kind == "ablation" else SearchStudy)
    tracking.INTERVAL, tracking.LAST_PAUSES = 0.01, ()
    place = StudyFolder(folder)
    if not place.mlflow_db.exists() and Path("template.db").exists():
        place.path.mkdir(parents=True, exist_ok=True)
        shutil.copyfile("template.db", place.mlflow_db)  # making its tables takes a second
    run(study, base, place, tracking.tracker(study.tracking.mlflow, place), "cpu")


def doctor(folder: str) -> None:
    from orchestrator.doctor import mend
    from orchestrator.folder import StudyFolder

    _, found = mend(StudyFolder(folder))
    if left := [finding for finding in found if finding.level != "note"]:
        sys.exit("\n".join(f"{finding.place}: {finding.problem}" for finding in left))


def template() -> None:
    """MLflow's tables, with no experiment in them."""
    from orchestrator.mlflow_store import connect

    connect("sqlite:///template.db").search_experiments()


def command(*words: str) -> None:
    from orchestrator import cli, tracking

    tracking.LAST_PAUSES = ()
    sys.argv = [*words]
    cli.main()


JOBS: dict[str, Callable[..., None]] = {"make": make, "doctor": doctor, "template": template, "command": command}


def main() -> None:
    # What a job would import takes longer than the job.
    import alembic.context  # noqa: F401
    import mlflow.store.model_registry.sqlalchemy_store
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
    import torch
    import torch._inductor
    from PIL import Image
    from sqlalchemy.orm import configure_mappers

    from orchestrator import console, plan, provenance, report, tracking  # noqa: F401
    from orchestrator.commands import doctor, studies  # noqa: F401
    from orchestrator.executors import inline  # noqa: F401

    torch.set_num_threads(1)
    configure_mappers()
    Image.init()
    provenance.packages()
    provenance.git_state = lambda source=None: None
    for job in sys.stdin:
        read, write = os.pipe()
        if (child := os.fork()) == 0:
            os.close(read)
            _do(json.loads(job), write)
        os.close(write)
        with os.fdopen(read, errors="replace") as pipe:
            said = pipe.read()
        _, status = os.waitpid(child, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status), "said": said}), flush=True)


def _do(job: dict[str, Any], output: int) -> None:
    code = 1
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        if job["kill"]:
            end_at(Point(**job["kill"]), lambda: os.kill(os.getpid(), signal.SIGKILL))
        if job["full"]:
            end_at(Point(**job["full"]), fill_the_disk)
        JOBS[job["do"]](*job["arguments"])
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(bool(left.code))
        print(left.code if isinstance(left.code, str) else "", end="")
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
