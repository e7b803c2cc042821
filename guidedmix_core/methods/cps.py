"""Cross pseudo supervision: two networks label each other's images.

Chen, Yuan, Zeng, Wang, Semi-Supervised Semantic Segmentation with Cross Pseudo Supervision, CVPR 2021,
arXiv 2106.01226. Released code: charlesCXK/TorchSemiSeg. The algorithm, for labeled (x_l, y_l) and two independent
draws x_u, x_v of unlabeled images:

    y_i = paste(region; argmax f_i(x_v) onto argmax f_i(x_u))        for i = 1, 2; no gradient
    p_i = f_i(paste(region; x_v onto x_u))
    L   = CE(f_1(x_l), y_l) + CE(f_2(x_l), y_l) + weight * (CE(p_1, y_2) + CE(p_2, y_1))

No pixel is too unsure to teach. Without CutMix, p_i is what f_i says of the labeled and the unlabeled images together
(every pixel of a labeled image, ignored or not), y_i = argmax p_i, and no further pass is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor
from torch.optim import Optimizer

from guidedmix_core.batch import IGNORE, Batch, StepLosses, Views
from guidedmix_core.ema import in_mode
from guidedmix_core.fields import Weight
from guidedmix_core.labeled import Labeled
from guidedmix_core.losses import cross_entropy
from guidedmix_core.methods import Build, Method, Student, Taught
from guidedmix_core.mixing import CutMix, cutmix_boxes, paste
from guidedmix_core.optimizers import backbone_and_head, make_optimizer
from guidedmix_core.pseudo import predict_pseudo
from guidedmix_core.rng import At
from guidedmix_core.sections import Optim
from guidedmix_core.segmentors import SegmentationNetwork

Evaluated = Annotated[
    Literal["first", "mean"],
    Field(description="the first branch (CPS), or the mean of both branches' logits (RRN), an ensemble"),
]
Claim = Int[Tensor, "N H W"]
"""A class for each pixel; 255 where there is nothing to learn."""


class Peers(Student):
    """Two networks from the same backbone, pretrained or a stage's; all else begins apart, but a stage's head is the
    first one's."""

    def __init__(self, student: SegmentationNetwork, peer: SegmentationNetwork) -> None:
        super().__init__(student)
        self.peer = peer

    @property
    def branches(self) -> tuple[SegmentationNetwork, SegmentationNetwork]:
        return self.student, self.peer


@dataclass(frozen=True)
class Lesson:
    """The unlabeled images that both branches learn on."""

    image: Float[Tensor, "U C H W"]
    valid: Bool[Tensor, "U H W"]
    region: Bool[Tensor, "U H W"] | None
    """Where the other draw is pasted, with CutMix."""


class CPS(Method):
    """Two networks learn the labels, and from each other's predictions."""

    mixer: Literal["cutmix", "none"] = Field(
        "cutmix", description="cutmix: teach on mixed unlabeled images only; none: on labeled and unlabeled ones"
    )
    cutmix: CutMix = CutMix(area=(0.25, 0.5), aspect="fitting", num_boxes=3, probability=1.0)
    claim_mode: Literal["train", "eval"] = Field(
        "train",
        description="BatchNorm and dropout while a branch labels. train: as released; labels come from the batch's "
        "statistics, and these passes move the running ones, too, to the images as they were before CutMix. eval: "
        "labels come from the running statistics, which then follow mixed and labeled images only",
    )
    labeled: Labeled = Labeled()
    weight: Weight = Field(
        1.0,
        description="of the cross supervision; with CutMix 1 (VOC) or 5 (Cityscapes), without 1.5 or 6. After a stage "
        "the peer's head is new: a ramp gives it time",
    )
    evaluate: Evaluated = "first"

    def views(self) -> Views:
        return Views(unlabeled=True, partner=self.mixer == "cutmix")

    def networks(self, build: Build) -> Peers:
        return Peers(build.segmentor("student"), build.segmentor("peer"))

    def players(self, nets: Peers, optim: Optim) -> dict[str, Optimizer]:
        groups = {"student": backbone_and_head(nets.student, optim), "peer": backbone_and_head(nets.peer, optim)}
        return {name: make_optimizer(optim, own) for name, own in groups.items()}

    def losses(self, nets: Peers, batch: Batch, at: At) -> StepLosses:
        lesson = self.lesson(batch, at) if at.weight(self.weight) > 0 else None
        return self.cross(nets, batch, lesson, at)[0]

    def predictor(self, nets: Peers) -> Callable[[Float[Tensor, "N C H W"]], Float[Tensor, "N K H W"]]:
        if self.evaluate == "first":
            return nets.student
        return lambda image: (nets.student(image).float() + nets.peer(image).float()) / 2

    @torch.no_grad()
    def taught(self, nets: Peers, batch: Batch, at: At) -> Taught | None:
        """What the peer teaches the student; without CutMix's seams, and in evaluation mode."""
        assert batch.unlabeled is not None
        pseudo = predict_pseudo(nets.peer(batch.unlabeled.weak), batch.unlabeled.valid)
        return Taught(pseudo, pseudo.valid, nets.student(batch.unlabeled.weak).argmax(1))

    def lesson(self, batch: Batch, at: At) -> Lesson:
        """The unlabeled images, mixed or as they are."""
        own, other = batch.unlabeled, batch.partner
        assert own is not None
        if self.mixer == "none":
            return Lesson(own.weak, own.valid, None)
        assert other is not None
        size = (own.weak.shape[-2], own.weak.shape[-1])
        region = cutmix_boxes(at.generator("cutmix"), len(own.weak), size, self.cutmix, own.weak.device)
        return Lesson(paste(other.weak, own.weak, region), torch.where(region, other.valid, own.valid), region)

    def cross(
        self, nets: Peers, batch: Batch, lesson: Lesson | None, at: At
    ) -> tuple[StepLosses, list[Float[Tensor, "U K H W"]]]:
        """The terms, and what each branch says of the lesson. The passes are in the order of the released code."""
        weight, claims = at.weight(self.weight), []
        if weight > 0 and lesson is not None and (lesson.region is not None or self.claim_mode == "eval"):
            claims = [self._claim(branch, batch, lesson.region) for branch in nets.branches]
        unlabeled = [] if lesson is None else [branch(lesson.image) for branch in nets.branches]
        labeled = [branch(batch.image) for branch in nets.branches]
        first, second = (self.labeled.loss(logits, batch.mask) for logits in labeled)
        supervised = StepLosses({"supervised": first + second}, {"supervised": 1.0})
        if weight == 0 or lesson is None:
            return supervised, unlabeled
        said, valid = unlabeled, lesson.valid
        if lesson.region is None:
            said = [torch.cat(both) for both in zip(unlabeled, labeled, strict=True)]
            valid = torch.cat([valid, _everywhere(batch.mask)])
        claims = claims or [_class_of(logits, valid) for logits in said]
        terms = {**supervised.terms, "cps": cross_entropy(said[0], claims[1]) + cross_entropy(said[1], claims[0])}
        agreement = ((claims[0] == claims[1]) & valid).sum() / valid.sum().clamp(min=1)
        return StepLosses(terms, {"supervised": 1.0, "cps": weight}, {"agreement": agreement}), unlabeled

    @torch.no_grad()
    def _claim(self, branch: SegmentationNetwork, batch: Batch, region: Bool[Tensor, "U H W"] | None) -> Claim:
        """What a branch claims, in passes of their own."""
        assert batch.unlabeled is not None
        with in_mode(branch, training=self.claim_mode == "train"):
            own = _class_of(branch(batch.unlabeled.weak), batch.unlabeled.valid)
            if region is None:
                return torch.cat([own, _class_of(branch(batch.image), _everywhere(batch.mask))])
            assert batch.partner is not None
            return torch.where(region, _class_of(branch(batch.partner.weak), batch.partner.valid), own)


def _class_of(logits: Float[Tensor, "N K H W"], valid: Bool[Tensor, "N H W"]) -> Claim:
    return logits.detach().argmax(1).masked_fill(~valid, IGNORE)


def _everywhere(mask: Claim) -> Bool[Tensor, "N H W"]:
    return torch.ones_like(mask, dtype=torch.bool)
