"""Prototypes of classes: a predictor without trained weights, whose vectors follow the features assigned to them.

As in PCR (Xu et al., arXiv 2210.04388). `M` is the number of prototypes of a class.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from guidedmix_core.kmeans import kmeans
from guidedmix_core.workers import sum_over_workers, take_from_first_worker

Init = Literal["kmeans", "class_mean", "random"]


class PrototypeBank(nn.Module):
    """Some vectors a class, not normalized, without gradient. A class that never had a feature takes no part."""

    vectors: Tensor
    initialized: Tensor
    sums: Tensor
    counts: Tensor

    def __init__(self, num_classes: int, num_each: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("vectors", F.normalize(torch.randn(num_classes, num_each, channels), dim=2))
        self.register_buffer("initialized", torch.zeros(num_classes, dtype=torch.bool))
        # Of this worker and step. Not saved: between steps they are 0.
        self.register_buffer("sums", torch.zeros_like(self.vectors), persistent=False)
        self.register_buffer("counts", torch.zeros(num_classes, num_each), persistent=False)

    def cosines(self, feature: Float[Tensor, "N D h w"]) -> Float[Tensor, "N K M h w"]:
        """With every prototype, in fp32."""
        with torch.autocast(feature.device.type, enabled=False):
            own = F.normalize(self.vectors, dim=2)
            return torch.einsum("ndhw,kmd->nkmhw", F.normalize(feature.float(), dim=1), own)

    def logits(self, cosines: Float[Tensor, "N K M h w"], temperature: float) -> Float[Tensor, "N K h w"]:
        """Each class by its nearest prototype. One that takes no part has probability 0."""
        logits = cosines.max(2).values / temperature
        absent = ~self.initialized.view(1, -1, 1, 1)
        return logits.masked_fill(absent, torch.finfo(logits.dtype).min)

    @torch.no_grad()
    def assign(
        self,
        feature: Float[Tensor, "N D h w"],
        cosines: Float[Tensor, "N K M h w"],
        label: Int[Tensor, "N h w"],
        counted: Bool[Tensor, "N h w"],
    ) -> None:
        """Where counted, a feature goes to the nearest prototype of its label; the next `update` moves that."""
        num_each = cosines.shape[2]
        own = cosines.gather(1, label[:, None, None].expand(-1, 1, num_each, -1, -1)).squeeze(1)
        row, weight = (label * num_each + own.argmax(1)).flatten(), counted.flatten().float()
        rows = feature.detach().float().permute(0, 2, 3, 1).flatten(0, 2)
        self.sums.flatten(0, 1).index_add_(0, row, rows * weight.unsqueeze(1))
        self.counts.flatten().index_add_(0, row, weight)

    @torch.no_grad()
    def update(self, momentum: float) -> None:
        """Each prototype moves towards the mean of what all workers assigned to it, and stays if that is nothing.

        The first features of a class replace its random prototypes (ours; the released code knows no such class).
        """
        sums, counts = sum_over_workers(self.sums), sum_over_workers(self.counts)
        mean = sums / counts.clamp(min=1).unsqueeze(2)
        share = torch.where(self.initialized, 1 - momentum, 1.0).view(-1, 1, 1)
        self.vectors.copy_(torch.where(counts.unsqueeze(2) > 0, self.vectors.lerp(mean, share), self.vectors))
        self.initialized.logical_or_((counts > 0).any(1))
        self.sums.zero_()
        self.counts.zero_()

    @torch.no_grad()
    def begin(self, samples: list[Float[Tensor, "_ D"]], init: Init, generator: torch.Generator) -> None:
        """From features of each class. Random ones are unit vectors times the mean norm, as are those of a class
        without features, which takes no part until it has some.

        All workers end with the prototypes of the first one.
        """
        points = torch.cat(samples)
        norm = points.norm(dim=1).mean() if len(points) else 1.0
        self.vectors.copy_(norm * F.normalize(torch.randn(self.vectors.shape, generator=generator), dim=2))
        for k, own in enumerate(samples):
            if len(own) and init == "kmeans":
                self.vectors[k] = kmeans(own, self.vectors.shape[1], generator)
            elif len(own) and init == "class_mean":
                self.vectors[k] = own.mean(0)
            self.initialized[k] = init == "random" or len(own) > 0
        take_from_first_worker(self.vectors)
        take_from_first_worker(self.initialized)
