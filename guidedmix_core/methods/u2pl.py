"""U2PL: doubtful pixels teach, too, namely which classes they are not.

Wang et al., Semi-Supervised Semantic Segmentation Using Unreliable Pseudo-Labels, CVPR 2022, arXiv 2203.03884.
Released code: Haochen-Wang409/U2PL. The algorithm, with a_t = a_0 (1 - t/T):

    y_u  = argmax teacher(x_u)                 evaluation mode, no gradient
    x, y = CutMix(x_u, y_u)
    H    = entropy of teacher(x)               training mode, over [x_l, x], no gradient
    L    = CE(student(x_l), y_l) + (all pixels / kept ones) CE(student(x), y where H is not among the a_t greatest)
           + weight * contrast
    contrast, for each class c: the student's representation of an anchor (a sure pixel of c) is to be nearer to the
           center of c than to negatives of c, both as the teacher represents them; negatives are doubtful pixels in
           whose order of classes c comes late, from a memory
    teacher <- decay * teacher + (1 - decay) * student

The paper leaves the first epoch to the labeled images: `supervised_share`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from guidedmix_core.batch import IGNORE, Batch, Pseudo, StepLosses
from guidedmix_core.contrast import Contrast, Parts, contrastive_loss, parts, remember
from guidedmix_core.ema import Cover, frozen_copy, in_mode, ramped, update
from guidedmix_core.entropy import entropy, quantile
from guidedmix_core.errors import ConfigError
from guidedmix_core.fields import is_off
from guidedmix_core.memory import ClassMemory
from guidedmix_core.methods import Build
from guidedmix_core.methods._cutmix_teacher import Divisor, Filter, TaughtOnCutMix, taught_loss
from guidedmix_core.methods._teacher import StudentAndTeacher
from guidedmix_core.modules.representation import Representation
from guidedmix_core.pseudo import shrink
from guidedmix_core.rng import At
from guidedmix_core.segmentors import SegmentationNetwork


class U2PLNetworks(StudentAndTeacher):
    """Each of student and teacher has a representation head, if there is a contrast; the memory is one for all."""

    def __init__(self, student: SegmentationNetwork, head: Representation | None, memory: ClassMemory | None) -> None:
        super().__init__(student)
        self.head = head
        self.teacher_head = None if head is None else frozen_copy(head)
        self.memory = memory


@dataclass(frozen=True)
class SecondLook:
    """What the teacher says of labeled and mixed images: logits and representations, each at its own size."""

    logits: Float[Tensor, "N K _ _"]
    rep: Float[Tensor, "N D h w"] | None


class U2PL(TaughtOnCutMix):
    """Mean teacher with CutMix, without the most doubtful pixels, which serve as negatives of a contrast instead."""

    cover: Cover = Field(
        "params",
        description="what is averaged; params: the teacher's second pass is in training mode and gathers BatchNorm's "
        "statistics (released code); state: they are averaged too, and that pass is in evaluation mode",
    )
    filter: Filter = "entropy"
    normalize: Divisor = "selected_scaled"
    supervised_share: float = Field(
        0.0125,
        ge=0,
        lt=1,
        description="of the run's beginning, with labeled images only, the teacher a copy of the student: the first "
        "of 80 epochs on VOC; 0 in the released configuration for Cityscapes",
    )
    contrast: Contrast = Contrast()

    @property
    def teacher_gathers_statistics(self) -> bool:
        return True

    def check(self, run) -> None:
        if not is_off(self.contrast.weight):
            run.segmentor.check_tap(self.contrast.tap, "method.contrast.tap")

    def networks(self, build: Build) -> U2PLNetworks:
        student, rule, num_classes = build.segmentor("student"), self.contrast, build.num_classes
        if is_off(rule.weight):
            return U2PLNetworks(student, None, None)
        if rule.low_rank >= num_classes:
            cure = "use method.contrast.low_rank: 1"
            raise ConfigError(f"method.contrast.low_rank={rule.low_rank}: there are {num_classes} classes; {cure}")
        inputs = student.channels[rule.tap]
        head = build.module("representation", lambda: Representation(inputs, rule.channels, rule.norm, rule.dropout))
        capacity = [rule.memory_first, *[rule.memory] * (num_classes - 1)]
        return U2PLNetworks(student, head, ClassMemory(capacity, rule.channels))

    def losses(self, nets: U2PLNetworks, batch: Batch, at: At) -> StepLosses:
        named = {"supervised": 1.0, "unlabeled": self.weight, "contrastive": self.contrast.weight}
        weights = at.weights(named)
        if at.step < self._first_step(at) or len(weights) == 1:
            return self.alone(nets, batch)
        image, pseudo = self.lesson(nets, batch, at)
        tap = "logits" if nets.head is None else self.contrast.tap
        (labeled, of_labeled), (unlabeled, of_unlabeled) = self.read(nets, batch.image, image, tap)
        look = self._look_again(nets, torch.cat([batch.image, image]), tap, at)
        size = (image.shape[-2], image.shape[-1])
        doubt = nets.teacher.resize(look.logits[len(batch.image) :], size).softmax(1)
        judged = replace(pseudo, probability=doubt)
        kept = self.kept(judged, at)
        terms, metrics = {"supervised": self.labeled.loss(labeled, batch.mask)}, {"kept": kept.float().mean()}
        if "unlabeled" in weights:
            terms["unlabeled"] = taught_loss(unlabeled, pseudo.label, kept, pseudo.valid, self.normalize)
        if "contrastive" in weights:
            feature = torch.cat([of_labeled, of_unlabeled])
            terms["contrastive"], metrics["contrasted"] = self._contrast(nets, feature, batch, judged, look, at)
        return StepLosses(terms, weights, metrics)

    def after_step(self, nets: U2PLNetworks, at: At) -> None:
        since = at.step - self._first_step(at)
        decay = ramped(self.decay, max(since, 0)) if self.ramp_decay else self.decay
        for mean, new in ((nets.teacher, nets.student), (nets.teacher_head, nets.head)):
            if mean is not None and new is not None and since < 0:
                update(mean, new, 0.0)
            elif mean is not None and new is not None:
                update(mean, new, decay, self.cover)

    def _first_step(self, at: At) -> int:
        """The first step with unlabeled images."""
        return math.ceil(self.supervised_share * at.steps)

    @torch.no_grad()
    def _look_again(self, nets: U2PLNetworks, image: Float[Tensor, "N C H W"], tap: str, at: At) -> SecondLook:
        """Dropout, as in the released code active in training mode, draws from a stream of its own."""
        training = self.cover == "params"
        with in_mode(nets.teacher, training=training), at.ambient("second look", image.device):
            maps = nets.teacher.run({"image": image}, until=tap)
            logits = nets.teacher.run(maps, after=tap)["logits"]
            if nets.teacher_head is None:
                return SecondLook(logits, None)
            with in_mode(nets.teacher_head, training=training):
                return SecondLook(logits, nets.teacher_head(maps[tap]))

    def _contrast(
        self, nets: U2PLNetworks, feature: Tensor, batch: Batch, judged: Pseudo, look: SecondLook, at: At
    ) -> tuple[Float[Tensor, ""], Tensor]:
        """The term, and how many classes it compares."""
        assert nets.head is not None and nets.memory is not None and look.rep is not None
        with at.ambient("representation", feature.device):
            rep = nets.head(feature)
        who = self._parts(nets, batch, judged, look, at)
        teacher_rep = _rows(look.rep)
        remember(nets.memory, teacher_rep, who.negative, self.contrast.new_negatives, at)
        return contrastive_loss(_rows(rep), teacher_rep, who, nets.memory, self.contrast, at)

    @torch.no_grad()
    def _parts(self, nets: U2PLNetworks, batch: Batch, judged: Pseudo, look: SecondLook, at: At) -> Parts:
        """Which part each pixel plays, at the size of the representations."""
        assert look.rep is not None and judged.probability is not None
        size, rule = (look.rep.shape[-2], look.rep.shape[-1]), self.contrast
        unsure, share = entropy(judged.probability), rule.doubtful_share * (1 - at.progress)
        sure = judged.valid & (unsure <= quantile(unsure, judged.valid, share))
        doubtful = judged.valid & (unsure >= quantile(unsure, judged.valid, 1 - share))
        has_class = batch.mask != IGNORE

        def pixels(labeled: Tensor, unlabeled: Tensor) -> Tensor:
            return shrink(torch.cat([labeled, unlabeled]), size).flatten()

        return parts(
            pixels(batch.mask, judged.label),
            nets.teacher.resize(look.logits, size).softmax(1).transpose(0, 1).flatten(1),
            sure=pixels(has_class, sure),
            doubtful=pixels(has_class, doubtful),
            labeled=pixels(torch.ones_like(has_class), torch.zeros_like(judged.valid)),
            rule=rule,
        )


def _rows(feature: Float[Tensor, "N D h w"]) -> Float[Tensor, "P D"]:
    return feature.permute(0, 2, 3, 1).flatten(0, 2)
