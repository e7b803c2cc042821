"""U2PL's contrast: pixels of a class are drawn to its center, and away from doubtful pixels that may not be of it.

Wang et al., arXiv 2203.03884, and the released code, Haochen-Wang409/U2PL. `Q` queries, `P` pixels of all images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from guidedmix_core.components import Config
from guidedmix_core.fields import Weight
from guidedmix_core.memory import ClassMemory, uniform_index
from guidedmix_core.modules.conv import Norm
from guidedmix_core.rng import At
from guidedmix_core.transfer import sent
from guidedmix_core.workers import sum_over_workers


class Contrast(Config):
    """Which pixels play which part, and how many of them."""

    weight: Weight = Field(
        1.0,
        description="paper 0.1, released configurations 1; their code divides by the workers once too often, which "
        "makes it 1/4 on VOC and 1/8 on Cityscapes",
    )
    tap: str = Field("joined", description="the map that the representation head reads; joined: the decoder's input")
    channels: int = Field(256, ge=1, description="of a representation, and of the head's hidden layers")
    norm: Norm = Field("batch", description="of the head")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of the head's hidden channels that is dropped")
    rule: Literal["paper", "released"] = Field(
        "paper",
        description="released: negatives of a class have it as their pseudo label (so labeled pixels are never any), "
        "and the i-th class meets the memory of the i-th class that occurs, as in the code (its issues 111 and 171); "
        "one class alone adds 0",
    )
    queries: int = Field(256, ge=1, description="anchors of a class, drawn from those of a worker's batch")
    negatives: int = Field(50, ge=1, description="of each anchor, drawn from the memory of its class")
    anchor_probability: float = Field(0.3, ge=0, le=1, description="the teacher's, of the class; anchors have more")
    low_rank: int = Field(
        3,
        ge=1,
        description="a doubtful unlabeled pixel is a negative of the classes from this rank on in the teacher's order, "
        "a labeled one of wrong classes before it; with two or three classes use 1",
    )
    high_rank: int = Field(20, ge=2, description="and before this rank")
    doubtful_share: float = Field(
        0.2,
        gt=0,
        le=0.5,
        description="of unlabeled pixels, those of greatest entropy; as many of least entropy may be anchors; falls "
        "linearly to 0",
    )
    temperature: float = Field(0.5, gt=0)
    memory: int = Field(2048, ge=1, description="negatives remembered of a class; published 30000, ours takes less")
    memory_first: int = Field(2048, ge=1, description="and of class 0, the background; published 50000")
    new_negatives: int = Field(
        256,
        ge=1,
        description="of a class that a worker remembers a step at most, drawn from all (ours; published: all)",
    )

    @model_validator(mode="after")
    def _ranks_are_ordered(self) -> Contrast:
        if self.low_rank >= self.high_rank:
            raise ValueError(f"low_rank={self.low_rank}: expected less than high_rank={self.high_rank}")
        return self


@dataclass(frozen=True)
class Parts:
    """Which pixels are the center of each class, which of them are anchors, and which are its negatives."""

    center: Bool[Tensor, "K P"]
    anchor: Bool[Tensor, "K P"]
    negative: Bool[Tensor, "K P"]


def parts(
    label: Int[Tensor, "P"],
    probability: Float[Tensor, "K P"],
    sure: Bool[Tensor, "P"],
    doubtful: Bool[Tensor, "P"],
    labeled: Bool[Tensor, "P"],
    rule: Contrast,
) -> Parts:
    """From labels and pseudo labels, and the teacher's probabilities. A labeled pixel is both sure and doubtful."""
    own = label == torch.arange(len(probability), device=label.device).unsqueeze(1)
    rank = probability.argsort(dim=0, descending=True, stable=True).argsort(dim=0)
    center = own & sure
    confused = torch.where(labeled, ~own & (rank < rule.low_rank), (rank >= rule.low_rank) & (rank < rule.high_rank))
    negative = confused & doubtful & (own if rule.rule == "released" else True)
    return Parts(center, center & (probability > rule.anchor_probability), negative)


def remember(memory: ClassMemory, rep: Float[Tensor, "P D"], negative: Bool[Tensor, "K P"], most: int, at: At) -> None:
    """Some of each class's negatives, drawn uniformly."""
    tickets = sent(torch.rand(len(rep), generator=at.generator("contrast/memory")), rep.device)
    ticket, pixel = torch.where(negative, tickets, -1.0).topk(min(most, len(rep)), dim=1)
    memory.store(F.normalize(rep[pixel].float(), dim=2), ticket >= 0)


def contrastive_loss(
    rep: Float[Tensor, "P D"],
    teacher_rep: Float[Tensor, "P D"],
    who: Parts,
    memory: ClassMemory,
    rule: Contrast,
    at: At,
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """The mean over the classes that occur, and how many have anchors and negatives. One without either adds 0."""
    num_classes, occurs = len(who.center), who.center.any(1)
    serves, within = torch.arange(num_classes, device=rep.device), occurs
    if rule.rule == "released":
        serves, within = (~occurs).int().argsort(stable=True), (serves < occurs.sum()) & (occurs.sum() > 1)
    anchors, negatives = (
        sent(torch.rand(num_classes, count, generator=at.generator(f"contrast/{name}")), rep.device)
        for name, count in (("anchors", rule.queries), ("negatives", rule.queries * rule.negatives))
    )
    with torch.autocast(rep.device.type, enabled=False):
        anchor = F.normalize(rep[_choose(who.anchor, anchors)].float(), dim=2)
        center = F.normalize(_centers(teacher_rep, who.center), dim=1)
        negative = memory.draw(negatives, serves).unflatten(1, (rule.queries, rule.negatives))
        near = torch.einsum("kqd,kd->kq", anchor, center).unsqueeze(2)
        far = torch.einsum("kqd,kqnd->kqn", anchor, negative)
    logits = torch.cat([near, far], dim=2) / rule.temperature
    active = within & who.anchor.any(1) & (memory.filled[serves] > 0)
    loss = torch.where(active, -logits.log_softmax(2)[..., 0].mean(1), 0.0)
    return loss.sum() / occurs.sum().clamp(min=1), active.sum()


def _choose(among: Bool[Tensor, "K P"], chance: Float[Tensor, "K Q"]) -> Int[Tensor, "K Q"]:
    """For each uniform number a pixel of the class's; any pixel if it has none."""
    so_far = among.cumsum(1)
    nth = uniform_index(chance, so_far[:, -1]) + 1
    return torch.searchsorted(so_far, nth).clamp(max=among.shape[1] - 1)


def _centers(rep: Float[Tensor, "P D"], center: Bool[Tensor, "K P"]) -> Float[Tensor, "K D"]:
    """The mean of each class over all workers; the released code takes that of each worker's own pixels."""
    total = sum_over_workers(center.float() @ rep.float())
    return total / sum_over_workers(center.sum(1)).clamp(min=1).unsqueeze(1)
