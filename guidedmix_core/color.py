"""Color and blur, in batch, with a strength of its own for each image. The formulas of strong views are torchvision's,
those of weak ones mmseg's.

Decisions (which images, how strong) are drawn on the CPU; only numbers reach the device, so nothing waits for it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from guidedmix_core.config import Augment
from guidedmix_core.transfer import sent

DRAWS = 8
"""Uniform numbers that make a strong view: jitter?, brightness, contrast, saturation, hue, gray?, blur?, sigma."""
WEAK_DRAWS = 9
"""And a weak one: brightness?, contrast?, saturation?, hue?, how much of each, contrast first?."""
LUMA = (0.2989, 0.587, 0.114)
BLUR_RADIUS = 6
"""Three times the largest sigma."""


def strong_view(
    image: Float[Tensor, "N C H W"], draws: Float[Tensor, "N 8"], augment: Augment
) -> Float[Tensor, "N C H W"]:
    """Color jitter, gray and blur, each on the images whose draw says so."""
    if augment.color:
        jittered = draws[:, 0] < augment.color_probability
        image = where_chosen(jittered, image, lambda chosen: jitter(chosen, draws[jittered, 1:5], augment.color))
    image = where_chosen(draws[:, 5] < augment.gray, image, lambda chosen: gray(chosen).expand_as(chosen))
    blurred = draws[:, 6] < augment.blur
    return where_chosen(blurred, image, lambda chosen: blur(chosen, 0.1 + 1.9 * draws[blurred, 7]))


def jitter(image: Float[Tensor, "N C H W"], draws: Float[Tensor, "N 4"], strength: float) -> Float[Tensor, "N C H W"]:
    """Brightness, contrast, saturation, hue, in this order.

    Factors lie in 1 +- strength; the hue turns by up to strength / 2 of the circle, and never more than half of it.
    """
    lowest = max(0.0, 1 - strength)
    factors = lowest + (1 + strength - lowest) * draws[:, :3]
    turns = min(strength / 2, 0.5) * (2 * draws[:, 3:] - 1)
    brightness, contrast, saturation, turn = (
        column[:, None, None, None] for column in sent(torch.cat([factors, turns], 1), image.device).unbind(1)
    )
    image = (image * brightness).clamp_(0, 1)
    mean = gray(image).mean((1, 2, 3), keepdim=True)
    image = torch.lerp(mean, image, contrast).clamp_(0, 1)
    image = torch.lerp(gray(image), image, saturation).clamp_(0, 1)
    return hue_turned(image, turn)


def distortion(
    image: Float[Tensor, "N C H W"], draws: Float[Tensor, "N 9"], strength: float
) -> Float[Tensor, "N C H W"]:
    """At strength 0.5 mmseg's PhotoMetricDistortion, without its rounding to bytes: four operations, each with
    probability 1/2, and the contrast before or after saturation and hue.

    The brightness is shifted by up to 32/255, contrast and saturation are multiplied by up to 1 +- 0.5, the hue turns
    by up to 36 degrees; another strength stretches all of these in proportion.
    """
    amount = torch.where(draws[:, :4] < 0.5, strength * (2 * draws[:, 4:8] - 1), 0.0)
    contrast, is_first = 1 + amount[:, 1], draws[:, 8] < 0.5
    columns = (
        amount[:, 0] * 64 / 255,
        contrast.where(is_first, 1.0),
        1 + amount[:, 2],
        amount[:, 3] / 5,
        contrast.where(~is_first, 1.0),
    )
    shift, before, saturation, turn, after = (
        column[:, None, None, None] for column in sent(torch.stack(columns, 1), image.device).unbind(1)
    )
    image = (image + shift).clamp_(0, 1).mul_(before).clamp_(0, 1)
    return hue_turned(_saturated(image, saturation), turn).mul_(after).clamp_(0, 1)


def blur(image: Float[Tensor, "N C H W"], sigma: Float[Tensor, " N"]) -> Float[Tensor, "N C H W"]:
    """Gaussian, mirrored at the border."""
    radius = min(BLUR_RADIUS, image.shape[-2] - 1, image.shape[-1] - 1)
    weights = torch.exp(-0.5 * (torch.arange(radius + 1) / sigma.unsqueeze(1)) ** 2)
    weights = sent(weights / (2 * weights.sum(1, keepdim=True) - weights[:, :1]), image.device)
    image = F.pad(image, (radius,) * 4, mode="reflect")
    for axis in (2, 3):
        length = image.shape[axis] - 2 * radius
        blurred = image.narrow(axis, radius, length) * weights[:, 0, None, None, None]
        for k in range(1, radius + 1):  # the kernel is symmetric: both neighbors at once
            pair = image.narrow(axis, radius - k, length) + image.narrow(axis, radius + k, length)
            blurred.addcmul_(pair, weights[:, k, None, None, None])
        image = blurred
    return image


def gray(image: Float[Tensor, "N C H W"]) -> Float[Tensor, "N 1 H W"]:
    red, green, blue = image.split(1, 1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def hue_turned(image: Float[Tensor, "N C H W"], turn: Float[Tensor, "N 1 1 1"]) -> Float[Tensor, "N C H W"]:
    """To HSV, hue + turn, and back, in one piece.

    A channel is value - chroma * clamp(2 - |6 f - 2|, 0, 1), where f in [0, 1) is the way around the circle
    from the channel to the hue.
    """
    red, green, blue = image.split(1, 1)
    value = image.amax(1, keepdim=True)
    chroma = value - image.amin(1, keepdim=True)
    of_green, of_blue = (blue - red).add_(chroma, alpha=2), (red - green).add_(chroma, alpha=4)
    sixths = torch.where(value == red, green - blue, torch.where(value == green, of_green, of_blue))
    hue = sixths.div_(6 * chroma.clamp(min=1e-12))  # 0 where there is no color
    channel = (
        17 / 6 - torch.arange(3, device=image.device)[:, None, None] / 3
    )  # 5/6, 3/6, 1/6, and two turns more: positive
    way = (hue.add_(turn) + channel).frac_().sub_(1 / 3).abs_().clamp_(1 / 6, 1 / 3)
    return torch.addcmul(value.sub_(chroma, alpha=2), chroma.mul_(6), way).clamp_(0, 1)


def where_chosen(
    chosen: Bool[Tensor, " N"], image: Float[Tensor, "N C H W"], change: Callable[[Tensor], Tensor]
) -> Float[Tensor, "N C H W"]:
    """The images with the chosen ones changed. `chosen` lies on the CPU."""
    index = sent(chosen.nonzero().flatten(), image.device)
    if not len(index):
        return image
    return image.index_copy(0, index, change(image.index_select(0, index)))


def _saturated(image: Float[Tensor, "N C H W"], factor: Float[Tensor, "N 1 1 1"]) -> Float[Tensor, "N C H W"]:
    """The saturation of HSV times the factor, at most 1: all channels go away from the greatest one, or to it."""
    value = image.amax(1, keepdim=True)
    chroma = value - image.amin(1, keepdim=True)
    return torch.lerp(value, image, torch.minimum(factor, value / chroma.clamp(min=1e-12)))
