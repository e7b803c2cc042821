"""SupMix and SUFD, reconstructed: labeled classes are pasted into unlabeled images, whose features are to look labeled.

Mano, Saito, Hotta, Accuracy Improvement of Semi-Supervised Segmentation Using Supervised ClassMix and Sup-Unsup
Feature Discriminator, VISAPP 2025, arXiv 2604.07122. Only the abstract was read: the paste of labeled classes with
their pixels and labels, chosen by hand, and a discriminator of feature maps are theirs; the base method, all
architectures, losses, weights and schedules are ours. Never report a run as a reproduction of their tables.
With f the student, F its map at a tap, g its average, x_g a labeled image drawn for each unlabeled one:

    M    = where y_g has a class that is pasted
    x, y = paste(M; x_g, y_g onto x_u, argmax g(x_u)), then maybe ClassMix or CutMix with the next unlabeled image
    L    = CE(f(x_l), y_l) + weight * CE(f(x), y) where labeled or confident + adversarial_weight * deceive(D(F(x)))
    L_D  = tell_apart(D(F(x_l)), D(F(x)))
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor
from torch.optim import Optimizer

from guidedmix_core.adversary import Contest, Opponent, deceive, judge, judged_right, tell_apart
from guidedmix_core.batch import IGNORE, Batch, Pseudo, StepLosses, Views
from guidedmix_core.errors import ConfigError, nearest
from guidedmix_core.fields import Ramp, Tuple, Weight, is_off
from guidedmix_core.methods import Build
from guidedmix_core.methods._teacher import StudentAndTeacher, TaughtByAverage, mixed
from guidedmix_core.mixing import CutMix, mix_pseudo, paste, supmix_regions
from guidedmix_core.modules.discriminator import PATCH_STRIDE, PatchDiscriminator
from guidedmix_core.optimizers import backbone_and_head, make_optimizer
from guidedmix_core.pairing import random_guides
from guidedmix_core.pseudo import confident, confident_share, known, teach
from guidedmix_core.rng import At
from guidedmix_core.sections import Optim
from guidedmix_core.segmentors import SegmentationNetwork
from guidedmix_core.transfer import sent


class SupMixNetworks(StudentAndTeacher):
    """Student and average; the discriminator of features, if there is one; and which classes are pasted."""

    pasted: Bool[Tensor, " K"]

    def __init__(
        self, student: SegmentationNetwork, discriminator: PatchDiscriminator | None, pasted: Bool[Tensor, " K"]
    ) -> None:
        super().__init__(student)
        self.discriminator = discriminator
        self.register_buffer("pasted", pasted)


class SupMix(TaughtByAverage):
    """A mean teacher with labeled classes pasted into its lessons, and a discriminator between their features."""

    strong: bool = Field(
        True,
        description="the student sees a strong view; false: the weak one. What is pasted keeps the labeled image's "
        "colors (ours: in ClassMix they change after mixing)",
    )
    rule: Literal["all_selected", "half_random", "none"] = Field(
        "all_selected",
        description="what is pasted of a labeled image: all of its classes that are among `classes`; half of these, "
        "rounded down, as in ClassMix (nothing of a single one); nothing",
    )
    classes: Annotated[tuple[str, ...], Tuple, Field(min_length=1)] | None = Field(
        None, description="names of the classes that are pasted; null: all but the first that are rare enough"
    )
    rare_below: float = Field(
        1.0,
        gt=0,
        le=1,
        description="without `classes`: paste those with less than this share of the labeled pixels, counted once in "
        "center crops; 1: all but the first class (ours)",
    )
    mix_unlabeled: Literal["none", "classmix", "cutmix"] = Field(
        "none", description="what then happens between each unlabeled image and the batch's next one"
    )
    cutmix: CutMix = CutMix()
    weight: Weight = Field(1.0, description="of the unlabeled term (ours)")
    adversarial_weight: Weight = Field(
        Ramp(final=0.005, until=0.25), description="of looking labeled, the student's side of SUFD (ours); 0: no SUFD"
    )
    contest: Contest = Field("bce", description="the loss of SUFD's two sides (ours)")
    tap: str = Field("decoder", description="the map that the discriminator sees, one of the segmentor's taps (ours)")
    feature_view: Literal["mixed", "weak"] = Field(
        "mixed", description="the unlabeled images it sees: those that the student learns on, or the weak views (ours)"
    )
    real_label: float = Field(1.0, gt=0, le=1, description="0.9: smoothed on one side; not of a hinge (ours)")
    discriminator: Opponent = Opponent()

    def check(self, run) -> None:
        names = run.data.classes().names
        for name in self.classes or ():
            if name not in names:
                raise ValueError(f"method.classes: no class {name!r} in data {run.data.name!r}; {nearest(name, names)}")
        if not is_off(self.adversarial_weight):
            run.segmentor.check_tap(self.tap, "method.tap")

    def views(self) -> Views:
        return Views(unlabeled=True, strong=int(self.strong))

    def networks(self, build: Build) -> SupMixNetworks:
        student, discriminator = build.segmentor("student"), None
        if not is_off(self.adversarial_weight):
            discriminator = build.module("discriminator", lambda: PatchDiscriminator(student.channels[self.tap]))
        foreground = build.class_names[1:] if self.classes is None else self.classes
        pasted = torch.tensor([name in foreground for name in build.class_names])
        return SupMixNetworks(student, discriminator, pasted)

    def players(self, nets: SupMixNetworks, optim: Optim) -> dict[str, Optimizer]:
        players: dict[str, Optimizer] = {"student": make_optimizer(optim, backbone_and_head(nets.student, optim))}
        if nets.discriminator is not None:
            players["discriminator"] = self.discriminator.optimizer(nets.discriminator)
        return players

    def prepare(self, nets: SupMixNetworks, labeled: Iterator[Batch], at: At) -> None:
        if self.classes is not None or self.rare_below == 1:
            return
        counts = torch.zeros_like(nets.pasted, dtype=torch.long)
        for batch in labeled:
            counts += torch.bincount(batch.mask.flatten(), minlength=IGNORE + 1)[: len(counts)]
        share = counts / counts.sum()
        nets.pasted &= share < self.rare_below
        if not (nets.pasted & (counts > 0)).any():
            shares = ", ".join(f"{value:.2g}" for value in share.tolist())
            raise ConfigError(
                f"method.rare_below={self.rare_below}: no class of the labeled images is; they have {shares}"
            )

    def losses(self, nets: SupMixNetworks, batch: Batch, at: At) -> StepLosses:
        named = {"unlabeled": self.weight, "adversarial": self.adversarial_weight}
        weights = at.weights({"supervised": 1.0, **named, "discriminator": float(nets.discriminator is not None)})
        if weights.keys() == {"supervised"}:
            return self.alone(nets, batch)
        assert batch.unlabeled is not None
        image, pseudo, metrics = self.lesson(nets, batch, at)
        looks_twice = nets.discriminator is not None and self.feature_view == "weak"
        shown = torch.cat([image, batch.unlabeled.weak]) if looks_twice else image
        tap = "logits" if nets.discriminator is None else self.tap
        (labeled, of_labeled), (unlabeled, of_shown) = self.read(nets, batch.image, shown, tap)
        terms = {"supervised": self.labeled.loss(labeled, batch.mask)}
        if "unlabeled" in weights:
            kept = confident(pseudo, self.threshold).float()
            terms["unlabeled"] = teach(unlabeled[: len(image)], pseudo, kept, loss="ce")
            metrics["kept"] = confident_share(pseudo, self.threshold)
        if nets.discriminator is not None:
            self._check_map(of_labeled)
            of_unlabeled = of_shown[-len(image) :]
            if "adversarial" in weights:
                terms["adversarial"] = deceive(judge(nets.discriminator, of_unlabeled), self.contest)
            real, fake = nets.discriminator(of_labeled.detach()), nets.discriminator(of_unlabeled.detach())
            terms["discriminator"] = tell_apart(real, fake, self.contest, self.real_label)
            metrics["discriminator_accuracy"] = judged_right(real, fake, self.contest)
        return StepLosses(terms, weights, metrics)

    def _check_map(self, feature: Float[Tensor, "B D h w"]) -> None:
        if min(height := feature.shape[-2], width := feature.shape[-1]) < PATCH_STRIDE:
            raise ConfigError(
                f"method.tap={self.tap}: its map is {height}x{width}, and the discriminator halves it three times; "
                "expected at least 8x8: choose a finer tap, or a larger augment.crop"
            )

    def lesson(
        self, nets: SupMixNetworks, batch: Batch, at: At
    ) -> tuple[Float[Tensor, "U C H W"], Pseudo, dict[str, Float[Tensor, ""]]]:
        """What the student looks at, what is claimed of it, and how much of it is labeled."""
        assert batch.unlabeled is not None
        pseudo = self.claim(nets, batch.unlabeled.weak, batch.unlabeled.valid)
        image, metrics = batch.unlabeled.strong[0] if self.strong else batch.unlabeled.weak, {}
        if self.rule != "none":
            guide = sent(random_guides(at.generator("supmix/pairs"), len(batch.image), len(image)), image.device)
            half = at.generator("supmix/classes") if self.rule == "half_random" else None
            truth = batch.mask[guide]
            region = supmix_regions(truth, nets.pasted, half)
            image, pseudo = paste(batch.image[guide], image, region), mix_pseudo(known(truth), pseudo, region)
            metrics["pasted"] = region.float().mean()
        if self.mix_unlabeled != "none":
            image, pseudo = mixed(image, pseudo, self.mix_unlabeled, self.cutmix, at)
        return image, pseudo, metrics
