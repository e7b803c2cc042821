"""Trials with stages before them: shared by studies, recorded, shown."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from guidedmix_core import StageReport, Tree, build
from orchestrator.chains import chain_words, current_stage, note_stage, stage_words
from orchestrator.console import RunConsole, StudyConsole
from orchestrator.executors.inline import run
from orchestrator.failures import classify
from orchestrator.folder import StudyFolder, TrialFolder, read_json, write_json
from orchestrator.report import write_page
from orchestrator.results import TrialRecord, load_trials
from orchestrator.single import train_one
from orchestrator.study import Objective, SearchStudy
from orchestrator.trial import run_trial
from tests.runs import small_run, small_tree

WARM = {"stages": [{"method": "supervised", "steps": 3}], "train.steps": 2}


class Crash(Exception):  # noqa: N818 - it is no error of ours
    """Stands for a process that is killed where it is raised."""


def go(folder: TrialFolder, changes: Mapping[str, Any] | None = None, **listeners: Any) -> TrialRecord:
    return run_trial(small_run({**WARM, **(changes or {})}), folder, Objective(), **listeners, device="cpu")


def states(record: TrialRecord) -> list[tuple[str, str]]:
    return [(stage["method"], stage["state"]) for stage in record.stages]


def console() -> Console:
    return Console(file=io.StringIO(), width=200, force_terminal=False)


def printed(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrialRecord, TrialRecord]:
    """Two studies side by side, each with a run of the same stage."""
    studies = tmp_path_factory.mktemp("studies")
    first = go(StudyFolder(studies / "one").trial("a"))
    return studies, first, go(StudyFolder(studies / "two").trial("b"), {"method.labeled": {"normalize": "all"}})


def test_a_stage_is_trained_once_for_all_studies_of_a_folder(shared: tuple[Path, TrialRecord, TrialRecord]) -> None:
    studies, first, second = shared
    assert (states(first), states(second)) == ([("supervised", "trained")], [("supervised", "reused")])
    assert len(list((studies / "stages").iterdir())) == 1
    assert first.stages[0]["address"] == second.stages[0]["address"]
    assert first.metrics["time/stage_seconds"] == second.stages[0]["seconds"]


def test_result_and_environment_of_a_trial_say_what_became_of_its_stages(
    shared: tuple[Path, TrialRecord, TrialRecord],
) -> None:
    studies, first, _ = shared
    trial = StudyFolder(studies / "one").trial("a")
    (stage,) = read_json(trial.result)["stages"]
    assert read_json(trial.environment)["stages"] == [stage] == first.stages
    assert (stage["index"], stage["method"], stage["steps"], stage["state"]) == (0, "supervised", 3, "trained")
    assert (studies / "stages" / stage["address"] / "weights.pt").exists()
    assert 0 <= stage["metrics"]["val/miou"] <= 1


def test_a_stage_that_a_trial_trained_before_it_was_interrupted_stays_its_own(tmp_path: Path) -> None:
    def crash(step: int, steps: int, losses: Mapping[str, Tensor]) -> None:
        if steps == 2:
            raise KeyboardInterrupt

    folder = StudyFolder(tmp_path / "study").trial("here")
    with pytest.raises(KeyboardInterrupt):
        go(folder, progress=crash)
    assert states(go(folder)) == [("supervised", "trained")]


def test_a_stage_that_fails_fails_the_trial_and_is_named(tmp_path: Path) -> None:
    record = go(StudyFolder(tmp_path / "study").trial("here"), {"stages.0.optim": {"lr": 1e30, "optimizer": "sgd"}})
    assert record.failure is not None
    assert (record.state, record.failure["reason"]) == ("failed", "diverged")
    assert record.failure["message"].startswith("stage 0 (supervised, 3 steps): the loss is not finite")


def test_an_error_says_in_which_stage_it_happened() -> None:
    error = torch.OutOfMemoryError("CUDA out of memory")
    error.add_note("in stage 0 (supervised, 3 steps)")
    failure = classify(error)
    assert (failure.reason, failure.message) == (
        "oom",
        "OutOfMemoryError: CUDA out of memory (in stage 0 (supervised, 3 steps))",
    )


def test_what_a_listener_raises_at_a_stage_is_not_the_trials_failure(tmp_path: Path) -> None:
    def crash(stage: StageReport) -> None:
        raise Crash

    folder = StudyFolder(tmp_path / "study").trial("here")
    with pytest.raises(Crash):
        go(folder, on_stage=crash)
    assert not folder.result.exists()


def test_a_search_may_vary_its_stages(tmp_path: Path) -> None:
    """Both trials and the reference, which leaves its stages out, are runs; lengths are stages of their own."""
    values: dict[str, Any] = {
        "base": "small",
        "parameters": {"stages.0.steps": {"choice": [1, 2]}},
        "search": {"sampler": "grid", "trials": 2},
        "scheduler": {"name": "none"},
        "references": {"alone": {"stages": []}},
    }
    folder, shown = StudyFolder(tmp_path / "study"), console()
    run(build(Tree(values, {}), SearchStudy), small_tree(WARM), folder, [StudyConsole(shown)], "cpu")
    found = {record.label or record.params["stages.0.steps"]: record for record in load_trials(folder)}
    assert {name: [stage["steps"] for stage in record.stages] for name, record in found.items()} == {
        "alone": [],
        1: [1],
        2: [2],
    }
    assert "trial 0: stage 0  supervised 1 steps, trains" in printed(shown)


def test_the_report_and_the_terminal_show_what_became_of_the_stages(tmp_path: Path) -> None:
    folder, shown = StudyFolder(tmp_path / "study"), console()
    listener = RunConsole(shown)
    record = train_one(small_run(WARM), "base/small", folder, [listener], listener.progress, "cpu")
    assert "stage 0: supervised 3 steps, trains" in printed(shown)
    assert f"<dt>Stages</dt><dd>{stage_words(record.stages)}</dd>" in write_page(folder).read_text()


def test_a_chain_in_words() -> None:
    config = small_run({"stages": [{"method": "supervised", "steps": 2000}], "method.name": "guidedmix"})
    assert chain_words(config) == "supervised 2,000 steps → guidedmix 4 steps"
    assert chain_words(small_run()) is None


def test_stages_in_words() -> None:
    reused = {"method": "supervised", "steps": 200, "state": "reused", "seconds": 12.3, "metrics": {"val/miou": 0.3121}}
    waiting = {"method": "guidedmix", "steps": 4000, "state": "waits", "seconds": None, "metrics": {}}
    assert stage_words([reused, waiting]) == (
        "supervised 200 steps, reused (31.2 mIoU, 12 s) → guidedmix 4,000 steps, waits"
    )


def test_the_stage_a_trial_is_at_is_read_from_its_folder(tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path)
    assert current_stage(folder) is None
    write_json(folder.environment, {"time": "now"})
    note_stage(folder, StageReport(0, "abc", "supervised", 3, "trains"))
    assert current_stage(folder) == "stage 0 trains"
    note_stage(folder, StageReport(0, "abc", "supervised", 3, "trained", 1.0, {}))
    assert current_stage(folder) is None
