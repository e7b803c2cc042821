"""Losses of pixels, and what they are divided by. All are computed in fp32."""

from __future__ import annotations

from typing import Literal

import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from guidedmix_core.batch import IGNORE

Normalize = Literal["valid", "all"]


def cross_entropy(
    logits: Float[Tensor, "N K H W"], mask: Int[Tensor, "N H W"], *, normalize: Normalize = "valid", weight: Float[Tensor, "N H W"] | None = None
) -> Float[Tensor, ""]:
    """Cross entropy summed over the pixels that have a class, divided by their number (`valid`) or by that of all pixels.

    `weight` scales each pixel's share in the sum, never the divisor. Without any valid pixel the loss is 0 and connected.
    """
    loss = F.cross_entropy(logits.float(), mask, ignore_index=IGNORE, reduction="none")
    total = (loss if weight is None else loss * weight).sum()
    return total / loss.numel() if normalize == "all" else total / count_over_workers((mask != IGNORE).sum())


def count_over_workers(count: Int[Tensor, ""]) -> Float[Tensor, ""]:
    """The mean of a count over the workers, at least 1. Dividing by it makes the average of the workers' gradients that of the whole batch."""
    count = count.float()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(count)
        count = count / dist.get_world_size()
    return count.clamp(min=1.0)
