"""AugSeg's operations give what torchvision's give, one image at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torchvision.transforms.v2 import functional as tv

from guidedmix_core import intensity

LEVEL = 1 / 255 + 1e-6
STRENGTHS = torch.tensor([0.0, 0.3, 0.62, 0.99])


@pytest.fixture
def images() -> Tensor:
    """Smooth ones, so that levels repeat, and one without contrast."""
    noise = torch.rand(4, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    images = torch.nn.functional.interpolate(noise, (20, 24), mode="bilinear")
    images[3] = 0.5
    return (images * 255).round() / 255


def as_bytes(image: Tensor) -> Tensor:
    return (image * 255).round().byte()


def bits(strength: float) -> int:
    return 8 - max(1, -int(-4 * strength // 1))


def threshold(strength: float) -> int:
    return 256 - max(1, -int(-255 * strength // 1))


EXPECTED = {
    "identity": lambda x, s: x,
    "autocontrast": lambda x, s: tv.autocontrast(x),
    "equalize": lambda x, s: tv.equalize(as_bytes(x)) / 255,
    "contrast": lambda x, s: tv.adjust_contrast(x, 0.05 + 0.9 * s),
    "brightness": lambda x, s: tv.adjust_brightness(x, 0.05 + 0.9 * s),
    "saturation": lambda x, s: tv.adjust_saturation(x, 0.05 + 0.9 * s),
    "sharpness": lambda x, s: tv.adjust_sharpness(x, 0.05 + 0.9 * s),
    "posterize": lambda x, s: tv.posterize(as_bytes(x), bits(s)) / 255,
    "solarize": lambda x, s: tv.solarize(as_bytes(x), threshold(s)) / 255,
    "hue": lambda x, s: tv.adjust_hue(x, s - 0.5),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_each_operation_is_torchvisions(name: str, images: Tensor) -> None:
    found = getattr(intensity, name)(images, STRENGTHS)
    expected = [EXPECTED[name](image, strength) for image, strength in zip(images, STRENGTHS.tolist(), strict=True)]
    assert_close(found, torch.stack(expected).float(), atol=LEVEL, rtol=0)


def test_every_operation_keeps_the_range(images: Tensor) -> None:
    for operation in intensity.OPERATIONS:
        found = operation(images, STRENGTHS)
        assert found.min() >= 0 and found.max() <= 1


def test_an_image_depends_on_its_own_draws_alone(images: Tensor) -> None:
    draws = torch.rand(4, intensity.draws_of(3), generator=torch.Generator().manual_seed(1))
    together = intensity.intensity_view(images, draws, 3)
    alone = [intensity.intensity_view(images[i : i + 1], draws[i : i + 1], 3) for i in range(4)]
    assert_close(together, torch.cat(alone))


def test_the_count_is_at_least_one_and_at_most_all(images: Tensor) -> None:
    solarize = (intensity.OPERATIONS.index(intensity.solarize) + 0.5) / 11
    draws = torch.tensor([[0.0, solarize, 0.9, solarize, 0.9], [0.99, solarize, 0.9, solarize, 0.9]])
    one, two = intensity.intensity_view(images[:1].expand(2, -1, -1, -1), draws, 2)
    once = intensity.solarize(images[:1], torch.tensor([0.9]))
    assert_close(one, once[0])
    assert_close(two, intensity.solarize(once, torch.tensor([0.9]))[0])
