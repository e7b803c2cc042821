"""AugSeg's random intensity augmentation: a random number of photometric operations, each with a random strength.

Zhao et al., CVPR 2023, arXiv 2212.04976. The eleven operations and their ranges are those of the released code, which
applies Pillow's; here they run in batch, with a strength of its own for each image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from guidedmix_core.color import blur, gray, hue_turned, where_chosen
from guidedmix_core.transfer import sent

Images = Float[Tensor, "N C H W"]
Strengths = Float[Tensor, " N"]
"""Uniform in [0, 1), on the CPU."""


def draws_of(operations: int) -> int:
    """How many uniform numbers make one view: the count, then an operation and a strength for each."""
    return 1 + 2 * operations


def intensity_view(image: Images, draws: Float[Tensor, "N P"], operations: int) -> Images:
    """Each image goes through 1 to `operations` of the eleven, drawn with replacement."""
    count = 1 + (draws[:, 0] * operations).long()
    for turn in range(operations):
        chosen = (draws[:, 1 + 2 * turn] * len(OPERATIONS)).long()
        for number, operation in enumerate(OPERATIONS):
            takes = (turn < count) & (chosen == number)
            strength = draws[takes, 2 + 2 * turn]
            image = where_chosen(takes, image, lambda some, op=operation, s=strength: op(some, s))
    return image


def identity(image: Images, strength: Strengths) -> Images:
    return image


def autocontrast(image: Images, strength: Strengths) -> Images:
    """Each channel is stretched to the whole range; one without contrast stays."""
    low, high = image.amin((2, 3), keepdim=True), image.amax((2, 3), keepdim=True)
    return torch.where(high > low, (image - low) / (high - low).clamp(min=1e-6), image)


def equalize(image: Images, strength: Strengths) -> Images:
    """The levels of each channel are spread so that each is as frequent as the others, by Pillow's rule."""
    levels = (image * 255).round().long().flatten(2)
    histogram = torch.zeros(*levels.shape[:2], 256, device=image.device).scatter_add(
        2, levels, torch.ones_like(levels, dtype=torch.float)
    )
    last = histogram.gather(2, levels.amax(2, keepdim=True))
    step = ((histogram.sum(2, keepdim=True) - last) / 255).floor()
    before = histogram.cumsum(2) - histogram
    table = ((before + (step / 2).floor()) / step.clamp(min=1)).floor().clamp(max=255)
    table = torch.where(step > 0, table, torch.arange(256, device=image.device))
    return (table.gather(2, levels) / 255).view_as(image)


def blurred(image: Images, strength: Strengths) -> Images:
    return blur(image, 0.1 + 1.9 * strength)


def contrast(image: Images, strength: Strengths) -> Images:
    return _blend(gray(image).mean((1, 2, 3), keepdim=True), image, strength)


def brightness(image: Images, strength: Strengths) -> Images:
    return _blend(torch.zeros_like(image), image, strength)


def saturation(image: Images, strength: Strengths) -> Images:
    return _blend(gray(image), image, strength)


def sharpness(image: Images, strength: Strengths) -> Images:
    """Towards Pillow's 3x3 smoothing, which leaves the border as it is."""
    channels = image.shape[1]
    kernel = torch.ones(channels, 1, 3, 3, device=image.device, dtype=image.dtype)
    kernel[:, :, 1, 1] = 5
    smooth = image.clone()
    smooth[..., 1:-1, 1:-1] = F.conv2d(image, kernel / 13, groups=channels)
    return _blend(smooth, image, strength)


def posterize(image: Images, strength: Strengths) -> Images:
    """The highest 4 to 7 bits are kept."""
    size = _column(2 ** (4 * strength).ceil().clamp(min=1), image)
    return ((image * 255).round() / size).floor() * size / 255


def solarize(image: Images, strength: Strengths) -> Images:
    """What is at least as bright as a threshold is inverted."""
    threshold = _column(256 - (255 * strength).ceil().clamp(min=1), image)
    return torch.where((image * 255).round() >= threshold, 1 - image, image)


def hue(image: Images, strength: Strengths) -> Images:
    """By up to half of the circle, either way."""
    return hue_turned(image, _column(strength - 0.5, image))


OPERATIONS: tuple[Callable[[Images, Strengths], Images], ...] = (
    identity,
    autocontrast,
    equalize,
    blurred,
    contrast,
    brightness,
    saturation,
    sharpness,
    posterize,
    solarize,
    hue,
)


def _blend(other: Tensor, image: Images, strength: Strengths) -> Images:
    """Between 5 and 95 per cent of the image."""
    return torch.lerp(other, image, _column(0.05 + 0.9 * strength, image)).clamp_(0, 1)


def _column(values: Strengths, image: Images) -> Float[Tensor, "N 1 1 1"]:
    return sent(values, image.device)[:, None, None, None]
