"""`guidedmix train`, as it is typed, and the device that each verb takes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from orchestrator import trial as trial_module
from tests.orchestrator.test_trial import failing
from tests.runs import SMALL

TRAIN = 'guidedmix train small.yaml --study studies/one --device cpu --mlflow ""'
VERBS = (
    "train small.yaml",
    "tune search/demo",
    "ablate ablation/demo",
    "plan ablation/demo",
    "submit tune search/demo local --dry-run",
    "evaluate best.pt",
    "predict best.pt image.png -o masks",
)


@pytest.fixture
def call(call):
    """Where the run is."""
    Path("small.yaml").write_text(yaml.safe_dump(SMALL))
    return call


def test_a_finished_run_shows_its_result_again(call, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(TRAIN) == 0
    first = [line for line in capfd.readouterr().out.splitlines() if line.startswith("result")]
    assert call(TRAIN) == 0
    again = capfd.readouterr().out
    assert [line for line in again.splitlines() if line.startswith("result")] == first
    assert first[0].split()[1] == "mIoU"
    assert "guidedmix ui" not in again


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")  # MLflow's own
def test_a_run_that_mlflow_has_can_be_looked_at_there(
    call, database: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Path("studies/one").mkdir(parents=True)
    shutil.copyfile(database, "studies/one/mlflow.db")
    assert call(TRAIN.removesuffix(' --mlflow ""')) == 0
    assert "guidedmix ui studies/one" in capfd.readouterr().out


def test_a_run_that_failed_is_made_again_on_request_and_what_it_left_is_kept(
    call, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(trial_module, "train", failing(ValueError("a bug")))
        assert call(TRAIN) == 1
    assert call(TRAIN) == 1
    said = capfd.readouterr().err
    assert said.count("failed (bug): ValueError: a bug") == 2
    assert "--retry-failed makes it again" in said
    assert call(f"{TRAIN} --retry-failed") == 0
    assert [path.parent.name for path in Path("studies/one").glob("trials/*/attempts/*/result.json")] == ["1"]
    assert not Path("studies/one/journal.jsonl").exists()


@pytest.mark.parametrize("verb", VERBS)
def test_a_device_that_there_is_not_is_refused_before_anything_is_made(
    call, verb: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call(f"guidedmix {verb} --device gpu") == 2
    assert capfd.readouterr().err == "--device gpu: expected auto, cpu, cuda, which is a GPU, or cuda:N\n"
    assert not Path("studies").exists()


def test_a_gpu_that_this_machine_has_not_is_refused_where_the_verb_itself_computes(
    call, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert call(TRAIN.replace("cpu", "cuda:1")) == 2
    assert "--device cuda:1: torch sees 1 GPUs here" in capfd.readouterr().err
    assert not Path("studies").exists()
