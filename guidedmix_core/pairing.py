"""Which labeled image guides which unlabeled one.

The paper pairs similar images by a feature-alignment objective (arXiv 2106.15064), of which its abstract says no more;
the released code pairs at random. The measures here are ours, and the choice carries no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from guidedmix_core.batch import IGNORE
from guidedmix_core.transfer import sent
from guidedmix_core.workers import gather_from_workers

Similarity = Literal["random", "feature_l2", "feature_cos", "class_prob_l2"]


@torch.no_grad()
def embed(pooled: Float[Tensor, "N D"], mode: Similarity, align_head: nn.Module | None = None) -> Float[Tensor, "N E"]:
    """What is compared: the mean of C5 over the image, or the classes that the auxiliary classifier reads from it."""
    pooled = pooled.detach()
    if mode == "class_prob_l2":
        assert align_head is not None
        return align_head(pooled).float().sigmoid()
    return F.normalize(pooled, dim=1) if mode == "feature_cos" else pooled


def choose_guides(
    wanted: Float[Tensor, "U E"],
    offered: Float[Tensor, "P E"],
    mode: Similarity,
    generator: torch.Generator,
    *,
    one_to_one: bool,
) -> Int[Tensor, "U"]:
    """The index of the guide of each unlabeled image: at random, or the most similar one."""
    if mode == "random":
        return sent(random_guides(generator, len(offered), len(wanted)), wanted.device)
    cost = costs(wanted, offered, mode)
    return assign(cost) if one_to_one else cost.argmin(1)


def costs(unlabeled: Float[Tensor, "U E"], labeled: Float[Tensor, "P E"], mode: Similarity) -> Float[Tensor, "U P"]:
    """The distance of each unlabeled image from each labeled one: 1 - cosine, or Euclidean."""
    if mode == "feature_cos":
        return 1 - unlabeled @ labeled.T
    return torch.cdist(unlabeled, labeled, compute_mode="donot_use_mm_for_euclid_dist")


def assign(cost: Float[Tensor, "U P"]) -> Int[Tensor, "U"]:
    """The labeled index of each unlabeled image, the nearest pair first, each labeled image used equally often.

    Greedy, not Hungarian: the optimal assignment is found on the host, and a step must not wait for the device.
    """
    num_unlabeled, num_labeled = cost.shape
    uses = -(-num_unlabeled // num_labeled)
    rows = torch.arange(num_unlabeled, device=cost.device)
    columns = torch.arange(num_labeled, device=cost.device)
    guide, used = torch.zeros_like(rows), torch.zeros_like(columns)
    for _ in range(num_unlabeled):
        nearest = cost.argmin()
        row, column = nearest // num_labeled, nearest % num_labeled
        guide = torch.where(rows == row, column, guide)
        used = used + (columns == column)
        cost = cost.masked_fill((rows == row).unsqueeze(1) | (used >= uses), torch.inf)
    return guide


def random_guides(generator: torch.Generator, num_labeled: int, num_unlabeled: int) -> Int[Tensor, "U"]:
    """A random permutation, or as many as are needed."""
    rounds = -(-num_unlabeled // num_labeled)
    return torch.cat([torch.randperm(num_labeled, generator=generator) for _ in range(rounds)])[:num_unlabeled]


def classes_present(mask: Int[Tensor, "B H W"], num_classes: int) -> Float[Tensor, "B K"]:
    """1 for each class that occurs in the crop."""
    counts = torch.zeros(len(mask), IGNORE + 1, device=mask.device).scatter(1, mask.flatten(1), 1.0)
    return counts[:, :num_classes]


def alignment_loss(logits: Float[Tensor, "B K"], mask: Int[Tensor, "B H W"]) -> Float[Tensor, ""]:
    """Binary cross entropy of the auxiliary classifier with the classes that occur in labeled crops."""
    return F.binary_cross_entropy_with_logits(logits.float(), classes_present(mask, logits.shape[1]))


@dataclass(frozen=True)
class Pool:
    """Labeled images to choose a guide from, newest first."""

    image: UInt8[Tensor, "P C H W"]
    mask: UInt8[Tensor, "P H W"]
    embedding: Float[Tensor, "P E"]


class PairQueue(nn.Module):
    """The last labeled crops of all workers, as buffers: they are saved, and a resumed run finds the same guides.

    The buffers grow until there are `capacity` crops. Embeddings are those of the weights at their time.
    """

    image: Tensor
    mask: Tensor
    embedding: Tensor

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.register_buffer("image", torch.zeros(0, dtype=torch.uint8))
        self.register_buffer("mask", torch.zeros(0, dtype=torch.uint8))
        self.register_buffer("embedding", torch.zeros(0))

    def pool(
        self, image: Float[Tensor, "B C H W"], mask: Int[Tensor, "B H W"], embedding: Float[Tensor, "B E"]
    ) -> Pool:
        """This step's labeled crops, and the queue behind them."""
        new = ((image * 255).round().byte(), mask.byte(), embedding.detach())
        old = (self.image, self.mask, self.embedding)
        return Pool(*(self._behind(gather_from_workers(values), kept) for values, kept in zip(new, old, strict=True)))

    def _behind(self, new: Tensor, kept: Tensor) -> Tensor:
        return torch.cat([new, kept])[: self.capacity] if len(kept) else new[: self.capacity]

    def store(self, pool: Pool) -> None:
        self.image, self.mask, self.embedding = pool.image, pool.mask, pool.embedding

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("image", "mask", "embedding"):
            if f"{prefix}{name}" in state:  # the buffers have the length they were saved with
                setattr(self, name, torch.empty_like(state[f"{prefix}{name}"], device=getattr(self, name).device))
        super()._load_from_state_dict(state, prefix, *rest)
