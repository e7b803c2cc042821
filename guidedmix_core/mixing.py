"""Mixing two batches of images: by blending everywhere, or by pasting a region. Pure functions.

GuidedMix-Net blends a labeled with an unlabeled image (arXiv 2106.15064, 2112.14015).
CutMix: French et al., BMVC 2020, arXiv 1906.01916. ClassMix: Olsson et al., WACV 2021, arXiv 2007.07936.
SupMix: Mano et al., VISAPP 2025, arXiv 2604.07122.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import AfterValidator, Field
from torch import Tensor

from guidedmix_core.batch import IGNORE, Pseudo
from guidedmix_core.components import Config
from guidedmix_core.fields import Range
from guidedmix_core.segmentors import Maps
from guidedmix_core.transfer import sent


def _share(value: tuple[float, float]) -> tuple[float, float]:
    if value[1] > 1:
        raise ValueError(f"expected shares of at most 1, not {list(value)}")
    return value


class CutMix(Config):
    """The boxes that CutMix pastes.

    Area, range of aspects and probability are UniMatch's. There the aspect is drawn uniformly, and aspect and place are
    drawn anew until the box fits; here it is uniform in the logarithm, as often wide as tall, and reshaped to fit.
    """

    area: Annotated[Range, AfterValidator(_share)] = Field(
        (0.02, 0.4),
        description="of an image's boxes before they overlap, as a share of the image, drawn uniformly",
    )
    aspect: Range | Literal["fitting"] = Field(
        (0.3, 3.33),
        description="height by width, in units of the image's own, drawn uniformly in the logarithm; fitting: from as "
        "wide to as tall as a single box of its area can be (CutMix-Seg, CPS)",
    )
    num_boxes: int = Field(1, ge=1, description="that share the area; where two overlap nothing is pasted (XOR)")
    probability: float = Field(0.5, ge=0, le=1, description="that an image gets boxes at all")
    whole_batch: bool = Field(False, description="one draw decides whether all images of a batch get boxes (U2PL)")


def draw_lambda(generator: torch.Generator, cap: float) -> float:
    """The labeled image's share of a mixed one: uniform in [0, cap).

    The released code draws u ~ Beta(1, 1) and redraws min(u, 1 - u) until it is below the cap: the same distribution.
    """
    if not 0 < cap <= 0.5:
        raise ValueError(f"cap={cap}: expected a number in (0, 0.5]")
    return cap * torch.rand((), generator=generator, dtype=torch.float64).item()


def blend(a: Float[Tensor, "*shape"], b: Float[Tensor, "*shape"], lam: float) -> Float[Tensor, "*shape"]:
    """`lam` of `a` and the rest of `b`."""
    return lam * a + (1 - lam) * b


def blend_maps(maps_a: Maps, maps_b: Maps, lam: float) -> Maps:
    """Every map that a later stage reads, blended alike."""
    return {name: blend(maps_a[name], maps_b[name], lam) for name in maps_a}


def paste(
    source: Float[Tensor, "N C H W"], target: Float[Tensor, "N C H W"], region: Bool[Tensor, "N H W"]
) -> Float[Tensor, "N C H W"]:
    """`target` with `source` inside `region`."""
    return torch.where(region.unsqueeze(1), source, target)


def mix_pseudo(source: Pseudo, target: Pseudo, region: Bool[Tensor, "N H W"]) -> Pseudo:
    """`target` with all that `source` claims inside `region`: label, confidence, validity and probability together."""
    probability = None
    if source.probability is not None and target.probability is not None:
        probability = paste(source.probability, target.probability, region)
    return Pseudo(
        label=torch.where(region, source.label, target.label),
        confidence=torch.where(region, source.confidence, target.confidence),
        valid=torch.where(region, source.valid, target.valid),
        probability=probability,
    )


def partners(pseudo: Pseudo) -> Pseudo:
    """What is claimed of each image's partner, the next one of the batch."""
    probability = None if pseudo.probability is None else pseudo.probability.roll(-1, 0)
    return Pseudo(pseudo.label.roll(-1, 0), pseudo.confidence.roll(-1, 0), pseudo.valid.roll(-1, 0), probability)


def cutmix_boxes(
    generator: torch.Generator,
    n: int,
    size: tuple[int, int],
    box: CutMix,
    device: torch.device | str = "cpu",
) -> Bool[Tensor, "N H W"]:
    """One or more boxes inside each of `n` images, or none. A box that would leave the image is reshaped, keeping its
    area. Each box has its part of an area of its own draw, as in CutMix-Seg."""
    height, width = size
    draw = sent(torch.rand(n, box.num_boxes, 5, generator=generator), torch.device(device))
    area = box.area[0] + (box.area[1] - box.area[0]) * draw[..., 0]
    aspect = _log_aspect(box.aspect, area, draw[..., 1]).exp()
    area = area / box.num_boxes
    tall = torch.minimum((area * aspect).sqrt(), torch.ones_like(area)).maximum(area)
    tall, wide = (tall * height).round().clamp(min=1), (area / tall * width).round().clamp(min=1)
    rows = _inside(tall.flatten(), draw[..., 2].flatten(), height)
    columns = _inside(wide.flatten(), draw[..., 3].flatten(), width)
    boxes = (rows.unsqueeze(2) & columns.unsqueeze(1)).unflatten(0, (n, box.num_boxes))
    has_boxes = (draw[:1, 0, 4].expand(n) if box.whole_batch else draw[:, 0, 4]) < box.probability
    return reduce(torch.logical_xor, boxes.unbind(1)) & has_boxes.view(n, 1, 1)


def beta_boxes(
    generator: torch.Generator, n: int, size: tuple[int, int], shape: tuple[int, int], device: torch.device | str
) -> Bool[Tensor, "N H W"]:
    """A box for each of `n` images, as AugSeg draws it: 1 - Beta(a, b) of the image's area, the same for all, with the
    image's aspect; its center lies anywhere but in the first eighth, and what leaves the image is cut off.
    """
    a, b = shape
    kept = torch.rand(a + b - 1, generator=generator).sort().values[a - 1]  # the a-th smallest is Beta(a, b)
    centers = torch.rand(n, 2, generator=generator)
    sides = []
    for length, center in zip(size, centers.unbind(1), strict=True):
        half = (length * (1 - kept).sqrt()).long() // 2
        middle = (length // 8 + center * (length - length // 8)).long().unsqueeze(1)
        pixel = torch.arange(length)
        sides.append((pixel >= middle - half) & (pixel < middle + half))
    return sent(sides[0].unsqueeze(2) & sides[1].unsqueeze(1), torch.device(device))


def classmix_regions(generator: torch.Generator, label: Int[Tensor, "N H W"]) -> Bool[Tensor, "N H W"]:
    """In each image the pixels of half of its classes, rounded down as in ClassMix. Ignored pixels have no class."""
    pixels = label.flatten(1)
    present = torch.zeros(len(label), IGNORE + 1, device=label.device).scatter(1, pixels, 1.0)
    present[:, IGNORE] = 0
    draw = sent(torch.rand(len(label), IGNORE + 1, generator=generator), label.device)
    rank = torch.where(present > 0, draw, 2.0).argsort(1).argsort(1)
    chosen = rank < (present.sum(1, keepdim=True) // 2)
    return chosen.gather(1, pixels).view_as(label)


def supmix_regions(
    mask: Int[Tensor, "N H W"], pasted: Bool[Tensor, " K"], generator: torch.Generator | None
) -> Bool[Tensor, "N H W"]:
    """In each labeled image the pixels of the classes that are pasted; with a generator, of half of those it has."""
    chosen = torch.cat([pasted, pasted.new_zeros(IGNORE + 1 - len(pasted))])[mask]
    return chosen if generator is None else classmix_regions(generator, mask.where(chosen, IGNORE))


def _log_aspect(
    aspect: tuple[float, float] | Literal["fitting"], area: Float[Tensor, "N M"], draw: Float[Tensor, "N M"]
) -> Float[Tensor, "N M"]:
    if aspect == "fitting":
        return (1 - 2 * draw) * area.log()
    low, high = math.log(aspect[0]), math.log(aspect[1])
    return low + (high - low) * draw


def _inside(length: Float[Tensor, "N"], draw: Float[Tensor, "N"], size: int) -> Bool[Tensor, "N S"]:
    """The pixels of an interval that lies anywhere inside `size` pixels."""
    start = (draw * (size - length + 1)).floor().unsqueeze(1)
    pixel = torch.arange(size, device=length.device)
    return (pixel >= start) & (pixel < start + length.unsqueeze(1))
