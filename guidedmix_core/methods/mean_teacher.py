"""Mean Teacher, and on top of it CutMix and ClassMix.

Tarvainen and Valpola, NeurIPS 2017, arXiv 1703.01780. With CutMix: French et al., BMVC 2020, arXiv 1906.01916.
With ClassMix: Olsson et al., WACV 2021, arXiv 2007.07936. The algorithm, for labeled (x_l, y_l) and unlabeled x_u:

    p    = teacher(weak x_u)                          no gradient
    x, p = paste(region; x_u[partner], p[partner] onto strong x_u, p)
    L    = CE(student(x_l), y_l) + weight * loss(student(x), p where confident)
    teacher <- decay * teacher + (1 - decay) * student
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor

from guidedmix_core.batch import Batch, Pseudo, StepLosses, Unlabeled, Views
from guidedmix_core.ema import Cover, frozen_copy, in_mode, ramped, update
from guidedmix_core.fields import Weight
from guidedmix_core.losses import Normalize, cross_entropy
from guidedmix_core.methods import Build, Method, Student, Taught
from guidedmix_core.mixing import CutMix, classmix_regions, cutmix_boxes, mix_pseudo, partners, paste
from guidedmix_core.pseudo import confident, confident_share, predict_pseudo, teach
from guidedmix_core.rng import At
from guidedmix_core.segmentors import SegmentationNetwork


class StudentAndTeacher(Student):
    """The teacher is an average of the student; no optimizer sees it."""

    def __init__(self, student: SegmentationNetwork) -> None:
        super().__init__(student)
        self.teacher = frozen_copy(student)


class MeanTeacher(Method):
    """The student's average teaches it: confident pseudo masks of weak views, learned on strong, mixed ones."""

    decay: float = Field(0.99, ge=0, lt=1, description="of the teacher's average, a step")
    ramp_decay: bool = Field(True, description="begin as the plain average of all steps: min(1 - 1/(t+1), decay)")
    cover: Cover = Field(
        "state", description="what is averaged: the parameters, or BatchNorm's statistics too (UniMatch V2, AugSeg)"
    )
    teacher_mode: Literal["eval", "train"] = Field(
        "eval", description="BatchNorm in the teacher's pass; train: its own batch statistics (ClassMix, CPS)"
    )
    strong: bool = Field(True, description="the student sees a strong view; false: the weak one")
    mixer: Literal["none", "cutmix", "classmix"] = "cutmix"
    cutmix: CutMix = CutMix()
    loss: Literal["ce", "mse"] = Field(
        "ce", description="against the label, or between probabilities (the weight of CPS's mean teacher is then 100)"
    )
    threshold: float = Field(
        0.95, ge=0, le=1, description="a pixel claimed with less probability teaches nothing; 0: all do"
    )
    normalize: Literal["valid", "all", "fraction"] = Field(
        "valid",
        description="divide by the pixels that exist (UniMatch) or all (AugSeg); fraction: teach every pixel, times "
        "the share of confident ones (ClassMix, CutMix-Seg)",
    )
    weight: Weight = Field(1.0, description="of the unlabeled term")
    labeled_normalize: Normalize = Field("valid", description="what the labeled cross entropy is divided by")
    joint_batch: bool = Field(
        True, description="labeled and unlabeled images share the student's pass, and so BatchNorm's statistics"
    )
    evaluate: Literal["student", "teacher"] = Field("teacher", description="which network is the result")

    @model_validator(mode="after")
    def _teacher_has_statistics(self) -> MeanTeacher:
        if self.cover == "params" and self.teacher_mode == "eval":
            cure = "use method.cover: state, or method.teacher_mode: train"
            raise ValueError(f"method.cover=params: the teacher's BatchNorm would keep its first statistics; {cure}")
        return self

    def views(self) -> Views:
        return Views(unlabeled=True, strong=int(self.strong))

    def networks(self, build: Build) -> StudentAndTeacher:
        return StudentAndTeacher(build.segmentor("student"))

    def losses(self, nets: StudentAndTeacher, batch: Batch, at: At) -> StepLosses:
        weight = at.weight(self.weight)
        if weight == 0:
            return StepLosses({"supervised": self._supervised(nets.student(batch.image), batch)}, {"supervised": 1.0})
        assert batch.unlabeled is not None
        image, pseudo = self._lesson(nets, batch.unlabeled, at)
        if self.joint_batch:
            labeled, unlabeled = nets.student(torch.cat([batch.image, image])).tensor_split([len(batch.image)])
        else:
            labeled, unlabeled = nets.student(batch.image), nets.student(image)
        terms = {"supervised": self._supervised(labeled, batch), "unlabeled": self._unlabeled(unlabeled, pseudo)}
        kept = confident_share(pseudo, self.threshold)
        return StepLosses(terms, {"supervised": 1.0, "unlabeled": weight}, {"kept": kept})

    def after_step(self, nets: StudentAndTeacher, at: At) -> None:
        decay = ramped(self.decay, at.step) if self.ramp_decay else self.decay
        update(nets.teacher, nets.student, decay, self.cover)

    def predictor(self, nets: StudentAndTeacher) -> Callable[[Float[Tensor, "N C H W"]], Float[Tensor, "N K H W"]]:
        return nets.teacher if self.evaluate == "teacher" else nets.student

    @torch.no_grad()
    def taught(self, nets: StudentAndTeacher, batch: Batch, at: At) -> Taught | None:
        assert batch.unlabeled is not None
        pseudo = predict_pseudo(nets.teacher(batch.unlabeled.weak), batch.unlabeled.valid)
        return Taught(pseudo, confident(pseudo, self.threshold), nets.student(batch.unlabeled.weak).argmax(1))

    def _lesson(self, nets: StudentAndTeacher, unlabeled: Unlabeled, at: At) -> tuple[Float[Tensor, "U C H W"], Pseudo]:
        """What the student looks at, and what the teacher claims of it."""
        with torch.no_grad(), in_mode(nets.teacher, training=self.teacher_mode == "train"):
            pseudo = predict_pseudo(nets.teacher(unlabeled.weak), unlabeled.valid)
        image = unlabeled.strong[0] if self.strong else unlabeled.weak
        if self.mixer == "none":
            return image, pseudo
        partner = partners(pseudo)
        region = self._region(partner, at)
        return paste(image.roll(-1, 0), image, region), mix_pseudo(partner, pseudo, region)

    def _region(self, partner: Pseudo, at: At) -> Bool[Tensor, "U H W"]:
        label = partner.label
        if self.mixer == "classmix":
            return classmix_regions(at.generator("classmix"), label)
        return cutmix_boxes(
            at.generator("cutmix"), len(label), (label.shape[1], label.shape[2]), self.cutmix, label.device
        )

    def _supervised(self, logits: Float[Tensor, "B K H W"], batch: Batch) -> Float[Tensor, ""]:
        return cross_entropy(logits, batch.mask, normalize=self.labeled_normalize)

    def _unlabeled(self, logits: Float[Tensor, "U K H W"], pseudo: Pseudo) -> Float[Tensor, ""]:
        soft = self.loss == "mse"
        if self.normalize == "fraction":
            everywhere = torch.ones_like(pseudo.confidence)
            return confident_share(pseudo, self.threshold) * teach(
                logits, pseudo, everywhere, loss=self.loss, soft=soft, normalize="all"
            )
        return teach(
            logits,
            pseudo,
            confident(pseudo, self.threshold).float(),
            loss=self.loss,
            soft=soft,
            normalize=self.normalize,
        )
