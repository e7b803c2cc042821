"""Opponents in one backward pass, what they descend, and the discriminators."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from guidedmix_core.adversary import Opponent, deceive, judge, judged_right, tell_apart
from guidedmix_core.modules.discriminator import MaskDiscriminator, PatchDiscriminator
from guidedmix_core.rng import ambient, generator


def rand(*shape: int, key: str = "a") -> Tensor:
    return torch.rand(*shape, generator=generator("test", key))


def verdicts(*values: float) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1)


def mask_discriminator(**changes: object) -> MaskDiscriminator:
    with ambient("test", "discriminator"):
        settings = {"dropout": 0.0, "granularity": "image", "pool": "adaptive", "width": 4, **changes}
        return MaskDiscriminator(5, **settings)


def test_who_is_judged_gets_a_gradient_and_the_judge_none() -> None:
    discriminator, shown = mask_discriminator(), rand(2, 5, 64, 64).requires_grad_()
    deceive(judge(discriminator, shown)[0]).backward()
    assert shown.grad is not None
    assert shown.grad.abs().max() > 0
    assert all(weight.grad is None and weight.requires_grad for weight in discriminator.parameters())


def test_judge_says_what_the_discriminator_says() -> None:
    discriminator, shown = mask_discriminator(), rand(2, 5, 64, 64)
    assert_close(judge(discriminator, shown), discriminator(shown))


def test_one_backward_pass_serves_both_sides() -> None:
    discriminator, made = mask_discriminator(), rand(2, 5, 64, 64).requires_grad_()
    real = rand(3, 5, 64, 64, key="real")
    learned = tell_apart(discriminator(real)[0], discriminator(made.detach())[0])
    alone = torch.autograd.grad(learned, list(discriminator.parameters()), retain_graph=True)
    (learned + deceive(judge(discriminator, made)[0])).backward()
    assert_close([weight.grad for weight in discriminator.parameters()], list(alone))
    assert made.grad is not None


def test_the_cross_entropies_are_those_of_the_sigmoid() -> None:
    real, fake = verdicts(2.0, -1.0, 0.5), verdicts(0.3, -0.7)
    loss = nn.BCELoss()
    expected = (loss(real.sigmoid(), torch.ones_like(real)) + loss(fake.sigmoid(), torch.zeros_like(fake))) / 2
    assert_close(tell_apart(real, fake), expected)
    assert_close(deceive(fake), loss(fake.sigmoid(), torch.ones_like(fake)))


def test_the_square_and_the_hinge_are_the_formulas() -> None:
    real, fake = verdicts(2.0, 0.5), verdicts(0.25, -2.0)
    assert_close(tell_apart(real, fake, "lsgan"), torch.tensor(((1 + 0.25) / 2 + (0.0625 + 4) / 2) / 2))
    assert_close(deceive(fake, "lsgan"), torch.tensor((0.5625 + 9) / 2))
    assert_close(tell_apart(real, fake, "hinge"), torch.tensor((0.25 + 0.625) / 2))
    assert_close(deceive(fake, "hinge"), torch.tensor(0.875))


@pytest.mark.parametrize(("contest", "wanted"), [("bce", math.log(9)), ("lsgan", 0.9)])
def test_a_smoothed_label_is_what_a_real_verdict_is_drawn_to(contest: str, wanted: float) -> None:
    real, fake = verdicts(wanted).requires_grad_(), verdicts(0.3).requires_grad_()
    smoothed, plain = (tell_apart(real, fake, contest, label) for label in (0.9, 1.0))
    (at_target, of_fake), (_, of_plain_fake) = (torch.autograd.grad(loss, (real, fake)) for loss in (smoothed, plain))
    assert_close(at_target, torch.zeros_like(at_target))
    assert_close(of_fake, of_plain_fake)


@pytest.mark.parametrize(("contest", "low", "high"), [("bce", -1.0, 1.0), ("hinge", -1.0, 1.0), ("lsgan", 0.2, 0.8)])
def test_accuracy_counts_both_sides_alike(contest: str, low: float, high: float) -> None:
    assert judged_right(verdicts(high), verdicts(low, low, low), contest) == 1
    assert judged_right(verdicts(high), verdicts(high, high, low), contest) == pytest.approx(2 / 3)
    assert judged_right(verdicts(low), verdicts(high), contest) == 0


def test_no_schedule_scales_a_discriminator() -> None:
    optimizer = Opponent().optimizer(mask_discriminator())
    (group,) = optimizer.param_groups
    assert (group["lr"], group["betas"]) == (1e-4, (0.9, 0.99))
    assert "initial_lr" not in group


def test_a_mask_discriminator_takes_any_crop_of_16_pixels_or_more() -> None:
    for size in (16, 64, 100):
        verdict, feature = mask_discriminator()(rand(2, 5, size, size + 8))
        assert (verdict.shape, feature.shape) == ((2, 1, 1, 1), (2, 32, 1, 1))


def test_a_mask_discriminator_is_as_large_as_that_of_s4gan() -> None:
    """64 to 512 channels in four convolutions of 4x4 and a linear layer, for 21 classes and an image."""
    widths = (24, 64, 128, 256, 512)
    weights = sum(16 * a * b + b for a, b in pairwise(widths)) + 513
    discriminator = MaskDiscriminator(24, 0.5, "image", "released")
    assert sum(weight.numel() for weight in discriminator.parameters()) == weights
    assert sum(isinstance(layer, nn.Dropout2d) for layer in discriminator.modules()) == 3


@pytest.mark.parametrize("size", [320, 512])
def test_the_released_pool_is_one_window_of_20_by_20(size: int) -> None:
    discriminator, shown = mask_discriminator(pool="released"), rand(1, 5, size, size)
    feature = discriminator.convs(shown)
    pooled = F.avg_pool2d(feature, 20)
    assert_close(discriminator(shown)[1], pooled)
    assert_close(discriminator(shown)[0], discriminator.verdict(pooled))


def test_a_crop_of_319_pixels_is_too_small_for_the_released_pool() -> None:
    assert mask_discriminator().convs(rand(1, 5, 319, 320)).shape[-2:] == (19, 20)


def test_regions_are_judged_one_by_one() -> None:
    discriminator, shown = mask_discriminator(granularity="region"), rand(1, 5, 96, 128)
    verdict, feature = discriminator(shown)
    assert verdict.shape == (1, 1, 6, 8)
    assert_close(feature.mean(), discriminator.convs(shown).mean())
    changed = shown.clone()
    changed[..., :4, :4] = 0
    differs = discriminator(changed)[0] != verdict
    assert differs[..., 0, 0].all()
    assert not differs[..., 4:, 4:].any()


def test_a_patch_discriminator_halves_a_map_three_times() -> None:
    assert PatchDiscriminator(6, width=4)(rand(2, 6, 24, 32)).shape == (2, 1, 3, 4)
