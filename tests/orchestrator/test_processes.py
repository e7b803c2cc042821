"""Real processes that hang, are stopped for a while, or are asked to go."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from orchestrator import cli
from orchestrator.executors.inline import run
from orchestrator.folder import StudyFolder, read_json, read_lines
from orchestrator.results import load_trials
from orchestrator.watchdog import Watchdog
from tests.orchestrator.test_cells import study_of
from tests.orchestrator.test_inline import counting
from tests.runs import SMALL, small_tree

PLAN = {"cells": {"usual": {}}, "ceiling": None, "blocks": {"seed": [0, 1, 2]}}
HANGS = """
import sys
from orchestrator.executors.inline import run
from orchestrator.folder import StudyFolder
from tests.orchestrator.test_processes import PLAN
from tests.orchestrator.test_cells import study_of
from tests.runs import small_tree
from tests.stuck import stick

stick(seed=1, step=3)
run(study_of(**PLAN, failures={"hang_minutes": 0.2}), small_tree(), StudyFolder(sys.argv[1]), [], "cpu")
"""
STOPPED = """
import os, sys, time
from orchestrator.watchdog import Watchdog

with Watchdog(0.02, lambda: os._exit(3)) as watchdog:
    print("beats", flush=True)
    for _ in range(60):
        watchdog.beat()
        time.sleep(0.05)
"""
STUCK_RECORD = """
import threading
from orchestrator import watchdog

watchdog.PATIENCE = 0.1
watchdog.end_process(lambda: threading.Event().wait(), "never said")
"""


def started(*arguments: str) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes)


def test_a_run_that_hangs_is_recorded_its_process_ends_and_the_study_goes_on_without_it(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "demo")
    process = started("-c", HANGS, str(folder.path))
    _, said = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "no sign of life for 0.2 minutes after step 3" in said
    assert "The same command goes on without it" in said
    run(study_of(**PLAN), small_tree(), folder, [], "cpu")
    records = load_trials(folder)
    assert [record.state for record in records] == ["complete", "failed", "complete"]
    assert records[1].failure is not None
    assert (records[1].failure["reason"], records[1].failure["step"]) == ("hang", 3)
    assert "stuck.py" in folder.trial(records[1].fingerprint).traceback.read_text()
    assert read_json(folder.summary)["cells"][0]["failures"] == {"hang": 1}
    assert len([event for event in folder.events() if event["event"] == "trial_ended"]) == 3

    run(study_of(**PLAN), small_tree(), folder, [], "cpu", retry_failed=True)  # nothing hangs here
    assert [record.state for record in load_trials(folder)] == ["complete"] * 3
    again = folder.trial(records[1].fingerprint)
    assert [row["step"] for row in read_lines(again.metrics)] == [2, 4]
    assert [restart["step"] for restart in read_json(again.environment)["restarts"]] == [2]


def test_a_process_that_is_stopped_for_longer_than_it_may_be_silent_goes_on() -> None:
    process = started("-c", STOPPED)
    assert process.stdout is not None
    assert process.stdout.readline() == "beats\n"
    process.send_signal(signal.SIGSTOP)
    time.sleep(2.5)  # twice what counts as silence
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_silence_is_noticed_unless_the_run_waits_for_somebody_else() -> None:
    seen: list[str] = []
    with Watchdog(0.005, lambda: seen.append("silent")) as watchdog:
        with watchdog.paused():
            time.sleep(0.9)
            assert seen == []
        time.sleep(0.9)
    assert seen == ["silent"]


def test_a_process_whose_record_can_not_be_written_ends_all_the_same() -> None:
    process = started("-c", STUCK_RECORD)
    process.communicate(timeout=60)
    assert process.returncode == 1


def test_without_a_limit_nobody_watches() -> None:
    with Watchdog(None, lambda: None) as watchdog:
        assert not watchdog._thread.is_alive()


def test_a_study_that_is_asked_to_go_saves_where_it_is_and_goes_on_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(yaml.safe_dump({**SMALL, "evaluate": {"every": 12, "telemetry_images": 0}}))
    request = {"base": "small.yaml", "changes": {"train.steps": 12}, "reference": "usual", "cells": {"usual": {}}}
    Path("long.yaml").write_text(yaml.safe_dump({**request, "blocks": {"seed": [0]}, "tracking": {"mlflow": None}}))
    process = started("-m", "orchestrator", *(typed := shlex.split("ablate long.yaml --executor inline")))
    folder = StudyFolder("studies/ablation-long")
    while not [*folder.path.glob("trials/*/config.yaml")]:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 143
    assert "the same command goes on" in said
    (record,) = load_trials(folder)
    assert (record.state, record.step) == ("running", 0)

    steps = counting(monkeypatch)
    monkeypatch.setattr("sys.argv", ["guidedmix", *typed])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert not left.value.code
    assert steps == [*range(13 - len(steps), 13)]
    assert 0 < len(steps) < 12
    assert [row["step"] for row in read_lines(folder.trial(record.fingerprint).metrics)] == [12]
