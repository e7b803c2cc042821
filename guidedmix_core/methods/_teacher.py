"""What methods share whose pseudo masks come from an average of the student."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor

from guidedmix_core.batch import Batch, Pseudo, StepLosses
from guidedmix_core.ema import Cover, frozen_copy, in_mode, ramped, update
from guidedmix_core.labeled import Labeled
from guidedmix_core.methods import Build, Method, Student, Taught
from guidedmix_core.mixing import CutMix, classmix_regions, cutmix_boxes, mix_pseudo, partners, paste
from guidedmix_core.pseudo import confident, predict_pseudo
from guidedmix_core.rng import At
from guidedmix_core.segmentors import SegmentationNetwork

Decay = Annotated[float, Field(ge=0, lt=1, description="of the teacher's average, a step")]
Threshold = Annotated[
    float, Field(ge=0, le=1, description="a pixel claimed with less probability teaches nothing; 0: all do")
]
Covered = Annotated[
    Cover, Field(description="what is averaged: the parameters, or BatchNorm's statistics too (UniMatch V2, AugSeg)")
]
TeacherMode = Annotated[
    Literal["eval", "train"],
    Field(description="BatchNorm in the teacher's pass; train: its own batch statistics (ClassMix, CPS)"),
]

Evaluated = Annotated[
    Literal["student", "teacher"],
    Field(description="which network is the result; in ClassMix's released trainSSL.py the student"),
]


def mixed(
    image: Float[Tensor, "U C H W"],
    pseudo: Pseudo,
    mixer: Literal["cutmix", "classmix"],
    box: CutMix,
    at: At,
    partner: tuple[Float[Tensor, "U C H W"], Pseudo] | None = None,
) -> tuple[Float[Tensor, "U C H W"], Pseudo]:
    """The images with a region of their partners, and what is claimed of both: boxes, or half of a partner's classes.

    Without partners each image's is the next one of the batch.
    """
    other, claimed = partner or (image.roll(-1, 0), partners(pseudo))
    if mixer == "classmix":
        region = classmix_regions(at.generator("classmix"), claimed.label)
    else:
        size = (image.shape[-2], image.shape[-1])
        region = cutmix_boxes(at.generator("cutmix"), len(image), size, box, image.device)
    return paste(other, image, region), mix_pseudo(claimed, pseudo, region)


class StudentAndTeacher(Student):
    """The teacher is an average of the student; no optimizer sees it."""

    def __init__(self, student: SegmentationNetwork) -> None:
        super().__init__(student)
        self.teacher = frozen_copy(student)


class TaughtByAverage(Method):
    """A student and its exponential moving average."""

    decay: Decay = 0.99
    ramp_decay: bool = Field(True, description="begin as the plain average of all steps: min(1 - 1/(t+1), decay)")
    cover: Covered = "state"
    teacher_mode: TeacherMode = "eval"
    threshold: Threshold = 0.95
    labeled: Labeled = Labeled()
    joint_batch: bool = Field(
        True, description="labeled and unlabeled images share the student's pass, and so BatchNorm's statistics"
    )
    evaluate: Evaluated = "teacher"

    @model_validator(mode="after")
    def _teacher_has_statistics(self) -> TaughtByAverage:
        if self.cover == "params" and not self.teacher_gathers_statistics:
            cure = "use method.cover: state, or method.teacher_mode: train"
            raise ValueError(f"method.cover=params: the teacher's BatchNorm would keep its first statistics; {cure}")
        return self

    @property
    def teacher_gathers_statistics(self) -> bool:
        """Whether BatchNorm's statistics come from passes of the teacher's own."""
        return self.teacher_mode == "train"

    def networks(self, build: Build) -> StudentAndTeacher:
        return StudentAndTeacher(build.segmentor("student"))

    def after_step(self, nets: StudentAndTeacher, at: At) -> None:
        decay = ramped(self.decay, at.step) if self.ramp_decay else self.decay
        update(nets.teacher, nets.student, decay, self.cover)

    def result(self, nets: StudentAndTeacher) -> SegmentationNetwork:
        return nets.teacher if self.evaluate == "teacher" else nets.student

    def predictor(self, nets: StudentAndTeacher) -> Callable[[Float[Tensor, "N C H W"]], Float[Tensor, "N K H W"]]:
        return self.result(nets)

    @torch.no_grad()
    def taught(self, nets: StudentAndTeacher, batch: Batch, at: At) -> Taught | None:
        assert batch.unlabeled is not None
        pseudo = predict_pseudo(nets.teacher(batch.unlabeled.weak), batch.unlabeled.valid)
        plain = nets.student(batch.unlabeled.weak).argmax(1)
        return Taught(pseudo, self.kept(pseudo, at), plain)

    def kept(self, pseudo: Pseudo, at: At) -> Bool[Tensor, "U H W"]:
        """Where a pseudo mask teaches."""
        return confident(pseudo, self.threshold)

    def claim(self, nets: StudentAndTeacher, image: Float[Tensor, "U C H W"], valid: Bool[Tensor, "U H W"]) -> Pseudo:
        """What the teacher claims of these images."""
        with torch.no_grad(), in_mode(nets.teacher, training=self.teacher_mode == "train"):
            return predict_pseudo(nets.teacher(image), valid)

    def alone(self, nets: StudentAndTeacher, batch: Batch) -> StepLosses:
        """The step without unlabeled images."""
        loss = self.labeled.loss(nets.student(batch.image), batch.mask)
        return StepLosses({"supervised": loss}, {"supervised": 1.0})

    def see(
        self, nets: StudentAndTeacher, labeled: Float[Tensor, "B C H W"], unlabeled: Float[Tensor, "U C H W"]
    ) -> tuple[Float[Tensor, "B K H W"], Float[Tensor, "U K H W"]]:
        """The student's logits of both."""
        (of_labeled, _), (of_unlabeled, _) = self.read(nets, labeled, unlabeled, "logits")
        return of_labeled, of_unlabeled

    def read(
        self, nets: StudentAndTeacher, labeled: Float[Tensor, "B C H W"], unlabeled: Float[Tensor, "U C H W"], tap: str
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """The student's (logits, map at the tap) of both, in one pass or in two."""
        if not self.joint_batch:
            return nets.student.read(labeled, tap), nets.student.read(unlabeled, tap)
        logits, feature = nets.student.read(torch.cat([labeled, unlabeled]), tap)
        count = len(labeled)
        return (logits[:count], feature[:count]), (logits[count:], feature[count:])
