"""GuidedMix-Net: labeled images guide the pseudo masks of unlabeled ones that are mixed with them.

Tu, Huang, Zhang, Wen, Zhang: GuidedMix-Net, arXiv 2106.15064, and AAAI 2022, arXiv 2112.14015; released code
yh-pengtu/GuidedMix-Net. The algorithm, with f the student and g its mixed branch (f with MITrans, or with a head of its own):

    lam     ~ U(0, lambda_max);  guide = the labeled image for each unlabeled one
    z_l, z_u = f(x_l), f(x_u)                                  one backbone pass, two head passes
    z_m     = g(lam x_l[guide] + (1 - lam) x_u)                mixed as images, or as maps at a tap
    d       = decouple(z_m, z_l[guide], lam)                   what remains of the unlabeled image

    mixed_teaches (the abstracts)                       L = CE(z_l, y_l) + w loss(z_u, sg(d)) + w_m lam CE(z_m, y_l[guide])
    plain_teaches (the released code)                   L = CE(z_l, y_l) + w loss(d, sg(z_u))

The two readings differ in more than the direction; every difference is a field, and the presets `guidedmix_paper` and
`guidedmix_official` name both. The result is the student alone: MITrans and the second head are left out of evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Self

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from guidedmix_core.batch import Batch, Pseudo, StepLosses, Unlabeled, Views
from guidedmix_core.ema import frozen_copy, in_mode, ramped, update
from guidedmix_core.fields import Ramp, Weight
from guidedmix_core.losses import Normalize, cross_entropy
from guidedmix_core.methods import Build, Method, Taught
from guidedmix_core.methods._guidedmix_fields import Decouple, Mix, Pairing, PseudoMask, Refine, UnlabeledLoss
from guidedmix_core.methods._guidedmix_networks import GuidedNetworks, MixedBranch, Seen, see
from guidedmix_core.mixing import CutMix, blend_maps, cutmix_boxes, draw_lambda, mix_pseudo, partners, paste
from guidedmix_core.modules.mitrans import MITrans
from guidedmix_core.pairing import PairQueue, alignment_loss, assign, costs, embed, random_guides
from guidedmix_core.pseudo import confident, decouple, predict_pseudo, shrink, teach
from guidedmix_core.rng import At
from guidedmix_core.segmentors import Segmentor, resize


@dataclass(frozen=True)
class Mixed:
    """Unlabeled images mixed with their guides: what was mixed, and what the mixed branch says."""

    lam: float
    guide: Seen
    truth: Int[Tensor, "U H W"]
    logits: Float[Tensor, "U K _ _"]


class GuidedMix(Method):
    """Mixing with a labeled guide, then taking the guide out of the mixed prediction, gives the pseudo mask."""

    direction: Literal["mixed_teaches", "plain_teaches"] = Field(
        "mixed_teaches", description="the student learns from the mixed branch (abstracts), or it from the student (code)"
    )
    mix: Mix = Mix()
    pairing: Pairing = Pairing()
    mitrans: Refine = Refine()
    head_mix: Literal["shared", "separate"] = Field(
        "shared", description="separate: the mixed branch has its own layers from the bottleneck on (released code)"
    )
    decouple: Decouple = Decouple()
    pseudo: PseudoMask = PseudoMask()
    unlabeled: UnlabeledLoss = UnlabeledLoss()
    student_view: Literal["weak", "strong", "cutmix"] = Field(
        "weak", description="what the student sees of the unlabeled images, when the mixed branch teaches"
    )
    cutmix: CutMix = CutMix()
    labeled_mixed_weight: Weight = Field(1.0, description="of lam CE(z_m, y_l[guide]), which trains the mixed branch")
    mixup_weight: Weight = Field(
        0.0, description="of (1 - lam) CE(z_m, plain pseudo mask): with the term above, mixup of labels; not in the paper"
    )
    mixup_threshold: float = Field(0.9, ge=0, le=1, description="confidence of the plain pseudo mask in the mixup term")
    labeled_decoupled_weight: Weight = Field(
        0.0, description="of lam loss(z_m - (1 - lam) z_u, sg(z_l)): computed by the released code, but not added"
    )
    ema: float | None = Field(
        None, ge=0, lt=1, description="an average of student and mixed branch makes the pseudo masks; null: they do"
    )
    normalize: Normalize = Field("valid", description="what the labeled cross entropies are divided by; code: all")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        for problem in _problems(self):
            raise ValueError(problem)
        return self

    def check(self, segmentor: Segmentor, train: object) -> None:
        if self.mix.level in ("c5", "aspp") and self.mix.level not in segmentor.taps:
            raise ValueError(
                f"method.mix.level={self.mix.level}: segmentor {segmentor.name!r} has the taps {', '.join(segmentor.taps)}"
            )

    def views(self) -> Views:
        used = any(not _is_off(weight) for weight in self._term_weights().values())
        return Views(unlabeled=used, strong=int(self.student_view != "weak"))

    def networks(self, build: Build) -> GuidedNetworks:
        student = build.segmentor("student")
        context = student.taps.index("context")
        bottleneck = student.taps[context - 1]
        tap = bottleneck if self.mitrans.where == "pre_bottleneck" else "context"
        mitrans = build.module("mitrans", lambda: self.mitrans.build(student.channels[tap]))
        mix_head = build.segmentor("mix_head").tail(bottleneck) if self.head_mix == "separate" else None
        branch = MixedBranch(student, mitrans, tap, mix_head)
        align_head = None
        if self._uses_alignment():
            align_head = build.module("align_head", lambda: nn.Linear(student.channels["c5"], build.num_classes))
        remembers = self.mix.level != "none" and self.pairing.scope == "queue"
        queue = PairQueue(self.pairing.queue_size) if remembers else None
        return GuidedNetworks(branch, align_head, queue, None if self.ema is None else frozen_copy(branch))

    def losses(self, nets: GuidedNetworks, batch: Batch, at: At) -> StepLosses:
        weights = {name: at.weight(weight) for name, weight in self._term_weights().items()}
        if not any(weights.values()):
            (labeled,) = see(nets.student, [batch.image], self.mix.level)
            terms, metrics = self._labeled_terms(nets, labeled, batch, at), {}
        else:
            assert batch.unlabeled is not None
            view, region = self._student_view(batch.unlabeled, at)
            images = [batch.image, batch.unlabeled.weak, *([] if view is None else [view])]
            labeled, weak, *views = see(nets.student, images, self.mix.level)
            terms = self._labeled_terms(nets, labeled, batch, at)
            mixed = self._mix(nets, labeled, weak, batch, at, remember=True) if self.mix.level != "none" else None
            lesson = _Lesson(self, nets, batch, labeled, weak, views[0] if views else weak, region, mixed)
            terms |= {name: lesson.term(name) for name, weight in weights.items() if weight > 0}
            metrics = lesson.metrics
        weights |= {"supervised": 1.0, "alignment": at.weight(self.pairing.alignment_weight)}
        return StepLosses(terms, {name: weights[name] for name in terms}, metrics)
