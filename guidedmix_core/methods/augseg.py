"""AugSeg: augmentation alone. Zhao et al., CVPR 2023, arXiv 2212.04976. Checked against the released code:

    p, c   = teacher(weak x_u), mean over pixels of max p * (1 - entropy p / log K)
    x', p' = strong x_u, p;  with probability 1 - c a box (mean area 0.2) of the labeled image j(i) and its mask
    x, p   = strong x_u, p;  a box (mean area 0.5) of x', p' of image j(i)          one permutation j for both
    L      = CE(f(x_l), y_l) + CE(f(x), p) where confident, by all pixels             one batch

Its strong view is `augment: {strong: intensity}`. There the teacher is a copy of the student during the whole first
epoch, and an average from then on; here it is one from the first step (`ramp_decay`).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from guidedmix_core.batch import Batch, Pseudo, StepLosses, Views
from guidedmix_core.fields import Weight
from guidedmix_core.losses import Normalize
from guidedmix_core.methods._teacher import Decay, StudentAndTeacher, TaughtByAverage
from guidedmix_core.mixing import beta_boxes, mix_pseudo, paste
from guidedmix_core.pseudo import confident, confident_share, known, teach
from guidedmix_core.rng import At
from guidedmix_core.transfer import sent

INJECTED, PASTED = (8, 2), (4, 4)
"""The Beta distributions of what a box leaves of its image."""


class AugSeg(TaughtByAverage):
    """Mean teacher with random intensities, and labeled pixels injected where the teacher is unsure."""

    decay: Decay = 0.999
    weight: Weight = Field(1.0, description="of the unlabeled term")
    normalize: Normalize = Field("all", description="what it is divided by: all pixels, or those that exist")
    cutmix: bool = Field(True, description="false: the strong view as it is, nothing pasted or injected")
    inject_labels: bool = Field(True, description="false: plain CutMix among the unlabeled images")

    def views(self) -> Views:
        return Views(unlabeled=True, strong=1)

    def losses(self, nets: StudentAndTeacher, batch: Batch, at: At) -> StepLosses:
        weight = at.weight(self.weight)
        if weight == 0:
            return self.alone(nets, batch)
        image, pseudo = self._lesson(nets, batch, at)
        labeled, unlabeled = self.see(nets, batch.image, image)
        kept = confident(pseudo, self.threshold).float()
        terms = {
            "supervised": self.labeled.loss(labeled, batch.mask),
            "unlabeled": teach(unlabeled, pseudo, kept, loss="ce", normalize=self.normalize),
        }
        share = confident_share(pseudo, self.threshold)
        return StepLosses(terms, {"supervised": 1.0, "unlabeled": weight}, {"kept": share})

    def _lesson(self, nets: StudentAndTeacher, batch: Batch, at: At) -> tuple[Float[Tensor, "U C H W"], Pseudo]:
        """What the student looks at, and what is claimed of it."""
        assert batch.unlabeled is not None
        (image,) = batch.unlabeled.strong
        pseudo = self.claim(nets, batch.unlabeled.weak, batch.unlabeled.valid)
        if not self.cutmix:
            return image, pseudo
        count, size, device = len(image), (image.shape[-2], image.shape[-1]), image.device
        partner = sent(torch.randperm(count, generator=at.generator("partner")), device)
        source, claimed = image, pseudo
        if self.inject_labels:
            draws = sent(torch.rand(count, generator=at.generator("inject")), device)
            region = beta_boxes(at.generator("inject/box"), count, size, INJECTED, device)
            region = region & (draws > certainty(pseudo)).view(-1, 1, 1)
            labeled = partner % len(batch.image)
            source = paste(batch.image[labeled], image, region)
            claimed = mix_pseudo(known(batch.mask[labeled]), pseudo, region)
        region = beta_boxes(at.generator("cutmix"), count, size, PASTED, device)
        return paste(source[partner], image, region), mix_pseudo(claimed.take(partner), pseudo, region)


def certainty(pseudo: Pseudo) -> Float[Tensor, "N"]:
    """How sure of an image as a whole: the mean of confidence times 1 - normalized entropy, in [0, 1]."""
    assert pseudo.probability is not None
    entropy = -torch.xlogy(pseudo.probability, pseudo.probability).sum(1) / math.log(pseudo.probability.shape[1])
    return (pseudo.confidence * (1 - entropy)).mean((1, 2))
