"""The last keys of each class, as buffers: they are saved, equal on all workers, and drawn from without waiting.

`S` is the number of places of a class, `n` that of keys at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from guidedmix_core.workers import gather_from_workers


class ClassMemory(nn.Module):
    """A ring of keys for each class, first in, first out."""

    keys: Tensor
    written: Tensor
    capacity: Tensor

    def __init__(self, capacity: Sequence[int], channels: int) -> None:
        super().__init__()
        self.smallest = min(capacity)
        self.register_buffer("keys", torch.zeros(len(capacity), max(capacity), channels))
        self.register_buffer("written", torch.zeros(len(capacity), dtype=torch.long))
        self.register_buffer("capacity", torch.tensor(capacity), persistent=False)

    @property
    def filled(self) -> Int[Tensor, "K"]:
        """How many keys each class has."""
        return self.written.minimum(self.capacity)

    @torch.no_grad()
    def store(self, keys: Float[Tensor, "K n D"], valid: Bool[Tensor, "K n"]) -> None:
        """The valid keys of all workers, in the order of their ranks. More than the smallest ring holds are cut off."""
        keys, valid = (gather_from_workers(values.transpose(0, 1)).transpose(0, 1) for values in (keys, valid))
        first = (~valid).int().argsort(dim=1, stable=True)[:, : self.smallest]
        valid = valid.gather(1, first)
        keys = keys.gather(1, first.unsqueeze(2).expand(-1, -1, keys.shape[2]))
        place = torch.arange(first.shape[1], device=keys.device) + self.written.unsqueeze(1)
        place = (place % self.capacity.unsqueeze(1)).unsqueeze(2).expand_as(keys)
        # Every place is written once: what is not valid leaves there what there was.
        self.keys.scatter_(1, place, torch.where(valid.unsqueeze(2), keys.float(), self.keys.gather(1, place)))
        self.written.add_(valid.sum(1))

    def draw(self, chance: Float[Tensor, "K n"], of: Int[Tensor, "K"]) -> Float[Tensor, "K n D"]:
        """In each row keys of the class `of` it, one for each uniform number in [0, 1); zeros if it has none."""
        place = of.unsqueeze(1) * self.keys.shape[1] + uniform_index(chance, self.filled[of])
        return self.keys.flatten(0, 1).index_select(0, place.flatten()).view(*place.shape, -1)


def uniform_index(chance: Float[Tensor, "K n"], count: Int[Tensor, "K"]) -> Int[Tensor, "K n"]:
    """An index below the count for each uniform number in [0, 1); 0 where the count is 0."""
    count = count.unsqueeze(1)
    return (chance * count).long().minimum(count - 1).clamp(min=0)
