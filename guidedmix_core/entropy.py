"""How unsure a prediction is, and where the least sure pixels begin."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from guidedmix_core.workers import gather_from_workers


def entropy(probability: Float[Tensor, "N K H W"]) -> Float[Tensor, "N H W"]:
    """Of each pixel, in nats."""
    return torch.special.entr(probability).sum(1)


def quantile(values: Float[Tensor, "N H W"], valid: Bool[Tensor, "N H W"], share: float) -> Float[Tensor, ""]:
    """The value below which this share of the valid pixels of all workers lies, interpolated as numpy does."""
    largest = torch.finfo(values.dtype).max
    ordered = gather_from_workers(values.where(valid, largest).flatten()).sort().values
    count = (ordered < largest).sum()
    place = share * (count - 1).clamp(min=0).double()
    below, above = ordered.gather(0, torch.stack([place.floor(), place.ceil()]).long())
    return below.lerp(above, place.frac().to(values.dtype))
