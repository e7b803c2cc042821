"""PCR: a prototype predictor learns from the teacher's linear one, and so shapes the features of both.

Xu et al., Semi-supervised Semantic Segmentation with Prototype-based Consistency Regularization, NeurIPS 2022,
arXiv 2210.04388. Released: configurations, models and evaluation, HeimingX/semi_seg_proto; not the training. The
algorithm, with f the features at a tap and M prototypes p_c,m of each class c:

    p     = teacher(x_u),  x, p = CutMix(x_u, p)                               no gradient
    s_c   = max_m cos(f(x), p_c,m) / temperature                               at a few points of each image
    L     = CE(student(x_l), y_l) + CE(student(x), p where confident) + CE(s(x_l), y_l) + CE(s(x), p where confident)
    p_c,m <- momentum p_c,m + (1 - momentum) mean of the points' f that are nearest to it among the prototypes of c
    teacher <- decay * teacher + (1 - decay) * student

The result is the linear predictor. The prototypes begin as k-means of features of labeled pixels, so a stage of
supervised training belongs before: without one they are clusters of what an untrained network says. Published is a file
of them, not how it was made: here of the center crop of each labeled image at scale 1, in evaluation mode, so that what
is rare or lies at the border has few pixels or none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from guidedmix_core.batch import IGNORE, Batch, StepLosses
from guidedmix_core.class_features import class_features
from guidedmix_core.components import Config
from guidedmix_core.fields import Weight, is_off
from guidedmix_core.labeled import Labeled
from guidedmix_core.methods import Build
from guidedmix_core.methods._cutmix_teacher import Divisor, Filter, TaughtOnCutMix, taught_loss
from guidedmix_core.methods._teacher import StudentAndTeacher, TeacherMode
from guidedmix_core.points import Points, draw_points
from guidedmix_core.prototypes import Init, PrototypeBank
from guidedmix_core.rng import At
from guidedmix_core.segmentors import SegmentationNetwork


class Prototypes(Config):
    """The prototype predictor."""

    tap: str = Field("joined", description="the map in which prototypes live; joined: the decoder's input")
    num_each: int = Field(4, ge=1, description="prototypes of a class: 4 on VOC, 3 on Cityscapes")
    temperature: float = Field(0.1, gt=0)
    grid: int = Field(
        32,
        ge=1,
        description="one random pixel in each of grid x grid cells of a crop is a point; with fewer rows or columns "
        "than that, each is a row or column of cells",
    )
    momentum: float = Field(0.99, ge=0, lt=1, description="of a prototype, a step")
    update_where: Literal["nowhere", "all", "confident", "confident_and_agree"] = Field(
        "confident",
        description="which unlabeled points move prototypes, beside the labeled ones: all, those that pass the filter, "
        "or of these the ones that the prototypes put into their class themselves (then labeled ones, too); nowhere: "
        "prototypes stay as they began; the published rule is not known",
    )
    init: Init = Field(
        "kmeans",
        description="where a class's prototypes begin: in clusters of its labeled pixels' features, all in their mean, "
        "or at random; one without labeled pixels takes no part until it has points (ours)",
    )
    init_pixels: int = Field(
        5000,
        ge=1,
        description="of a class, whose features are clustered, at most; drawn from the center crops of the labeled "
        "images at scale 1 (ours)",
    )


@dataclass(frozen=True)
class Half:
    """Labeled or unlabeled images, or points of them: what is said, its class, where that teaches and where it is."""

    logits: Float[Tensor, "N K h w"]
    feature: Float[Tensor, "N D _ _"]
    label: Int[Tensor, "N h w"]
    kept: Bool[Tensor, "N h w"]
    valid: Bool[Tensor, "N h w"]

    def loss(self, normalize: Divisor) -> Float[Tensor, ""]:
        return taught_loss(self.logits, self.label, self.kept, self.valid, normalize)

    def agreement(self) -> Float[Tensor, ""]:
        """The share of what teaches that is said already."""
        right = (self.logits.argmax(1) == self.label) & self.kept
        return right.sum() / self.kept.sum().clamp(min=1)


class PrototypeNetworks(StudentAndTeacher):
    """Student, teacher, and the prototypes in the student's features, if they are used."""

    def __init__(self, student: SegmentationNetwork, bank: PrototypeBank | None) -> None:
        super().__init__(student)
        self.bank = bank


class PCR(TaughtOnCutMix):
    """Mean teacher with CutMix, and a second predictor by prototypes that learns what the first one does."""

    teacher_mode: TeacherMode = Field(
        "eval",
        description="BatchNorm in the teacher's pass; eval: the averaged statistics (ours; the published mode is not "
        "known); train: its own batch statistics (ClassMix, CPS)",
    )
    filter: Filter = Field(
        "confidence",
        description="which pixels teach: those claimed with at least the threshold's probability (ours; the released "
        "configurations have both settings), or all but the unreliable share (U2PL)",
    )
    normalize: Divisor = Field(
        "valid",
        description="divide the sum over the pixels that teach by those that exist (UniMatch; ours, the published rule "
        "is not known) or by themselves; selected_scaled: the latter times all pixels by those that teach (U2PL)",
    )
    labeled: Labeled = Labeled(ohem=0.7)  # the released configurations mine hard pixels on both data sets
    prototypes: Prototypes = Prototypes()
    prototype_labeled_weight: Weight = Field(
        1.0,
        description="of the prototypes' loss on labeled points (ours: the released configurations give their loss the "
        "weight 1 and do not say on which points)",
    )
    prototype_unlabeled_weight: Weight = Field(1.0, description="of their loss on unlabeled points that are kept")

    def check(self, run) -> None:
        run.segmentor.check_tap(self.prototypes.tap, "method.prototypes.tap")

    def networks(self, build: Build) -> PrototypeNetworks:
        student, rule = build.segmentor("student"), self.prototypes
        if is_off(self.prototype_labeled_weight) and is_off(self.prototype_unlabeled_weight):
            return PrototypeNetworks(student, None)
        channels = student.channels[rule.tap]
        bank = build.module("prototypes", lambda: PrototypeBank(build.num_classes, rule.num_each, channels))
        return PrototypeNetworks(student, bank)

    def prepare(self, nets: PrototypeNetworks, labeled: Iterator[Batch], at: At) -> None:
        if nets.bank is None:
            return
        rule, num_classes = self.prototypes, len(nets.bank.vectors)
        pixels = at.shared("prototypes/pixels")
        samples = class_features(nets.student, rule.tap, labeled, num_classes, rule.init_pixels, pixels)
        nets.bank.begin(samples, rule.init, at.shared("prototypes/init"))

    def losses(self, nets: PrototypeNetworks, batch: Batch, at: At) -> StepLosses:
        named = {
            "supervised": 1.0,
            "unlabeled": self.weight,
            "prototype_labeled": self.prototype_labeled_weight,
            "prototype_unlabeled": self.prototype_unlabeled_weight,
        }
        weights = at.weights(named)
        halves = self._see(nets, batch, at, alone=weights.keys().isdisjoint(("unlabeled", "prototype_unlabeled")))
        terms = {"supervised": self.labeled.loss(halves["labeled"].logits, batch.mask)}
        metrics = {}
        if "unlabeled" in weights:
            terms["unlabeled"] = halves["unlabeled"].loss(self.normalize)
            metrics["kept"] = halves["unlabeled"].kept.float().mean()
        if not weights.keys().isdisjoint(("prototype_labeled", "prototype_unlabeled")):
            size, device = (batch.mask.shape[-2], batch.mask.shape[-1]), batch.mask.device
            points = draw_points(at.shared("points"), size, self.prototypes.grid, device)
            for name, half in halves.items():
                asked = self._ask(nets, half, points)
                if f"prototype_{name}" in weights:
                    terms[f"prototype_{name}"] = asked.loss("valid" if name == "labeled" else self.normalize)
                metrics[f"prototypes_agree_{name}"] = asked.agreement()
        return StepLosses(terms, weights, metrics)

    def after_step(self, nets: PrototypeNetworks, at: At) -> None:
        super().after_step(nets, at)
        if nets.bank is not None:
            nets.bank.update(self.prototypes.momentum)

    def _see(self, nets: PrototypeNetworks, batch: Batch, at: At, *, alone: bool) -> dict[str, Half]:
        """The labeled images, and if they are not alone, the unlabeled ones as CutMix shows them."""
        has_class, tap = batch.mask != IGNORE, self.prototypes.tap
        truth = (batch.mask.where(has_class, 0), has_class, has_class)
        if alone:
            return {"labeled": Half(*nets.student.read(batch.image, tap), *truth)}
        image, pseudo = self.lesson(nets, batch, at)
        labeled, unlabeled = self.read(nets, batch.image, image, tap)
        claimed = (pseudo.label, self.kept(pseudo, at), pseudo.valid)
        return {"labeled": Half(*labeled, *truth), "unlabeled": Half(*unlabeled, *claimed)}

    def _ask(self, nets: PrototypeNetworks, half: Half, points: Points) -> Half:
        """What the prototypes say at the points. They remember the features that are to move them after the step."""
        assert nets.bank is not None
        bank = nets.bank
        feature = points.read(half.feature, align_corners=nets.student.align_corners)
        label, kept, valid = map(points.of, (half.label, half.kept, half.valid))
        cosines = bank.cosines(feature)
        logits = bank.logits(cosines, self.prototypes.temperature)
        known = bank.initialized[label]
        agrees = (logits.argmax(1) == label) | ~known
        counted = {"nowhere": None, "all": valid, "confident": kept, "confident_and_agree": kept & agrees}
        if (where := counted[self.prototypes.update_where]) is not None:
            bank.assign(feature, cosines, label, where)
        return Half(logits, feature, label, kept & known, valid & known)
