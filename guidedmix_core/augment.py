"""The geometry of a training crop: scale, place and mirror, as one resampling of image and mask.

A crop is separable: each of its rows comes from a place between two rows of the image, each column likewise. So it is
described by two axes, computed on the CPU; the resampling itself runs in batch on the device, and only the part of an
image that its crop needs goes there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from guidedmix_core.batch import IGNORE
from guidedmix_core.config import Augment
from guidedmix_core.transfer import sent

DRAWS = 4
"""Uniform numbers that make a crop: scale, place along the height, place along the width, flip."""
TRIES = 10
"""Of mmseg's RandomCrop with cat_max_ratio."""
SHARE_SAMPLES = 128
"""Rows and columns of a crop that are looked at, at most, to measure the share of a class."""


@dataclass(frozen=True)
class Axis:
    """Where the rows (or the columns) of N crops come from.

    `start` and `stop` bound what each crop needs of its image; the indices count from `start`.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]
    low: Int[Tensor, "N L"]
    high: Int[Tensor, "N L"]
    share: Float[Tensor, "N L"]
    """The weight of `high` beside `low`."""
    nearest: Int[Tensor, "N L"]
    inside: Bool[Tensor, "N L"]

    def to(self, device: torch.device) -> Axis:
        tensors = (self.low, self.high, self.share, self.nearest, self.inside)
        return Axis(self.start, self.stop, *(sent(tensor, device) for tensor in tensors))


@dataclass(frozen=True)
class Crops:
    """N crops of equal size. `fit` says that none leaves its image."""

    rows: Axis
    columns: Axis
    fit: bool

    def to(self, device: torch.device) -> Crops:
        return Crops(self.rows.to(device), self.columns.to(device), self.fit)

    @cached_property
    def inside(self) -> Bool[Tensor, "N H W"]:
        """Where a crop shows its image."""
        return self.rows.inside.unsqueeze(2) & self.columns.inside.unsqueeze(1)


def random_crops(sizes: Int[Tensor, "N 2"], draws: Float[Tensor, "N 4"], augment: Augment) -> Crops:
    """Of images of these heights and widths. An image smaller than the crop lies somewhere inside it."""
    smallest, largest = augment.scale
    scale = smallest + (largest - smallest) * draws[:, :1].double()
    resized = (sizes * scale).round().long().clamp(min=1)
    room = resized - torch.tensor(augment.crop)
    offset = (draws[:, 1:3].double() * (room.abs() + 1)).floor().long() * room.sign()
    return _crops(sizes, resized, offset, draws[:, 3] < augment.flip, augment.crop)


def center_crops(sizes: Int[Tensor, "N 2"], crop: tuple[int, int]) -> Crops:
    """From the middle of each image, at its own scale, not mirrored."""
    return _crops(sizes, sizes, (sizes - torch.tensor(crop)) // 2, torch.zeros(len(sizes), dtype=torch.bool), crop)


def first_balanced(mask: UInt8[np.ndarray, "H W"], draws: Float[Tensor, "T 4"], augment: Augment) -> int:
    """The first of several draws in whose crop no class fills more than the allowed share; or the last.

    The share is of the labeled pixels, as in mmseg.
    """
    sizes = torch.tensor([mask.shape]).expand(len(draws), 2)
    crops = random_crops(sizes, draws, augment)
    axes = [
        (axis, -(-length // SHARE_SAMPLES))
        for axis, length in zip((crops.rows, crops.columns), augment.crop, strict=True)
    ]
    for i in range(len(draws)):
        rows, columns = ((axis.nearest[i][axis.inside[i]][::step] + axis.start[i]).numpy() for axis, step in axes)
        counts = np.bincount(mask[np.ix_(rows, columns)].ravel(), minlength=256)[:IGNORE]
        if 0 < counts.max() <= augment.max_class_share * counts.sum():
            return i
    return len(draws) - 1


def resample_image(
    windows: UInt8[Tensor, "N h w C"], crops: Crops, padding: Float[Tensor, " C"]
) -> Float[Tensor, "N C H W"]:
    """Bilinear without antialiasing, in [0, 1]. At scale 1 every pixel keeps its exact value."""
    rows = _blended(windows.flatten(2), crops.rows).unflatten(2, windows.shape[2:])  # (N, H, w, C)
    both = _blended(rows.transpose(1, 2).flatten(2), crops.columns).unflatten(2, rows.shape[1::2])  # (N, W, H, C)
    image = both.permute(0, 3, 2, 1).contiguous().div_(255)
    return image if crops.fit else torch.where(crops.inside.unsqueeze(1), image, padding[:, None, None])


def resample_mask(windows: UInt8[Tensor, "N h w"], crops: Crops) -> Int[Tensor, "N H W"]:
    """The nearest pixel's id; 255 outside the image."""
    rows = _taken(windows, crops.rows.nearest)
    mask = _taken(rows.transpose(1, 2).contiguous(), crops.columns.nearest).transpose(1, 2).long()
    return mask.contiguous() if crops.fit else mask.masked_fill(~crops.inside, IGNORE)


def _crops(
    sizes: Int[Tensor, "N 2"],
    resized: Int[Tensor, "N 2"],
    offset: Int[Tensor, "N 2"],
    mirrored: Bool[Tensor, " N"],
    crop: tuple[int, int],
) -> Crops:
    rows = _axis(sizes[:, :1], resized[:, :1], offset[:, :1], torch.zeros_like(mirrored), crop[0])
    columns = _axis(sizes[:, 1:], resized[:, 1:], offset[:, 1:], mirrored, crop[1])
    return Crops(rows, columns, bool(rows.inside.all() and columns.inside.all()))


def _axis(
    size: Int[Tensor, "N 1"],
    resized: Int[Tensor, "N 1"],
    offset: Int[Tensor, "N 1"],
    mirrored: Bool[Tensor, " N"],
    length: int,
) -> Axis:
    place = torch.arange(length)
    place = torch.where(mirrored.unsqueeze(1), length - 1 - place, place) + offset  # in the resized image
    inside = (place >= 0) & (place < resized)
    source = ((place + 0.5) * (size.double() / resized) - 0.5).clamp(min=0).minimum(size - 1)
    low = source.floor().long()
    high = (low + 1).minimum(size - 1)
    nearest = ((2 * place + 1) * size).div(2 * resized, rounding_mode="floor").clamp(min=0).minimum(size - 1)
    start = low.amin(1, keepdim=True)
    stop = tuple((high.amax(1) + 1).tolist())
    return Axis(
        tuple(start[:, 0].tolist()), stop, low - start, high - start, (source - low).float(), nearest - start, inside
    )


def _blended(lines: Tensor, axis: Axis) -> Float[Tensor, "N L P"]:
    low, high = _taken(lines, axis.low), _taken(lines, axis.high)
    return low.float().lerp_(high.float(), axis.share.unsqueeze(2))  # both are copies of ours


def _taken(lines: Tensor, index: Int[Tensor, "N L"]) -> Tensor:
    """Line `index[n, l]` of each `lines[n]`: whole lines are copied, which is as fast as memory."""
    first = torch.arange(len(lines), device=lines.device).unsqueeze(1) * lines.shape[1]
    return lines.flatten(0, 1).index_select(0, (index + first).flatten()).unflatten(0, tuple(index.shape))
