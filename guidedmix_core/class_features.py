"""Features of labeled pixels, some of each class."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from guidedmix_core.batch import Batch
from guidedmix_core.ema import in_mode
from guidedmix_core.points import Points
from guidedmix_core.segmentors import SegmentationNetwork


@torch.no_grad()
def class_features(
    network: SegmentationNetwork,
    tap: str,
    labeled: Iterator[Batch],
    num_classes: int,
    limit: int,
    generator: torch.Generator,
) -> list[Float[Tensor, "_ D"]]:
    """Of each class the features at up to `limit` of its pixels in all images, drawn uniformly, in evaluation mode."""
    drawn: list[tuple[Tensor, Tensor]] = []
    align = network.align_corners
    with in_mode(network, training=False):
        for batch in labeled:
            feature = network.run({"image": batch.image}, until=tap)[tap]
            tickets = torch.rand(batch.mask.shape, generator=generator).to(batch.mask.device)
            for i, mask in enumerate(batch.mask):
                new = [_of_image(feature[i : i + 1], mask == k, tickets[i], limit, align) for k in range(num_classes)]
                drawn = [_best(*pair, limit) for pair in zip(drawn, new, strict=True)] if drawn else new
    return [rows for _, rows in drawn]


def _of_image(
    feature: Float[Tensor, "1 D h w"],
    region: Bool[Tensor, "H W"],
    tickets: Float[Tensor, "H W"],
    limit: int,
    align_corners: bool,
) -> tuple[Float[Tensor, "P"], Float[Tensor, "P D"]]:
    """The greatest tickets of the region, and the features there."""
    row, column = region.nonzero(as_tuple=True)
    ticket, best = tickets[row, column].topk(min(limit, len(row)))
    points = Points(row[best].unsqueeze(0), column[best].unsqueeze(0), (region.shape[0], region.shape[1]))
    return ticket, points.read(feature, align_corners=align_corners)[0, :, 0].T


def _best(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], limit: int) -> tuple[Tensor, Tensor]:
    """Of both the greatest tickets, and their features."""
    tickets, rows = (torch.cat(both) for both in zip(one, other, strict=True))
    ticket, best = tickets.topk(min(limit, len(tickets)))
    return ticket, rows[best]
