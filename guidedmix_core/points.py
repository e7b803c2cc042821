"""A few pixels of a crop, one in each cell of a grid, and what a smaller map says there.

`g G` are the rows and columns of the grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from guidedmix_core.transfer import sent


@dataclass(frozen=True)
class Points:
    """Pixels at the same places in all images of this size."""

    row: Int[Tensor, "g G"]
    column: Int[Tensor, "g G"]
    size: tuple[int, int]

    def of(self, pixels: Shaped[Tensor, "N H W"]) -> Shaped[Tensor, "N g G"]:
        return pixels[:, self.row, self.column]

    def read(self, feature: Float[Tensor, "N D h w"], *, align_corners: bool) -> Float[Tensor, "N D g G"]:
        """What `segmentors.resize` of the map to the size has at the points, in fp32, without making the large map.

        Four gathers: the backward pass of `F.grid_sample` has no deterministic kernel, and it would need all in fp32.
        """
        height, width = feature.shape[-2:]
        top, bottom, down = _neighbors(self.row, self.size[0], height, align_corners)
        left, right, across = _neighbors(self.column, self.size[1], width, align_corners)
        flat = feature.flatten(2)

        def at(row: Tensor, column: Tensor) -> Tensor:
            place = (row * width + column).flatten()
            return flat.index_select(2, place).unflatten(2, self.row.shape).float()

        above = at(top, left) * (1 - across) + at(top, right) * across
        below = at(bottom, left) * (1 - across) + at(bottom, right) * across
        return above * (1 - down) + below * down


def draw_points(
    generator: torch.Generator, size: tuple[int, int], grid: int, device: torch.device | str = "cpu"
) -> Points:
    """One random pixel in each of grid x grid cells, which share out the crop; of a smaller crop, every row or column.

    PCR's cells are squares of equal size, so that the last rows and columns are never drawn; ours leave none out.
    """
    shape = (min(grid, size[0]), min(grid, size[1]))
    draw = torch.rand(2, *shape, generator=generator)
    row = _inside_cells(draw[0], size[0], dim=0)
    column = _inside_cells(draw[1], size[1], dim=1)
    return Points(*sent(torch.stack([row, column]), torch.device(device)).unbind(0), size)


def _inside_cells(draw: Float[Tensor, "g G"], length: int, dim: int) -> Int[Tensor, "g G"]:
    """A pixel of each interval along one dimension."""
    cells = draw.shape[dim]
    edge = torch.arange(cells + 1) * length // cells
    start, extent = edge[:-1], edge.diff()
    shape = [cells, 1] if dim == 0 else [1, cells]
    return start.view(shape) + (draw * extent.view(shape)).long()


def _neighbors(
    pixel: Int[Tensor, "g G"], length: int, small: int, align_corners: bool
) -> tuple[Int[Tensor, "g G"], Int[Tensor, "g G"], Float[Tensor, "g G"]]:
    """The two places of the smaller map between which the pixel's center lies, and the share of the second."""
    if align_corners:
        place = pixel * ((small - 1) / max(length - 1, 1))
    else:
        place = ((pixel + 0.5) * (small / length) - 0.5).clamp(0, small - 1)
    first = place.floor().long()
    return first, (first + 1).clamp(max=small - 1), place - first
