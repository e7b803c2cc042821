"""A probe measures a few steps of a run, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from guidedmix_core import ConfigError, Cost, names, probe, probing
from guidedmix_core.trainer import Run
from tests.runs import small_run


@pytest.mark.parametrize("method", names("methods"))
def test_every_method_can_be_measured(method: str) -> None:
    cost = probe(small_run({"method.name": method}), device="cpu")
    assert cost.step_seconds > 0
    assert cost.image_seconds > 0
    assert cost.num_images == 4
    assert cost.peak_bytes is None


def test_only_a_few_steps_are_made_and_stages_only_where_their_masks_are_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: list[str] = []
    step = Run.train_step

    def counted(run: Run) -> None:
        steps.append(run.config.method.name)
        step(run)

    monkeypatch.setattr(Run, "train_step", counted)
    warm: dict[str, Any] = {"stages": [{"method": "supervised", "steps": 50}], "train.steps": 500}
    probe(small_run({**warm, "method.name": "mean_teacher"}), device="cpu")
    assert steps == ["mean_teacher"] * (probing.WARM_UP + probing.MEASURED)
    steps.clear()
    probe(small_run({**warm, "method.name": "st_plus_plus"}), device="cpu")
    assert steps.count("supervised") == probing.STAGE_STEPS


def test_the_median_of_the_steps_after_the_warm_up_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten steps, then the evaluated images, then the telemetry."""
    times = iter([90.0, 80.0, 70.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 0.5])
    monkeypatch.setattr(probing, "_seconds", lambda call, place: next(times))
    cost = probe(small_run(), device="cpu")
    assert cost == Cost(4.0, 2.0, 4, 0.5, None, None)
    assert cost.evaluation_seconds == 4 * 2.0 + 0.5


def test_a_probe_is_as_good_as_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    probe(small_run(), device="cpu")
    assert list(tmp_path.iterdir()) == []
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.are_deterministic_algorithms_enabled() == before[1]


def test_absent_data_is_named() -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        probe(small_run({"data": {"name": "folder", "root": "nowhere", "class_names": ["a", "b"]}}), device="cpu")
