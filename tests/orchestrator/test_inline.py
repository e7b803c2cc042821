"""A whole search in this process: real runs on the smallest data set, and every way to interrupt it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guidedmix_core import ConfigError, Tree, build, train
from orchestrator import trial as trial_module
from orchestrator.driver import driving
from orchestrator.executors import executor_named
from orchestrator.executors.inline import run
from orchestrator.folder import StudyFolder, read_json, read_lines, write_json
from orchestrator.listeners import Listener
from orchestrator.results import TrialRecord, load_trials
from orchestrator.study import SearchStudy
from tests.runs import small_tree

STUDY: dict[str, Any] = {
    "base": "small",
    "parameters": {"optim.lr": {"log": [0.0001, 0.01]}},
    "search": {"sampler": "random", "trials": 2, "seed": 0},
    "scheduler": {"name": "none"},
    "references": {"slow": {"optim.lr": 0.00001}},
}
GRID = {"parameters": {"optim.lr": {"choice": [0.001, 0.01]}}, "search": {"sampler": "grid", "trials": 9}}


def study_of(**changes: Any) -> SearchStudy:
    return build(Tree({**STUDY, **changes}, {}), SearchStudy)


def states(folder: StudyFolder) -> list[str]:
    return [record.state for record in load_trials(folder)]


def asked(folder: StudyFolder) -> list[tuple[str, int]]:
    return [(event["role"], event["number"]) for event in folder.events() if event["event"] == "asked"]


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "demo")


class Diary(Listener):
    """Remembers what it was told; dies at the n-th call, if one is given."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.dies_at = dies_at
        self.calls: list[str] = []
        self.at_summary: list[dict[str, Any]] = []

    def study_started(self, study: SearchStudy, folder: StudyFolder) -> None:
        self.folder = folder
        self.note("study_started")

    def trial_started(self, record: TrialRecord) -> None:
        self.note("trial_started")

    def trial_reported(self, record: TrialRecord, metrics: Any) -> None:
        self.note(f"trial_reported {metrics['step']}")

    def trial_ended(self, record: TrialRecord) -> None:
        self.note(f"trial_ended {record.state}")

    def study_ended(self) -> None:
        self.calls.append("study_ended")

    def note(self, what: str) -> None:
        self.calls.append(what)
        self.at_summary.append(read_json(self.folder.summary)["counts"])
        if self.dies_at is not None and len(self.calls) >= self.dies_at:
            raise KeyboardInterrupt


def counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that are trained from here on, a list that grows."""
    steps: list[int] = []

    def counted(config: Any, reporter: Any, checkpoints: Any, **where: Any) -> Any:
        passed_on = reporter.progress
        reporter.progress = lambda step, total, losses: (steps.append(step), passed_on(step, total, losses))
        return train(config, reporter, checkpoints, **where)

    monkeypatch.setattr(trial_module, "train", counted)
    return steps


def test_a_search_runs_references_first_and_leaves_a_whole_folder(folder: StudyFolder) -> None:
    diary = Diary()
    run(study_of(), small_tree(), folder, [diary], "cpu")
    one = ["trial_started", "trial_reported 2", "trial_reported 4", "trial_ended complete"]
    assert diary.calls == ["study_started", *one * 3, "study_ended"]
    records = load_trials(folder)
    assert [(record.role, record.label, record.number) for record in records][:2] == [
        ("reference", "slow", 0),
        ("trial", None, 0),
    ]
    summary = read_json(folder.summary)
    assert summary["counts"] == {"planned": 3, "complete": 3, "stopped": 0, "failed": 0}
    assert summary["best"]["objective"] == max(record.objective or 0 for record in records[1:])
    assert folder.events()[-1]["event"] == "study_ended"
    assert {"host", "git", "packages"} <= read_json(folder.provenance).keys()


def test_the_summary_is_current_at_every_event(folder: StudyFolder) -> None:
    diary = Diary()
    run(study_of(), small_tree(), folder, [diary], "cpu")
    assert [counts["complete"] for counts in diary.at_summary] == [0] * 4 + [1] * 4 + [2] * 4 + [3]


def test_running_a_finished_study_again_trains_nothing(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    run(study_of(), small_tree(), folder, [], "cpu")
    before = read_json(folder.summary)
    steps = counting(monkeypatch)
    run(study_of(), small_tree(), folder, [], "cpu")
    assert steps == []
    assert read_json(folder.summary) == before


def test_more_trials_extend_a_finished_study(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    run(study_of(), small_tree(), folder, [], "cpu")
    before = {record.fingerprint for record in load_trials(folder)}
    steps = counting(monkeypatch)
    run(study_of(search={**STUDY["search"], "trials": 3}), small_tree(), folder, [], "cpu")
    after = {record.fingerprint for record in load_trials(folder)}
    assert before < after
    assert steps == [1, 2, 3, 4]


ONE = {"search": {**STUDY["search"], "trials": 1}}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, float | None]]:
    """What a reference and one trial come to when nothing interrupts them."""
    whole = StudyFolder(tmp_path_factory.mktemp("whole") / "demo")
    run(study_of(**ONE), small_tree(), whole, [], "cpu")
    return [(record.fingerprint, record.objective) for record in load_trials(whole)]


@pytest.mark.parametrize("call", [1, 2, 3, 4, 5, 6, 9])
def test_an_interrupt_at_any_event_loses_nothing_and_repeats_nothing(
    folder: StudyFolder, found: list[tuple[str, float | None]], call: int
) -> None:
    request = study_of(**ONE)
    diary = Diary(dies_at=call)
    with pytest.raises(KeyboardInterrupt):
        run(request, small_tree(), folder, [diary], "cpu")
    assert diary.calls[-1] == "study_ended"
    assert folder.events()[-1]["event"] != "study_ended"
    run(request, small_tree(), folder, [], "cpu")
    assert [(record.fingerprint, record.objective) for record in load_trials(folder)] == found
    assert asked(folder) == [("reference", 0), ("trial", 0)]
    for trial in folder.trials():
        assert [row["step"] for row in read_lines(trial.metrics)] == [2, 4]


KILLED = """
import os, signal, sys
from orchestrator.folder import StudyFolder
from orchestrator.executors.inline import run
from orchestrator.listeners import Listener
from tests.orchestrator.test_inline import study_of
from tests.runs import small_tree

class Killer(Listener):
    reports = 0
    def trial_reported(self, record, metrics):
        self.reports += 1
        if self.reports == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

run(study_of(), small_tree(), StudyFolder(sys.argv[1]), [Killer()], "cpu")
"""


def test_a_killed_driver_is_gone_on_with(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder.path), "5"], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert states(folder) == ["complete", "complete", "running"]
    steps = counting(monkeypatch)
    run(study_of(), small_tree(), folder, [], "cpu")
    assert steps == [3, 4]
    assert states(folder) == ["complete"] * 3
    assert asked(folder) == [("reference", 0), ("trial", 0), ("trial", 1)]


def test_a_result_whose_event_was_lost_gets_it(folder: StudyFolder) -> None:
    run(study_of(), small_tree(), folder, [], "cpu")
    lines = folder.journal.read_text().splitlines()
    kept = [line for line in lines if json.loads(line)["event"] != "trial_ended"]
    folder.journal.write_text("\n".join(kept) + "\n")
    run(study_of(), small_tree(), folder, [], "cpu")
    assert len([event for event in folder.events() if event["event"] == "trial_ended"]) == 3


def test_a_trial_that_diverges_is_failed_and_the_study_goes_on(folder: StudyFolder) -> None:
    parameters = {"optim.lr": {"choice": [1e30, 0.001]}}
    run(study_of(parameters=parameters, search=GRID["search"]), small_tree(), folder, [], "cpu")
    assert states(folder) == ["complete", "failed", "complete"]
    summary = read_json(folder.summary)
    assert summary["counts"]["failed"] == 1
    assert summary["trials"][1]["failure"]["reason"] == "diverged"


def test_the_scheduler_stops_what_lags_behind(folder: StudyFolder) -> None:
    parameters = {"optim.lr": {"choice": [0.01, 1e-7]}}
    search = {"sampler": "random", "trials": 2, "start_from": [{"optim.lr": 0.01}, {"optim.lr": 1e-7}]}
    scheduler = {"name": "asha", "first_rung": 0.25, "eta": 2}
    request = study_of(parameters=parameters, search=search, scheduler=scheduler, references={})
    run(request, small_tree({"train.steps": 16, "evaluate.every": 4}), folder, [], "cpu")
    first, second = load_trials(folder)
    assert (first.state, second.state, second.step) == ("complete", "stopped", 4)
    assert not folder.trial(second.fingerprint).checkpoint.exists()
    assert read_json(folder.summary)["best"]["number"] == 0


def test_a_stopped_run_whose_process_died_before_it_tidied_up_keeps_no_checkpoint(folder: StudyFolder) -> None:
    run(study_of(**GRID), small_tree(), folder, [], "cpu")
    trial = folder.trials()[0]
    write_json(trial.result, {**read_json(trial.result), "state": "stopped"})  # and the journal does not say so
    assert trial.checkpoint.exists()
    run(study_of(**GRID), small_tree(), folder, [], "cpu")
    assert [trial.checkpoint.exists() for trial in folder.trials()] == [False, True, True]


def test_a_small_space_ends_early_and_is_planned_as_it_was(folder: StudyFolder) -> None:
    run(study_of(**GRID), small_tree(), folder, [], "cpu")
    assert states(folder) == ["complete"] * 3
    assert read_json(folder.summary)["counts"]["planned"] == 3


def test_a_reference_that_the_search_proposes_too_runs_once_and_counts_as_a_trial(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = counting(monkeypatch)
    run(study_of(**GRID, references={"usual": {"optim.lr": 0.001}}), small_tree(), folder, [], "cpu")
    assert steps == [1, 2, 3, 4] * 2
    records = load_trials(folder)
    assert sorted((record.role, record.label) for record in records if record.params["optim.lr"] == 0.001) == [
        ("trial", "usual")
    ]
    assert read_json(folder.summary)["counts"] == {"planned": 2, "complete": 2, "stopped": 0, "failed": 0}


def test_a_reference_that_fails_of_a_bug_keeps_the_trials_from_beginning(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(trial_module, "train", broken)
    for _ in range(2):
        with pytest.raises(
            ConfigError,
            match=r"the reference 'slow' failed.*bug.*a bug.*then the same command goes on with --retry-failed",
        ):
            run(study_of(), small_tree(), folder, [], "cpu")
    assert states(folder) == ["failed"]


def test_a_corner_that_is_no_run_is_refused_before_anything_is_written(folder: StudyFolder) -> None:
    request = study_of(parameters={"train.batch_size": {"int": [4, 9]}})
    with pytest.raises(ConfigError, match=r"train\.batch_size"):
        run(request, small_tree({"train.accumulate": 2}), folder, [], "cpu")
    assert not folder.path.exists()


def test_data_that_is_not_there_is_refused_before_anything_is_written(folder: StudyFolder, tmp_path: Path) -> None:
    nowhere = {"data.name": "folder", "data.root": str(tmp_path / "nowhere"), "data.class_names": ["sky", "road"]}
    with pytest.raises(ConfigError, match="nowhere"):
        run(study_of(), small_tree(nowhere), folder, [], "cpu")
    assert not folder.path.exists()


def test_another_study_is_refused(folder: StudyFolder) -> None:
    with driving(study_of(), small_tree(), folder, []):
        pass
    with pytest.raises(ConfigError, match="holds another study"):
        run(study_of(), small_tree({"seed": 1}), folder, [], "cpu")


def test_equal_configurations_are_never_out_twice(folder: StudyFolder) -> None:
    request = study_of(**GRID, references={"usual": {"optim.lr": 0.001}, "again": {"optim.lr": 0.001}})
    with driving(request, small_tree(), folder, []) as driver:
        jobs = [job for job in (driver.next() for _ in range(9)) if job is not None]
        assert len({job.fingerprint for job in jobs}) == len(jobs) == 2
        for job in jobs:
            driver.started(job)
            on_report: Callable[..., bool] = lambda step, metrics, job=job: driver.reported(job, step, metrics)  # noqa: E731
            driver.ended(
                job, trial_module.run_trial(job.config, job.folder, driver.objective, on_report=on_report, device="cpu")
            )
    assert states(folder) == ["complete", "complete"]
    assert folder.events()[-1]["event"] == "study_ended"


def test_an_executor_is_named_as_its_file() -> None:
    assert executor_named("inline") is run
