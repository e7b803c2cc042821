"""What every method promises. The suite finds its subjects: a new file in `methods/` is tested without an edit here."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidedmix_core.batch import IGNORE, Batch, StepLosses
from guidedmix_core.building import build_networks
from guidedmix_core.cache import store
from guidedmix_core.checkpoint import Checkpoints, read_checkpoint
from guidedmix_core.components import names
from guidedmix_core.config import RunConfig
from guidedmix_core.loaders import RunData, open_data
from guidedmix_core.rng import At, ambient
from guidedmix_core.schema import build, dump
from guidedmix_core.sources import Tree
from guidedmix_core.trainer import train
from tests.listening import Listening
from tests.runs import small_run, subject

CPU = torch.device("cpu")

pytestmark = pytest.mark.parametrize("method", names("methods"))


def run_of(method: str, **changes: object) -> RunConfig:
    return small_run({**subject(method), **changes})


def data_of(config: RunConfig) -> RunData:
    """With stored pseudo masks, if the method asks for them: here every pixel is of class 1."""
    data = open_data(config)
    if config.method.stored_masks() is None:
        return data
    ones = np.ones((32, 32), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        return data.relabeled(store(Path(folder) / "masks", [(record.id, ones) for record in data.split.unlabeled]))


def one_step(config: RunConfig, step: int = 3, change: object = None) -> tuple[nn.Module, StepLosses]:
    """The losses of one step, late enough for ramps, and the networks they were computed with."""
    data = data_of(config)
    nets = build_networks(config, len(data.classes)).train()
    batch = data.training(config.method.views(), CPU).batch(step, 0)
    if callable(change):
        batch = change(batch)
    with ambient(config.seed, "dropout", step, 0):
        losses = config.method.losses(nets, batch, At(config.seed, step, config.train.steps))
    return nets, losses


@dataclass(frozen=True)
class Trained:
    losses: list[dict[str, float]]
    weights: dict[str, Tensor]
    generator_before: Tensor
    generator_after: Tensor


def trained(config: RunConfig, folder: Path, stop_at: int | None = None) -> Trained:
    listening, before = Listening(stop_at=stop_at), torch.random.get_rng_state()
    train(config, listening, Checkpoints(folder), device="cpu")
    weights = read_checkpoint(folder / "last.pt")["nets"]
    return Trained(listening.losses, weights, before, torch.random.get_rng_state())


@cache
def usual(method: str) -> Trained:
    """The run that others are compared with. It is made once."""
    with tempfile.TemporaryDirectory() as folder:
        return trained(run_of(method), Path(folder))


def assert_bitwise_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_equal_runs_have_equal_losses_and_weights(method: str, tmp_path: Path) -> None:
    again = trained(run_of(method), tmp_path)
    assert again.losses == usual(method).losses
    assert_bitwise_equal(again.weights, usual(method).weights)


def test_another_seed_is_another_run(method: str, tmp_path: Path) -> None:
    assert trained(run_of(method, seed=1), tmp_path).losses != usual(method).losses


def test_a_resumed_run_is_bitwise_the_unbroken_one(method: str, tmp_path: Path) -> None:
    before = trained(run_of(method), tmp_path, stop_at=2)
    after = trained(run_of(method), tmp_path)
    assert before.losses + after.losses == usual(method).losses
    assert_bitwise_equal(after.weights, usual(method).weights)


def test_maps_are_resized_by_the_convention_of_the_segmentor(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpolate, seen = F.interpolate, set()

    def watching(*args: object, **settings: object) -> Tensor:
        seen.add(settings.get("align_corners"))
        return interpolate(*args, **settings)

    monkeypatch.setattr(F, "interpolate", watching)
    trained(run_of(method, **{"segmentor.align_corners": True}), tmp_path)
    assert seen - {None} == {True}  # None: masks, by nearest neighbor


def test_the_global_generator_is_untouched(method: str) -> None:
    assert torch.equal(usual(method).generator_before, usual(method).generator_after)


def test_every_trained_weight_gets_a_gradient_and_no_other_does(method: str) -> None:
    config = run_of(method)
    nets, losses = one_step(config)
    losses.total().backward()
    trained = {
        id(p)
        for player in config.method.players(nets, config.optim).values()
        for g in player.param_groups
        for p in g["params"]
    }
    without = [name for name, p in nets.named_parameters() if id(p) in trained and p.grad is None]
    unasked = [name for name, p in nets.named_parameters() if id(p) not in trained and p.grad is not None]
    assert (without, unasked) == ([], [])


def test_losses_are_finite_without_a_labeled_pixel(method: str) -> None:
    def without_labels(batch: Batch) -> Batch:
        return Batch(batch.image, torch.full_like(batch.mask, IGNORE), batch.unlabeled, batch.partner)

    _, losses = one_step(run_of(method), change=without_labels)
    assert losses.total().isfinite()


def test_losses_are_finite_when_one_class_fills_the_mask(method: str) -> None:
    def one_class(batch: Batch) -> Batch:
        return Batch(batch.image, torch.zeros_like(batch.mask), batch.unlabeled, batch.partner)

    _, losses = one_step(run_of(method), change=one_class)
    assert losses.total().isfinite()


def test_every_term_has_a_weight(method: str) -> None:
    _, losses = one_step(run_of(method))
    assert losses.terms.keys() == losses.weights.keys()
    assert all(weight > 0 for weight in losses.weights.values())


def test_a_run_in_bf16_stays_finite(method: str, tmp_path: Path) -> None:
    listening = Listening()
    train(run_of(method, **{"train.precision": "bf16"}), listening, Checkpoints(tmp_path), device="cpu")
    assert all(torch.tensor(list(losses.values())).isfinite().all() for losses in listening.losses)


def test_the_configuration_survives_the_round_trip(method: str) -> None:
    config = run_of(method)
    assert build(Tree(dump(config), {})) == config


def test_what_a_stage_hands_on_is_a_segmentor_as_configured(method: str) -> None:
    config = run_of(method)
    nets = build_networks(config, 6)
    plain = config.segmentor.build(6).state_dict()
    handed = config.method.result(nets).state_dict()
    assert {name: weight.shape for name, weight in handed.items()} == {name: w.shape for name, w in plain.items()}


def test_the_student_begins_with_what_a_stage_hands_on_or_fresh(method: str) -> None:
    config = run_of(method)
    handed = {name: torch.zeros_like(weight) for name, weight in config.segmentor.build(6).state_dict().items()}
    begun, fresh = (config.method.result(build_networks(config, 6, start=start)) for start in (handed, None))
    expected = fresh.state_dict() if config.method.stored_masks() else handed
    assert_bitwise_equal(begun.state_dict(), expected)


def test_the_predictor_gives_logits_of_every_class_at_the_size_of_the_image(method: str) -> None:
    config = run_of(method)
    nets = build_networks(config, 6).eval()
    with torch.no_grad():
        assert config.method.predictor(nets)(torch.rand(2, 3, 40, 33)).shape == (2, 6, 40, 33)
