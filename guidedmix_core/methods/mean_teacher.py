"""Mean Teacher, and on top of it CutMix and ClassMix.

Tarvainen and Valpola, NeurIPS 2017, arXiv 1703.01780. With CutMix: French et al., BMVC 2020, arXiv 1906.01916.
With ClassMix: Olsson et al., WACV 2021, arXiv 2007.07936. The algorithm, for labeled (x_l, y_l) and unlabeled x_u:

    p    = teacher(weak x_u)                          no gradient
    x, p = paste(region; x_u[partner], p[partner] onto strong x_u, p)
    L    = CE(student(x_l), y_l) + weight * loss(student(x), p where confident)
    teacher <- decay * teacher + (1 - decay) * student
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from guidedmix_core.batch import Batch, Pseudo, StepLosses, Views
from guidedmix_core.fields import Weight
from guidedmix_core.losses import mean_over_workers
from guidedmix_core.methods._teacher import StudentAndTeacher, TaughtByAverage, mixed
from guidedmix_core.mixing import CutMix
from guidedmix_core.pseudo import confident, confident_share, teach
from guidedmix_core.rng import At

Strong = Annotated[bool, Field(description="the student sees a strong view; false: the weak one")]
Mixer = Literal["none", "cutmix", "classmix"]
Partner = Annotated[
    Literal["next", "second_draw"],
    Field(description="whom an image is mixed with: the batch's next one, or one of a second, independent draw"),
]
Loss = Annotated[
    Literal["ce", "mse", "sse"],
    Field(
        description="against the label, or between probabilities: mse is the mean over classes (the weight of CPS's "
        "mean teacher is then 100), sse the sum (CutMix-Seg)"
    ),
]
Normalized = Annotated[
    Literal["valid", "all", "fraction"],
    Field(
        description="divide by the pixels that exist (UniMatch) or all (AugSeg); fraction: teach every pixel, times "
        "the share of confident ones (ClassMix, CutMix-Seg)"
    ),
]


class MeanTeacher(TaughtByAverage):
    """The student's average teaches it: confident pseudo masks of weak views, learned on strong, mixed ones."""

    strong: Strong = True
    mixer: Mixer = "cutmix"
    partner: Partner = "next"
    cutmix: CutMix = CutMix()
    loss: Loss = "ce"
    normalize: Normalized = "valid"
    weight: Weight = Field(1.0, description="of the unlabeled term")

    def views(self) -> Views:
        second = self.mixer != "none" and self.partner == "second_draw"
        return Views(unlabeled=True, strong=int(self.strong), partner=second)

    def losses(self, nets: StudentAndTeacher, batch: Batch, at: At) -> StepLosses:
        weight = at.weight(self.weight)
        if weight == 0:
            return self.alone(nets, batch)
        image, pseudo = self._lesson(nets, batch, at)
        labeled, unlabeled = self.see(nets, batch.image, image)
        terms = {
            "supervised": self.labeled.loss(labeled, batch.mask),
            "unlabeled": self._unlabeled(unlabeled, pseudo),
        }
        kept = confident_share(pseudo, self.threshold)
        return StepLosses(terms, {"supervised": 1.0, "unlabeled": weight}, {"kept": kept})

    def _lesson(self, nets: StudentAndTeacher, batch: Batch, at: At) -> tuple[Float[Tensor, "U C H W"], Pseudo]:
        """What the student looks at, and what the teacher claims of it."""
        assert batch.unlabeled is not None
        pseudo = self.claim(nets, batch.unlabeled.weak, batch.unlabeled.valid)
        image = batch.unlabeled.strong[0] if self.strong else batch.unlabeled.weak
        if self.mixer == "none":
            return image, pseudo
        other = None
        if batch.partner is not None:
            shown = batch.partner.strong[0] if self.strong else batch.partner.weak
            other = shown, self.claim(nets, batch.partner.weak, batch.partner.valid)
        return mixed(image, pseudo, self.mixer, self.cutmix, at, other)

    def _unlabeled(self, logits: Float[Tensor, "U K H W"], pseudo: Pseudo) -> Float[Tensor, ""]:
        rule = {"loss": self.loss, "soft": self.loss != "ce"}
        if self.normalize == "fraction":
            everywhere = torch.ones_like(pseudo.confidence)
            share = mean_over_workers(confident_share(pseudo, self.threshold))
            return share * teach(logits, pseudo, everywhere, **rule, normalize="all")
        return teach(logits, pseudo, confident(pseudo, self.threshold).float(), **rule, normalize=self.normalize)
