"""What the workers of a run tell each other. A worker alone hears itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor


def sum_over_workers(values: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """The sum of what each worker has. No gradient leads through it."""
    if not _are_several():
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total


def average_over_workers(values: Sequence[Shaped[Tensor, "..."]]) -> None:
    """Every worker's values become the mean of what each has, in place; all in one message."""
    if not _are_several() or not values:
        return
    total = sum_over_workers(torch.cat([value.flatten() for value in values])) / dist.get_world_size()
    for value, mean in zip(values, total.split([value.numel() for value in values]), strict=True):
        value.copy_(mean.view_as(value))


def gather_from_workers(values: Shaped[Tensor, "N *shape"]) -> Shaped[Tensor, "M *shape"]:
    """The rows of all workers in the order of their ranks; each has equally many."""
    if not _are_several():
        return values
    gathered = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, values.contiguous())
    return torch.cat(gathered)


def take_from_first_worker(values: Shaped[Tensor, "*shape"]) -> None:
    """Every worker's values become those of the first one, in place."""
    if _are_several():
        dist.broadcast(values, 0)


def _are_several() -> bool:
    return dist.is_available() and dist.is_initialized()
