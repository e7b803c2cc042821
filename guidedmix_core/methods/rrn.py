"""RRN, the region relevance network: cross pseudo supervision, and two discriminators that choose what is believed.

Chen, Chen, Wang, Yao, Semi-Supervised Semantic Segmentation with Region Relevance, arXiv 2304.11539. Released code:
NUST-Machine-Intelligence-Laboratory/TorchSemiSeg2, for Pascal VOC. On top of CPS with CutMix, each branch f_i has a
discriminator D_i, that of s4GAN (Mittal et al., TPAMI 2021, arXiv 1908.05724). With p_i what f_i says of the mixed
images x, v_i = (softmax p_i, x), v = (one-hot y_l, x_l), and phi_i the last map of D_i, averaged:

    L   = CPS + sum over i, j the other one, of
            w_fm * mean |mean phi_i(v) - mean phi_i(v_i)|                     feature matching
          + w_ls * CE(p_i, argmax p_i) where D_i(v_i) > threshold             local selection
          + w_dr * CE(p_i, argmax p_i) where D_j(v_i) > threshold             dynamic region
    L_D = sum over i of (BCE(D_i(v_i), 0) + BCE(D_i(v), 1)) / 2

This is what the released code does. Of the paper only the abstract was read: which of its two losses is which term
is our reading, and where it says regions, the code judges whole images (`granularity`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.optim import Optimizer

from guidedmix_core.adversary import Opponent, judge, judged_right, tell_apart
from guidedmix_core.batch import IGNORE, Batch, StepLosses
from guidedmix_core.ema import in_mode
from guidedmix_core.fields import Weight, is_off
from guidedmix_core.losses import cross_entropy, mean_over_workers
from guidedmix_core.methods import Build
from guidedmix_core.methods.cps import CPS, Evaluated, Lesson, Peers
from guidedmix_core.modules.discriminator import MASK_STRIDE, RELEASED_WINDOW, Granularity, MaskDiscriminator, Pool
from guidedmix_core.pseudo import one_hot, shrink
from guidedmix_core.rng import At
from guidedmix_core.sections import Optim

PURPOSES = ("student_discriminator", "peer_discriminator")
Scalars = dict[str, Float[Tensor, ""]]


@dataclass(frozen=True)
class Case:
    """What one branch says of the lesson, and what discriminators are shown: that, and labels."""

    logits: Float[Tensor, "U K H W"]
    lesson: Lesson
    fake: Float[Tensor, "U C H W"]
    real: Float[Tensor, "B C H W"]


class JudgedPeers(Peers):
    """`discriminators[i]` is trained on branch i and on labels; there is none if no term asks one."""

    def __init__(self, peers: Peers, discriminators: list[MaskDiscriminator]) -> None:
        super().__init__(*peers.branches)
        self.discriminators = nn.ModuleList(discriminators)


class RRN(CPS):
    """CPS whose branches also believe themselves where a discriminator takes their masks for true ones."""

    evaluate: Evaluated = "mean"
    feature_matching_weight: Weight = 0.1
    local_selection_weight: Weight = Field(
        1.0,
        description="of self-training where a branch's own discriminator believes it; that this is the paper's local "
        "selection is our reading",
    )
    dynamic_region_weight: Weight = Field(
        1.0,
        description="of self-training where the other one does, which is not trained on this branch; that this is the "
        "paper's dynamic region is our reading",
    )
    threshold: float = Field(
        0.6, ge=0, le=1, description="a verdict above it is belief: 0.6 (VOC), 0.7 (s4GAN's Cityscapes); 1: never"
    )
    start: int | float = Field(
        0.03,
        ge=0,
        description="of the two self-training terms: a step, or a share of the run if it is no integer "
        "(released: after the first of 32 epochs)",
    )
    granularity: Granularity = Field(
        "image", description="a verdict for each image (released), or for each 16x16 pixels (ours, after the abstract)"
    )
    pool: Pool = Field(
        "adaptive",
        description="what a discriminator averages of its map: all (ours), or the first 20x20 places (released; of a "
        "crop of 512 pixels the upper left 39 %)",
    )
    score_mode: Literal["train", "eval"] = Field(
        "train", description="dropout of the discriminators while they judge; train: on, as released"
    )
    shown_image: Literal["unit", "minmax_batch"] = Field(
        "unit",
        description="the image beside the mask: in [0, 1] (ours), or stretched to it from the least and greatest value "
        "of the batch on this device (released; there after the normalization by mean and deviation)",
    )
    width: int = Field(64, ge=1, description="channels after the first of the discriminators' four convolutions")
    dropout: float = Field(0.5, ge=0, lt=1, description="share of channels, after all but the last convolution")
    discriminator: Opponent = Field(Opponent(), description="s4GAN's learning rate is 1e-4, on Cityscapes 1e-5")

    @model_validator(mode="after")
    def _starts_in_the_run(self) -> RRN:
        if isinstance(self.start, float) and self.start > 1:
            raise ValueError(f"method.start={self.start}: expected a step (an integer) or a share in [0, 1]")
        return self

    def check(self, run) -> None:
        if not self._judges():
            return
        crop = f"augment.crop={list(run.augment.crop)}"
        height, width = sides = [side // MASK_STRIDE for side in run.augment.crop]
        if min(sides) < 1:
            raise ValueError(f"{crop}: the discriminators halve it four times; expected at least 16 pixels a side")
        if self.pool == "released" and not all(RELEASED_WINDOW <= side < 2 * RELEASED_WINDOW for side in sides):
            raise ValueError(
                f"{crop}: method.pool=released reads one window of 20x20 of the discriminators' map, which is "
                f"{height}x{width}; expected 320 to 639 pixels a side, or use method.pool: adaptive"
            )

    def networks(self, build: Build) -> JudgedPeers:
        def make() -> MaskDiscriminator:
            return MaskDiscriminator(build.num_classes + 3, self.dropout, self.granularity, self.pool, self.width)

        purposes = PURPOSES if self._judges() else ()
        return JudgedPeers(super().networks(build), [build.module(purpose, make) for purpose in purposes])

    def players(self, nets: JudgedPeers, optim: Optim) -> dict[str, Optimizer]:
        own = zip(PURPOSES, nets.discriminators, strict=False)
        return {**super().players(nets, optim), **{name: self.discriminator.optimizer(net) for name, net in own}}

    def losses(self, nets: JudgedPeers, batch: Batch, at: At) -> StepLosses:
        if not nets.discriminators:
            return super().losses(nets, batch, at)
        lesson, weights = self.lesson(batch, at), self._adversarial_weights(at)
        losses, said = self.cross(nets, batch, lesson, at)
        nothing = batch.image.new_zeros(len(batch.mask), said[0].shape[1], *batch.mask.shape[1:])
        real = self._shown(one_hot(batch.mask, nothing), batch.image)
        fakes = [self._shown(logits.float().softmax(1), lesson.image) for logits in said]
        cases = [Case(logits, lesson, fake, real) for logits, fake in zip(said, fakes, strict=True)]
        (terms, metrics), (others, more) = (self._judged(nets, i, cases[i], weights, at) for i in (0, 1))
        terms = {**losses.terms, **{name: term + others[name] for name, term in terms.items()}}
        metrics = {**losses.metrics, **{name: (value + more[name]) / 2 for name, value in metrics.items()}}
        return StepLosses(terms, {**losses.weights, **weights}, metrics)

    def _judged(
        self, nets: JudgedPeers, i: int, case: Case, wanted: Collection[str], at: At
    ) -> tuple[Scalars, Scalars]:
        """The terms of branch i and of its discriminator, and metrics. Where one learns, the other is constant."""
        terms: Scalars = {}
        metrics: Scalars = {}
        matches = "feature_matching" in wanted
        if matches or "local_selection" in wanted:
            shown = case.fake if matches else case.fake.detach()
            verdicts, feature = self._verdict(nets, i, shown, f"branch {i}", at)
            if matches:
                _, of_real = self._verdict(nets, i, case.real, "labels", at)
                terms["feature_matching"] = _distance(of_real, feature)
            if "local_selection" in wanted:
                terms["local_selection"], metrics["selected"] = self._believe(case, verdicts)
        if "dynamic_region" in wanted:
            verdicts, _ = self._verdict(nets, 1 - i, case.fake.detach(), f"branch {i}", at)
            terms["dynamic_region"], metrics["selected_by_other"] = self._believe(case, verdicts)
        with at.ambient(f"discriminator {i} learns", case.real.device):
            (of_real, _), (of_fake, _) = nets.discriminators[i](case.real), nets.discriminators[i](case.fake.detach())
        terms["discriminator"] = tell_apart(of_real, of_fake)
        scores = {"score_real": of_real, "score_fake": of_fake}
        metrics |= {name: verdicts.detach().float().sigmoid().mean() for name, verdicts in scores.items()}
        return terms, {**metrics, "discriminator_accuracy": judged_right(of_real, of_fake)}

    def _verdict(
        self, nets: JudgedPeers, which: int, shown: Float[Tensor, "N C H W"], of: str, at: At
    ) -> tuple[Float[Tensor, "N 1 h w"], Float[Tensor, "N D 1 1"]]:
        """What a discriminator says, and its averaged map. Gradients lead to what it is shown."""
        own = nets.discriminators[which]
        with (
            in_mode(own, training=self.score_mode == "train"),
            at.ambient(f"discriminator {which} of {of}", shown.device),
        ):
            return judge(own, shown)

    def _believe(self, case: Case, verdicts: Float[Tensor, "U 1 h w"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Cross entropy with the branch's own classes where the verdict is good, and the share of such pixels.

        0 and connected if there is none. The target is the prediction on the mixed image, not CPS's mixed claim.
        """
        logits, valid = case.logits, case.lesson.valid
        believed = (verdicts.detach().float().sigmoid() > self.threshold).squeeze(1)
        kept = shrink(believed, (logits.shape[-2], logits.shape[-1])) & valid
        return cross_entropy(logits, logits.detach().argmax(1).masked_fill(~kept, IGNORE)), kept.float().mean()

    def _shown(self, mask: Float[Tensor, "N K H W"], image: Float[Tensor, "N C H W"]) -> Float[Tensor, "N _ H W"]:
        """A mask, as probabilities, beside its image."""
        if self.shown_image == "minmax_batch":
            least, greatest = image.aminmax()
            image = (image - least) / (greatest - least).clamp(min=torch.finfo(image.dtype).tiny)
        return torch.cat([mask, image], 1)

    def _adversarial_weights(self, at: At) -> dict[str, float]:
        """Of the terms that are computed at this step. The discriminators learn from the first step on."""
        begun = (at.step if isinstance(self.start, int) else at.progress) >= self.start
        named = {"feature_matching": self.feature_matching_weight, "discriminator": 1.0}
        chosen = {"local_selection": self.local_selection_weight, "dynamic_region": self.dynamic_region_weight}
        return at.weights(named | chosen if begun else named)

    def _judges(self) -> bool:
        weights = (self.feature_matching_weight, self.local_selection_weight, self.dynamic_region_weight)
        return not all(map(is_off, weights))


def _distance(real: Float[Tensor, "B D 1 1"], fake: Float[Tensor, "U D 1 1"]) -> Float[Tensor, ""]:
    """Between the mean feature of both batches: the mean of absolute differences."""
    means = (mean_over_workers(feature.float().mean(0)) for feature in (real, fake))
    return torch.sub(*means).abs().mean()
