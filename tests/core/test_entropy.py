"""Entropy and its quantiles, as numpy has them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from guidedmix_core.entropy import entropy, quantile
from guidedmix_core.rng import generator


def test_the_entropy_of_a_uniform_and_of_a_certain_prediction() -> None:
    probability = torch.zeros(1, 4, 1, 2)
    probability[..., 0] = 0.25
    probability[:, 2, :, 1] = 1
    assert_close(entropy(probability).flatten(), torch.tensor([math.log(4), 0.0]))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.37, 0.8, 1.0])
def test_a_quantile_of_the_valid_pixels_is_numpys(share: float) -> None:
    values = torch.rand(2, 13, 17, generator=generator("test"))
    valid = torch.rand(2, 13, 17, generator=generator("valid")) < 0.7
    expected = np.percentile(values[valid].numpy(), 100 * share)
    assert float(quantile(values, valid, share)) == pytest.approx(expected, abs=1e-6)


def test_without_a_valid_pixel_a_quantile_is_finite() -> None:
    assert quantile(torch.rand(1, 2, 3), torch.zeros(1, 2, 3, dtype=torch.bool), 0.5).isfinite()
