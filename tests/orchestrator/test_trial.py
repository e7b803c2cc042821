"""One trial: done once, gone on with after any crash, its failures recorded with their reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from guidedmix_core import ConfigError, Report, RunConfig, Tree, TrialFailed, build
from guidedmix_core.backbones.tiny import Tiny
from orchestrator import reporting
from orchestrator import trial as module
from orchestrator.failures import classify
from orchestrator.folder import StudyFolder, TrialFolder, append_line, read_json, read_lines, write_json
from orchestrator.results import TrialRecord
from orchestrator.study import Objective
from orchestrator.trial import run_trial
from tests.runs import small_run

LONG = {"train.steps": 8}


class Crash(Exception):  # noqa: N818 - it is no error of ours
    """Stands for a process that is killed where it is raised."""


@pytest.fixture
def folder(tmp_path: Path) -> TrialFolder:
    return StudyFolder(tmp_path).trial("here")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> TrialRecord:
    return go(StudyFolder(tmp_path_factory.mktemp("whole")).trial("whole"))


def go(
    folder: TrialFolder, on_report: Callable[[int, dict[str, float]], bool] = lambda *_: False, **changes: Any
) -> TrialRecord:
    """A run of eight steps with four evaluations."""
    return run_trial(small_run({**LONG, **changes}), folder, Objective(), on_report=on_report, device="cpu")


def crash_at(step: int) -> Callable[[int, dict[str, float]], bool]:
    def on_report(now: int, metrics: dict[str, float]) -> bool:
        if now == step:
            raise Crash
        return False

    return on_report


def failing(error: BaseException) -> Callable[..., Any]:
    def train(config: RunConfig, reporter: Any, checkpoints: Any, **where: Any) -> Any:
        reporter.progress(3, 8, {})
        raise error

    return train


def test_a_complete_trial_has_all_its_records(folder: TrialFolder) -> None:
    record = go(folder)
    assert (record.state, record.step, record.steps) == ("complete", 8, 8)
    assert record.objective == record.metrics["val/miou"]
    assert build(Tree(yaml.safe_load(folder.config.read_text()), {})) == small_run(LONG)
    assert [row["step"] for row in read_lines(folder.metrics)] == [2, 4, 6, 8]
    assert read_json(folder.environment)["data"]
    assert sorted(path.name for path in folder.checkpoint.iterdir()) == ["best.pt", "last.pt"]


def test_counts_are_kept_for_every_evaluated_image(folder: TrialFolder) -> None:
    record = go(folder)
    with np.load(folder.counts) as counts:
        assert len(counts["ids"]) == 4
        hits, wrong, missed = counts["counts"].sum(0).T
    union = hits + wrong + missed
    assert np.isclose((hits[union > 0] / union[union > 0]).mean(), record.metrics["val/miou"])


def test_panels_are_palette_images_with_class_ids(folder: TrialFolder) -> None:
    go(folder)
    (truth,) = folder.panels.glob("*_truth.png")
    picture = Image.open(truth)
    assert picture.mode == "P"
    assert set(np.unique(np.array(picture))) <= {*range(7), 255}
    assert len(list(folder.panels.iterdir())) == 3


def test_a_trial_with_an_end_is_not_run_again(folder: TrialFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    first = go(folder)
    monkeypatch.setattr(module, "train", failing(AssertionError("trained again")))
    assert go(folder) == first


def test_a_line_is_on_disk_before_it_is_told(folder: TrialFolder) -> None:
    seen = []
    go(
        folder,
        lambda step, metrics: bool(
            seen.append((step, read_lines(folder.metrics)[-1]["val/miou"] == metrics["val/miou"]))
        ),
    )
    assert seen == [(2, True), (4, True), (6, True), (8, True)]


def test_a_trial_that_is_asked_to_stop_is_stopped_and_keeps_no_checkpoint(folder: TrialFolder) -> None:
    record = go(folder, lambda step, metrics: step == 4)
    assert (record.state, record.step, record.steps) == ("stopped", 4, 8)
    assert record.objective == record.metrics["val/miou"]
    assert not folder.checkpoint.exists()


def test_the_stop_file_stops_after_the_next_report(folder: TrialFolder) -> None:
    record = go(folder, lambda step, metrics: bool(folder.stop.touch()) if step == 2 else False)
    assert (record.state, record.step) == ("stopped", 2)


def test_a_stop_at_the_last_step_is_complete(folder: TrialFolder) -> None:
    assert go(folder, lambda step, metrics: step == 8).state == "complete"


@pytest.mark.parametrize("step", [2, 4, 6, 8])
def test_a_crash_at_any_report_loses_nothing_and_repeats_nothing(
    folder: TrialFolder, uninterrupted: TrialRecord, step: int
) -> None:
    with pytest.raises(Crash):
        go(folder, crash_at(step))
    assert not folder.result.exists()
    told: list[int] = []
    record = go(folder, lambda now, metrics: bool(told.append(now)))
    assert told == [now for now in (2, 4, 6, 8) if now >= step]
    assert [row["step"] for row in read_lines(folder.metrics)] == [2, 4, 6, 8]
    assert (record.state, record.objective) == ("complete", uninterrupted.objective)


def test_a_line_that_a_crash_kept_from_being_written_is_restored(
    folder: TrialFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = append_line

    def dying(path: Path, row: dict[str, Any]) -> None:
        if row["step"] == 4:
            raise KeyboardInterrupt
        real(path, row)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(reporting, "append_line", dying)
        go(folder)
    assert [row["step"] for row in read_lines(folder.metrics)] == [2]
    told: list[int] = []
    go(folder, lambda now, metrics: bool(told.append(now)))
    assert told == [4, 6, 8]
    assert [row["step"] for row in read_lines(folder.metrics)] == [2, 4, 6, 8]


def test_lines_beyond_the_checkpoint_are_dropped(folder: TrialFolder) -> None:
    with pytest.raises(Crash):
        go(folder, crash_at(4))
    append_line(folder.metrics, {"step": 6, "time": "", "val/miou": 0.9})
    go(folder)
    assert [row["step"] for row in read_lines(folder.metrics)] == [2, 4, 6, 8]
    assert read_lines(folder.metrics)[2]["val/miou"] != 0.9


def test_lines_without_any_checkpoint_are_dropped(folder: TrialFolder) -> None:
    folder.path.mkdir(parents=True)
    append_line(folder.metrics, {"step": 2, "time": "", "val/miou": 0.9})
    go(folder)
    assert [row["step"] for row in read_lines(folder.metrics)] == [2, 4, 6, 8]


def test_a_resumed_trial_says_when_and_where(folder: TrialFolder) -> None:
    with pytest.raises(Crash):
        go(folder, crash_at(4))
    first = read_json(folder.environment)
    record = go(folder)
    again = read_json(folder.environment)
    assert (first["restarts"], len(again["restarts"])) == ([], 1)
    assert record.started == first["time"] == again["time"]


def test_a_run_that_goes_on_needs_no_pretrained_weights_and_keeps_what_it_noted_of_them(
    folder: TrialFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(backbone: Tiny) -> str:
        raise ConfigError("no such file")

    monkeypatch.setattr(Tiny, "weights_digest", lambda backbone: "9b1f63c2a7d04e58")
    with pytest.raises(Crash):
        go(folder, crash_at(4))
    monkeypatch.setattr(Tiny, "weights_digest", gone)
    assert go(folder).state == "complete"
    assert read_json(folder.environment)["weights"] == "9b1f63c2a7d04e58"


def test_a_stop_that_a_crash_interrupted_is_asked_again(folder: TrialFolder) -> None:
    with pytest.raises(Crash):
        go(folder, crash_at(4))
    record = go(folder, lambda step, metrics: step == 4)
    assert (record.state, record.step) == ("stopped", 4)
    assert [row["step"] for row in read_lines(folder.metrics)] == [2, 4]


def test_a_stop_whose_file_outlived_its_run_is_heard_before_the_first_step(folder: TrialFolder) -> None:
    with pytest.raises(Crash):
        go(folder, crash_at(4))
    folder.stop.touch()
    record = go(folder)
    assert (record.state, record.step, record.objective) == ("stopped", 4, read_lines(folder.metrics)[-1]["val/miou"])


def test_an_interrupt_leaves_the_trial_to_be_gone_on_with(folder: TrialFolder) -> None:
    def interrupt(step: int, metrics: dict[str, float]) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(folder, interrupt)
    assert go(folder).state == "complete"


@pytest.mark.parametrize(
    ("error", "reason", "step"),
    [
        (TrialFailed("the loss is not finite", reason="diverged", step=2), "diverged", 2),
        (torch.OutOfMemoryError("CUDA out of memory"), "oom", 3),
        (RuntimeError("CUDA error: out of memory"), "oom", 3),
        (ConfigError("data.root: no such folder"), "request", 3),
        (OSError(5, "Input/output error"), "infrastructure", 3),
        (ValueError("a bug"), "bug", 3),
    ],
)
def test_what_a_run_raises_is_its_failure(
    folder: TrialFolder, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str, step: int
) -> None:
    monkeypatch.setattr(module, "train", failing(error))
    record = go(folder)
    assert record.failure is not None
    assert (record.state, record.objective) == ("failed", None)
    assert (record.failure["reason"], record.failure["step"]) == (reason, step)
    assert str(error) in record.failure["message"]
    assert type(error).__name__ in folder.traceback.read_text()


def test_a_run_that_diverges_keeps_what_it_reported(folder: TrialFolder) -> None:
    record = go(folder, **{"optim.lr": 1e30, "optim.schedule": "constant"})
    assert record.failure is not None
    assert (record.state, record.failure["reason"]) == ("failed", "diverged")


def test_an_objective_that_is_not_finite_is_a_diverged_run(
    folder: TrialFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(config: RunConfig, reporter: Any, checkpoints: Any, **where: Any) -> Any:
        reporter.evaluated(Report(2, {"val/miou": float("nan")}))

    monkeypatch.setattr(module, "train", train)
    record = go(folder)
    assert record.failure is not None
    assert (record.failure["reason"], record.failure["step"]) == ("diverged", 2)
    assert json.loads(folder.metrics.read_text())["val/miou"] is None


def test_an_objective_that_no_run_reports_is_a_wrong_request(folder: TrialFolder) -> None:
    record = run_trial(small_run(), folder, Objective(metric="train/gain"), device="cpu")
    assert record.failure is not None
    assert record.failure["reason"] == "request"
    assert "'train/gain'" in record.failure["message"] and "val/miou" in record.failure["message"]


def test_a_damaged_checkpoint_fails_the_trial_as_such(folder: TrialFolder) -> None:
    with pytest.raises(Crash):
        go(folder, crash_at(4))
    (folder.checkpoint / "last.pt").write_bytes(b"torn")
    record = go(folder)
    assert record.failure is not None
    assert record.failure["reason"] == "checkpoint"
    assert "last.pt" in record.failure["message"]


def test_a_run_that_began_with_other_data_fails_as_such_and_keeps_what_it_has_made(folder: TrialFolder) -> None:
    with pytest.raises(Crash):
        go(folder, crash_at(4))
    write_json(folder.environment, {**read_json(folder.environment), "data": "0123456789abcdef"})
    record = go(folder)
    assert record.failure is not None
    assert record.failure["reason"] == "data"
    assert "began (fingerprint 0123456789abcdef, now" in record.failure["message"]
    assert (record.data, (folder.checkpoint / "last.pt").exists()) == ("0123456789abcdef", True)


def test_data_may_change_before_the_first_checkpoint(folder: TrialFolder) -> None:
    with pytest.raises(Crash):
        go(folder, crash_at(2))
    (folder.checkpoint / "last.pt").unlink()
    noted = read_json(folder.environment)
    write_json(folder.environment, {**noted, "data": "0123456789abcdef"})
    assert (record := go(folder)).state == "complete"
    assert record.data == read_json(folder.environment)["data"] == noted["data"]


def test_a_folder_of_another_run_is_refused(folder: TrialFolder) -> None:
    go(folder)
    with pytest.raises(ConfigError, match="holds another run"):
        go(folder, seed=1)


def test_a_failed_trial_is_not_run_again(folder: TrialFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(module, "train", failing(ValueError("a bug")))
        failed = go(folder)
    assert go(folder) == failed


def test_a_node_that_was_taken_away_is_preempted() -> None:
    error = RuntimeError("the node is gone")
    error.preempted = True  # type: ignore[attr-defined]
    assert classify(error).reason == "preempted"


def test_half_written_checkpoints_do_not_stay(folder: TrialFolder) -> None:
    with pytest.raises(Crash):
        go(folder, crash_at(4))
    (folder.checkpoint / "last.123.part").write_bytes(b"half")
    go(folder)
    assert sorted(path.name for path in folder.checkpoint.iterdir()) == ["best.pt", "last.pt"]


def test_the_trial_of_a_study_keeps_its_name(folder: TrialFolder) -> None:
    config = small_run(LONG)
    module.hand_out(
        folder, config, number=4, role="reference", label="supervised", params={"method.name": "supervised"}
    )
    record = go(folder)
    assert (record.number, record.role, record.label, record.seed) == (4, "reference", "supervised", 0)


def test_the_mlflow_run_of_a_trial_is_in_its_record(folder: TrialFolder) -> None:
    go(folder)
    write_json(folder.mlflow, {"run_id": "abc", "cursor": 2})
    assert go(folder).mlflow_run_id == "abc"
