"""Runs side by side with a real Ray: one hangs in its worker, and the driver is asked to go while another trains."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guidedmix_core import Preempted, Tree, build
from orchestrator import ray_session
from orchestrator.ablation import AblationStudy
from orchestrator.executors import ray_tune
from orchestrator.folder import StudyFolder, read_lines
from orchestrator.listeners import Listener
from orchestrator.results import TrialRecord, load_trials
from tests.runs import small_tree
from tests.stuck import stick

pytestmark = [
    pytest.mark.timeout(900),  # a Ray starts slowly on a busy machine
]

STUDY = {
    "base": "small",
    "reference": "usual",
    "cells": {"usual": {}},
    "blocks": {"seed": [0, 1, 2]},
    "scaling": {"concurrent": 2},
    "failures": {"hang_minutes": 0.3},
}
LONG = {"train.steps": 450, "evaluate.every": 150, "evaluate.telemetry_images": 0}  # a run looks once a second


@pytest.fixture(autouse=True)
def ray_whose_workers_stick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(ray_session.QUIET, "runtime_env", {"worker_process_setup_hook": stick})
    with ray_session.cluster():
        yield


class Terminated(Listener):
    """Gets SIGTERM when the last run reports for the first time."""

    def trial_reported(self, record: TrialRecord, metrics: Any) -> None:
        if record.block == 2:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_worker_that_hangs_is_replaced_and_a_driver_that_is_asked_to_go_loses_no_step(tmp_path: Path) -> None:
    folder, study = StudyFolder(tmp_path / "demo"), build(Tree(STUDY, {}), AblationStudy)
    with pytest.raises(Preempted):
        ray_tune.run(study, small_tree(LONG), folder, [Terminated()], "cpu")
    assert [event["number"] for event in folder.events() if event["event"] == "trial_left"] == [2]
    ray_tune.run(study, small_tree(LONG), folder, [], "cpu")
    records = load_trials(folder)
    assert [record.state for record in records] == ["complete", "failed", "complete"]
    assert records[1].failure is not None
    assert (records[1].failure["reason"], records[1].failure["step"]) == ("hang", 3)
    assert [row["step"] for row in read_lines(folder.trial(records[2].fingerprint).metrics)] == [150, 300, 450]
    assert folder.events()[-1]["event"] == "study_ended"
