"""What U2PL and its descendants share: CutMix between neighbors of weak views, a filter of pixels, a divisor."""

from __future__ import annotations

from typing import Annotated, Literal

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from guidedmix_core.batch import Batch, Pseudo, Views
from guidedmix_core.entropy import entropy, quantile
from guidedmix_core.fields import Weight
from guidedmix_core.losses import average, count_over_workers
from guidedmix_core.methods._teacher import StudentAndTeacher, TaughtByAverage, Threshold, mixed
from guidedmix_core.mixing import CutMix
from guidedmix_core.pseudo import confident
from guidedmix_core.rng import At

Filter = Annotated[
    Literal["confidence", "entropy"],
    Field(
        description="which pixels teach: those claimed with at least the threshold's probability, or all but the "
        "unreliable share"
    ),
]
Divisor = Annotated[
    Literal["valid", "selected", "selected_scaled"],
    Field(
        description="divide the sum over the pixels that teach by those that exist (UniMatch) or by themselves; "
        "selected_scaled: the latter times all pixels by those that teach, so the term grows when few do (U2PL)"
    ),
]


HALF = CutMix(area=(0.5, 0.5), aspect=(0.5, 2.0), whole_batch=True)
"""U2PL's box: half of the image. There its width is drawn uniformly, here in the logarithm."""


class TaughtOnCutMix(TaughtByAverage):
    """The average labels weak views; where they pass the filter, they teach the student on their mixtures."""

    threshold: Threshold = 0.8
    strong: bool = Field(False, description="the student sees a strong view; false: the weak one, as published")
    mixer: Literal["none", "cutmix"] = Field("cutmix", description="an image is mixed with the batch's next one")
    cutmix: CutMix = HALF
    filter: Filter = "confidence"
    unreliable_share: float = Field(
        0.2,
        ge=0,
        le=1,
        description="of the pixels, those with the greatest entropy, which filter entropy drops at the first step; "
        "falls linearly to 0 at the last",
    )
    normalize: Divisor = "valid"
    weight: Weight = Field(1.0, description="of the unlabeled term")

    def views(self) -> Views:
        return Views(unlabeled=True, strong=int(self.strong))

    def kept(self, pseudo: Pseudo, at: At) -> Bool[Tensor, "U H W"]:
        if self.filter == "confidence":
            return confident(pseudo, self.threshold)
        share = self.unreliable_share * (1 - at.progress)
        if share == 0:
            return pseudo.valid
        unsure = entropy(_probability(pseudo))
        return pseudo.valid & (unsure < quantile(unsure, pseudo.valid, 1 - share))

    def lesson(self, nets: StudentAndTeacher, batch: Batch, at: At) -> tuple[Float[Tensor, "U C H W"], Pseudo]:
        """What the student looks at, and what the teacher claims of it."""
        assert batch.unlabeled is not None
        pseudo = self.claim(nets, batch.unlabeled.weak, batch.unlabeled.valid)
        image = batch.unlabeled.strong[0] if self.strong else batch.unlabeled.weak
        if self.mixer == "none":
            return image, pseudo
        return mixed(image, pseudo, self.mixer, self.cutmix, at)


def taught_loss(
    logits: Float[Tensor, "N K H W"],
    label: Int[Tensor, "N H W"],
    kept: Bool[Tensor, "N H W"],
    valid: Bool[Tensor, "N H W"],
    divisor: Divisor,
) -> Float[Tensor, ""]:
    """Cross entropy with the labels that are kept. 0 and connected where none is."""
    pixels = F.cross_entropy(logits.float(), label, reduction="none")
    if divisor == "valid":
        return average(pixels, valid, weight=kept.float())
    mean = average(pixels, kept)
    return mean if divisor == "selected" else mean * (kept.numel() / count_over_workers(kept.sum()))


def _probability(pseudo: Pseudo) -> Float[Tensor, "N K H W"]:
    assert pseudo.probability is not None
    return pseudo.probability
