"""Real processes: killed at each phase of a study, on a disk that is full, beside another driver. Nothing is lost."""

from __future__ import annotations

import fcntl
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.folder import StudyFolder
from tests.orchestrator.chaos import disturb
from tests.orchestrator.faults import Forks, Point, forks
from tests.orchestrator.final import complaints, outcome, repeated_runs

# MLflow's own use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")

KILLS = {
    "ablation": {
        "before the first run": Point("append", "*/journal.jsonl", 1, "before"),
        "in the first event": Point("append", "*/journal.jsonl", 1, "half"),
        "in a stage": Point("replace", "*/stages/*/last.pt", 1),
        "before a stage's weights are there": Point("replace", "*/stages/*/weights.pt", 1, "before"),
        "in a step": Point("step", count=2),
        "between checkpoint and metrics": Point("append", "*/metrics.jsonl", 1, "before"),
        "in a line of metrics": Point("append", "*/metrics.jsonl", 1, "half"),
        "between metrics and what follows": Point("append", "*/metrics.jsonl", 1),
        "before a result": Point("replace", "*/trials/*/result.json", 1, "before"),
        "between a result and its event": Point("replace", "*/trials/*/result.json", 1),
        "between a run of MLflow and its note": Point("mlflow", count=1),
        "before MLflow's progress is noted": Point("replace", "*/trials/*/mlflow.json", 2, "before"),
        "while a checkpoint is written": Point("replace", "*/trials/*/last.pt", 2, "before"),
        "in the event of an end": Point("append", "*/journal.jsonl", 3, "half"),
        "while the summary is written": Point("replace", "*/summary.json", 5, "before"),
    },
    "search": {
        "between a proposal and its run": Point("append", "*/journal.jsonl", 5),
        "before the choice of whom to confirm is written": Point("replace", "*/study.yaml", 1, "before"),
        "after it is written": Point("replace", "*/study.yaml", 1),
        "in a fresh run": Point("append", "*/metrics.jsonl", 1),
    },
}
"""In this order, one after another, in one study."""
FULL = {
    "at the start": Point("append", "*/journal.jsonl", 1, "before"),
    "in a stage": Point("step", count=2),
    "at a checkpoint": Point("step", count=5),
    "at a line of metrics": Point("append", "*/metrics.jsonl", 1, "before"),
    "at a result": Point("replace", "*/trials/*/best.pt", 1),
    "at an event": Point("replace", "*/trials/*/result.json", 1),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with forks(tmp_path_factory.mktemp("faults")) as server:
        assert server.run("template")[0] == 0
        yield server


@pytest.fixture(scope="module")
def undisturbed(server: Forks) -> dict[str, dict[str, Any]]:
    """What each study comes to."""
    found = {}
    for kind in ("ablation", "search"):
        folder = StudyFolder(server.place / "whole" / "studies" / kind)
        assert server.run("make", kind, str(folder.path)) == (0, "")
        found[kind] = outcome(folder)
    return found


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Of one test alone: MLflow keeps a database open that it has seen once."""
    return tmp_path / "studies"


def check(folder: StudyFolder, undisturbed: dict[str, Any]) -> None:
    """As if nothing had been: all equal, each run ended once, MLflow has everything once, and nothing is RUNNING."""
    assert outcome(folder) == undisturbed
    assert repeated_runs(folder) == []
    assert [said for said in complaints(folder) if "half a file" not in said] == []


@pytest.mark.parametrize("kind", KILLS)
def test_a_driver_that_is_killed_at_each_phase_costs_nothing_but_time(
    server: Forks, undisturbed: dict[str, dict[str, Any]], studies: Path, kind: str
) -> None:
    folder = StudyFolder(studies / kind)
    for phase, kill in KILLS[kind].items():
        code, said = server.run("make", kind, str(folder.path), kill=kill)
        assert (phase, code) == (phase, -signal.SIGKILL), said
    assert server.run("make", kind, str(folder.path)) == (0, "")
    check(folder, undisturbed[kind])


@pytest.mark.parametrize("kind", KILLS)
def test_a_study_that_is_killed_at_random_comes_to_what_an_undisturbed_one_does(
    server: Forks, undisturbed: dict[str, dict[str, Any]], studies: Path, kind: str
) -> None:
    folder = StudyFolder(studies / kind)
    assert disturb(server, kind, folder, kills=6, seed=1) > 0
    assert outcome(folder) == undisturbed[kind]
    check(folder, undisturbed[kind])


def test_a_disk_that_is_full_stops_the_study_in_plain_words_and_fails_no_run(
    server: Forks, undisturbed: dict[str, dict[str, Any]], studies: Path
) -> None:
    folder = StudyFolder(studies / "ablation")
    typed = ("guidedmix", "ablate", "ablation.yaml", "--executor", "inline", "--study", str(folder.path))
    for phase, full in FULL.items():
        code, said = server.run("command", *typed, full=full)
        assert (phase, code, "Traceback" in said) == (phase, 1, False)
        assert ": File too large. Nothing half-written counts: make room, and the same command goes on with" in said
        assert [result for result in folder.path.glob("trials/*/result.json") if "failed" in result.read_text()] == []
    assert server.run("make", "ablation", str(folder.path)) == (0, "")
    check(folder, undisturbed["ablation"])


def test_a_second_driver_is_refused_at_once_and_touches_nothing(server: Forks, studies: Path) -> None:
    folder = StudyFolder(studies / "ablation")
    kill = Point("append", "*/metrics.jsonl", 2)
    assert server.run("make", "ablation", str(folder.path), kill=kill)[0] == -signal.SIGKILL
    before = contents(folder)
    with (folder.path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as the first driver does
        typed = ("guidedmix", "ablate", "ablation.yaml", "--executor", "inline", "--study", str(folder.path))
        code, said = server.run("command", *typed)
        assert (code, said) == (
            2,
            f"{folder.path}: is being run by another process; wait for it, or stop it first\n",
        )
        code, said = server.run("doctor", str(folder.path))
        assert "is being run by another process" in said
    assert contents(folder) == before


def contents(folder: StudyFolder) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
