"""Losses of pixels against formulas written another way."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from guidedmix_core.losses import (
    average,
    cross_entropy,
    kl_divergence,
    mean_squared_error,
    sigmoid_focal,
    soft_cross_entropy,
)
from guidedmix_core.rng import generator


def logits(key: str = "logits", scale: float = 3.0) -> Tensor:
    return scale * torch.randn(2, 5, 6, 7, generator=generator("test", key))


def label() -> Tensor:
    return torch.randint(0, 5, (2, 6, 7), generator=generator("test", "label"))


def with_ignored() -> Tensor:
    return label().masked_fill(torch.rand(2, 6, 7, generator=generator("test", "hole")) < 0.4, 255)


def test_cross_entropy_of_valid_pixels_is_torchs() -> None:
    assert_close(cross_entropy(logits(), with_ignored()), F.cross_entropy(logits(), with_ignored(), ignore_index=255))


def test_cross_entropy_of_all_pixels_divides_by_all() -> None:
    mask = with_ignored()
    total = F.cross_entropy(logits(), mask, ignore_index=255, reduction="sum")
    assert_close(cross_entropy(logits(), mask, normalize="all"), total / mask.numel())


def test_a_weight_scales_the_sum_and_not_the_divisor() -> None:
    weight = torch.full((2, 6, 7), 0.25)
    assert_close(cross_entropy(logits(), label(), weight=weight), 0.25 * cross_entropy(logits(), label()))


@pytest.mark.parametrize("normalize", ["valid", "all"])
def test_without_a_valid_pixel_the_loss_is_0_and_connected(normalize: str) -> None:
    z = logits().requires_grad_()
    loss = cross_entropy(z, torch.full((2, 6, 7), 255), normalize=normalize)
    loss.backward()
    assert loss == 0
    assert z.grad is not None
    assert z.grad.eq(0).all()


def test_valid_and_all_differ_by_the_share_of_valid_pixels() -> None:
    loss, valid = torch.rand(2, 6, 7, generator=generator("test")), with_ignored() != 255
    assert_close(average(loss, valid, normalize="all"), average(loss, valid) * valid.float().mean())


def test_an_invalid_pixel_counts_nothing_even_if_its_loss_is_not_finite() -> None:
    loss = torch.tensor([[[1.0, torch.nan]]])
    assert_close(average(loss, torch.tensor([[[True, False]]])), torch.tensor(1.0))


def test_soft_cross_entropy_with_certain_targets_is_the_hard_one() -> None:
    target = F.one_hot(label(), 5).permute(0, 3, 1, 2).float()
    assert_close(soft_cross_entropy(logits(), target), F.cross_entropy(logits(), label(), reduction="none"))


def test_kl_is_0_at_the_target_and_torchs_elsewhere() -> None:
    target = logits("target").softmax(1)
    assert_close(kl_divergence(logits("target"), target), torch.zeros(2, 6, 7), atol=1e-6, rtol=0)
    expected = F.kl_div(logits().log_softmax(1), target, reduction="none").sum(1)
    assert_close(kl_divergence(logits(), target), expected)


def test_kl_with_a_certain_target_is_finite() -> None:
    target = F.one_hot(label(), 5).permute(0, 3, 1, 2).float()
    assert_close(kl_divergence(logits(), target), soft_cross_entropy(logits(), target))


def test_squared_error_is_a_mean_over_classes() -> None:
    target = logits("target").softmax(1)
    assert_close(mean_squared_error(logits(), target).mean(), F.mse_loss(logits().softmax(1), target))


def focal_as_written(z: Tensor, t: Tensor, alpha: float, gamma: float) -> Tensor:
    """The formula of mmcv's kernel, class by class."""
    p = z.double().sigmoid()
    is_class = F.one_hot(t, z.shape[1]).permute(0, 3, 1, 2)
    positive = -alpha * (1 - p) ** gamma * p.log()
    negative = -(1 - alpha) * p**gamma * (1 - p).log()
    return (is_class * positive + (1 - is_class) * negative).mean()


@pytest.mark.parametrize(("alpha", "gamma"), [(0.5, 0.5), (0.25, 2.0)])
def test_focal_is_the_formula(alpha: float, gamma: float) -> None:
    ours = sigmoid_focal(logits(), label(), alpha=alpha, gamma=gamma).mean()
    assert_close(ours.double(), focal_as_written(logits(), label(), alpha, gamma), atol=1e-6, rtol=1e-5)


def test_focal_at_zero_logits_is_known_by_hand() -> None:
    loss = 10 * sigmoid_focal(torch.zeros(2, 5, 6, 7), label()).mean()
    assert_close(loss.item(), 10 * 0.5 * math.sqrt(0.5) * math.log(2), atol=1e-6, rtol=0)
    assert_close(loss.item(), 2.4506, atol=1e-4, rtol=0)


def test_focal_has_finite_gradients_at_extreme_logits() -> None:
    z = torch.tensor([-200.0, -20.0, 0.0, 20.0, 200.0]).view(1, 5, 1, 1).requires_grad_()
    for t in range(5):
        sigmoid_focal(z, torch.full((1, 1, 1), t)).sum().backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_focal_of_an_ignored_pixel_treats_no_class_as_present() -> None:
    ignored = torch.full((2, 6, 7), 255)
    p = logits().sigmoid()
    assert_close(sigmoid_focal(logits(), ignored), (-0.5 * p.sqrt() * (1 - p).log()).mean(1), atol=1e-5, rtol=1e-4)
