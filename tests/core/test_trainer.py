"""The loop: when it evaluates, how it stops, fails and goes on."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from guidedmix_core.building import build_networks, sees_batches, synchronized
from guidedmix_core.checkpoint import Checkpoints, read_checkpoint
from guidedmix_core.errors import ConfigError, Preempted, TrialFailed
from guidedmix_core.metrics import mean_iou
from guidedmix_core.reports import Report
from guidedmix_core.rng import generator
from guidedmix_core.trainer import train
from tests.listening import Listening
from tests.runs import small_run

LONG = small_run({"train.steps": 8})


def test_the_last_step_is_always_evaluated(tmp_path: Path) -> None:
    listening = Listening()
    train(small_run({"train.steps": 5}), listening, Checkpoints(tmp_path), device="cpu")
    assert [report.step for report in listening.reports] == [2, 4, 5]


def test_a_stop_is_obeyed_at_its_report_and_said_in_the_result(tmp_path: Path) -> None:
    result = train(small_run(), Listening(stop_at=2), Checkpoints(tmp_path), device="cpu")
    assert (result.step, result.stopped) == (2, True)


class Stopped(Listening):
    """Of a run that was asked to stop, and died before it heard so."""

    def stops(self) -> bool:
        return True


def test_a_stop_that_nobody_heard_is_obeyed_at_the_report_that_the_run_goes_on_from(tmp_path: Path) -> None:
    with pytest.raises(Preempted):
        train(LONG, Listening(leave_at=2), Checkpoints(tmp_path), device="cpu")
    asked = Stopped()
    result = train(LONG, asked, Checkpoints(tmp_path), device="cpu")
    assert (result.step, result.stopped, asked.losses, asked.reports) == (2, True, [], [])


def test_between_two_reports_a_stop_waits_for_the_next_one(tmp_path: Path) -> None:
    with pytest.raises(Preempted):
        train(LONG, Listening(leave_at=3), Checkpoints(tmp_path), device="cpu")
    asked = Stopped(stop_at=0)
    result = train(LONG, asked, Checkpoints(tmp_path), device="cpu")
    assert (result.step, result.stopped, [report.step for report in asked.reports]) == (4, True, [4])


def test_a_stop_at_the_last_step_is_an_ordinary_end(tmp_path: Path) -> None:
    result = train(small_run(), Listening(stop_at=4), Checkpoints(tmp_path), device="cpu")
    assert (result.step, result.stopped) == (4, False)


def test_a_finished_run_trains_no_step_and_gives_its_result_again(tmp_path: Path) -> None:
    first = train(small_run(), Listening(), Checkpoints(tmp_path), device="cpu")
    again = Listening()
    second = train(small_run(), again, Checkpoints(tmp_path), device="cpu")
    assert again.losses == []
    assert second.metrics["val/miou"] == first.metrics["val/miou"]
    assert (second.counts == first.counts).all()


def test_the_reported_miou_is_that_of_the_counts(tmp_path: Path) -> None:
    result = train(small_run(), Listening(), Checkpoints(tmp_path), device="cpu")
    assert result.metrics["val/miou"] == mean_iou(result.counts)


def test_a_loss_that_is_not_finite_fails_the_run_as_diverged_and_names_the_step(tmp_path: Path) -> None:
    with pytest.raises(TrialFailed, match="not finite from step") as caught:
        train(small_run({"optim.lr": 1e30, "optim.optimizer": "sgd"}), Listening(), Checkpoints(tmp_path), device="cpu")
    assert caught.value.reason == "diverged"
    assert caught.value.step is not None


def test_the_best_checkpoint_is_that_of_the_best_report(tmp_path: Path) -> None:
    listening = Listening()
    result = train(small_run({"train.steps": 8}), listening, Checkpoints(tmp_path), device="cpu")
    best = max(listening.reports, key=lambda report: report.metrics["val/miou"])
    assert result.best.step == best.step == read_checkpoint(tmp_path / "best.pt")["step"]


def test_a_checkpoint_of_another_configuration_is_refused_with_the_difference(tmp_path: Path) -> None:
    train(small_run(), Listening(), Checkpoints(tmp_path), device="cpu")
    with pytest.raises(ConfigError, match=r"another configuration \(optim.lr=0.002, not 0.001\)"):
        train(small_run({"optim.lr": 0.001}), Listening(), Checkpoints(tmp_path), device="cpu")


def test_half_a_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    train(small_run(), Listening(), Checkpoints(tmp_path), device="cpu")
    last = tmp_path / "last.pt"
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    with pytest.raises(ConfigError, match=r"last.pt: is damaged"):
        train(small_run(), Listening(), Checkpoints(tmp_path), device="cpu")


def test_no_partial_file_stays_beside_the_checkpoints(tmp_path: Path) -> None:
    train(small_run(), Listening(), Checkpoints(tmp_path), device="cpu")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best.pt", "last.pt"]


def test_a_batch_that_the_workers_cannot_share_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train.batch_size=3: expected a multiple of train.accumulate=2"):
        small_run({"train.batch_size": 3, "train.accumulate": 2})


def test_deterministic_kernels_are_asked_for_only_while_the_run_lasts(tmp_path: Path) -> None:
    train(small_run(), Listening(), Checkpoints(tmp_path), device="cpu")
    assert not torch.are_deterministic_algorithms_enabled()


def test_micro_batches_give_the_weights_of_the_whole_batch(tmp_path: Path) -> None:
    """Without BatchNorm, and with a loss divided by all pixels, which every micro-batch has equally many of."""
    plain = {
        "segmentor.norm": "none",
        "segmentor.backbone.norm": "none",
        "segmentor.dropout": 0.0,
        "method.labeled.normalize": "all",
    }
    train(small_run({**plain, "optim.optimizer": "sgd"}), Listening(), Checkpoints(tmp_path / "whole"), device="cpu")
    train(
        small_run({**plain, "optim.optimizer": "sgd", "train.accumulate": 2}),
        Listening(),
        Checkpoints(tmp_path / "cut"),
        device="cpu",
    )
    whole, cut = (read_checkpoint(tmp_path / name / "last.pt")["nets"] for name in ("whole", "cut"))
    for name in whole:
        torch.testing.assert_close(whole[name], cut[name])


def test_a_clipped_step_is_no_longer_than_the_norm_allows(tmp_path: Path) -> None:
    plain = {"optim.optimizer": "sgd", "optim.lr": 1.0, "optim.momentum": 0.0, "optim.weight_decay": 0.0}
    plain |= {"optim.schedule": "constant", "train.steps": 1, "evaluate.every": 1}
    train(small_run({**plain, "optim.clip_norm": 0.01}), Listening(), Checkpoints(tmp_path), device="cpu")
    start = dict(build_networks(small_run(plain), 7).named_parameters())
    end = read_checkpoint(tmp_path / "last.pt")["nets"]
    length = torch.stack([(end[name] - weight).detach().norm() for name, weight in start.items()]).norm()
    assert 0 < length < 0.0101


def untimed(listening: Listening) -> list[Report]:
    """The reports without what a clock measured."""
    return [
        Report(report.step, {name: value for name, value in report.metrics.items() if not name.startswith("time/")})
        for report in listening.reports
    ]


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_a_run_that_leaves_after_any_step_goes_on_as_if_it_had_stayed(tmp_path: Path, steps: int) -> None:
    config, whole = small_run({"train.steps": 7, "evaluate.every": 3}), Listening()
    train(config, whole, Checkpoints(tmp_path / "whole"), device="cpu")
    left, after = Listening(leave_at=steps), Listening()
    with pytest.raises(Preempted, match=f"left at step {steps} of 7"):
        train(config, left, Checkpoints(tmp_path / "left"), device="cpu")
    train(config, after, Checkpoints(tmp_path / "left"), device="cpu")
    assert left.losses + after.losses == whole.losses
    assert untimed(left) + untimed(after) == untimed(whole)


def test_a_run_does_not_leave_after_its_last_step(tmp_path: Path) -> None:
    assert train(small_run(), Listening(leave_at=4), Checkpoints(tmp_path), device="cpu").step == 4


def test_judging_is_heard_of_between_steps(tmp_path: Path) -> None:
    listening = Listening()
    train(small_run({"evaluate.batch_size": 1}), listening, Checkpoints(tmp_path), device="cpu")
    assert listening.beats >= 2 * 4 + 1  # two evaluations of four images, and a panel


@pytest.mark.parametrize(("norm", "sees"), [("batch", True), ("group", False)])
def test_only_batch_norm_sees_the_other_images(norm: str, sees: bool) -> None:
    config = small_run({"segmentor.norm": norm, "segmentor.backbone.norm": "group"})
    assert sees_batches(config) is sees


def test_batch_norm_over_workers_keeps_the_activations_within_it_and_the_names_of_its_weights() -> None:
    backbone = {"name": "timm", "model": "tf_efficientnet_lite0", "weights": "none"}
    nets = build_networks(small_run({"segmentor.backbone": backbone}), 7).eval()
    converted, image = synchronized(copy.deepcopy(nets)), torch.rand(1, 3, 64, 64, generator=generator("test"))
    kinds = {type(layer) for layer in converted.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)}
    assert all(issubclass(kind, nn.SyncBatchNorm) for kind in kinds)
    assert list(converted.state_dict()) == list(nets.state_dict())
    torch.testing.assert_close(converted.student(image), nets.student(image))
