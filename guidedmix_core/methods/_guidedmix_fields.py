"""The sections of GuidedMix-Net's configuration.

What the abstracts leave open is ours. A description says what the released code does where the default differs.
"""

from __future__ import annotations

import logging
from typing import Literal

from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from guidedmix_core.batch import Pseudo
from guidedmix_core.components import Config
from guidedmix_core.fields import Ramp, Weight
from guidedmix_core.losses import Normalize
from guidedmix_core.modules.conv import Norm
from guidedmix_core.modules.mitrans import MITrans
from guidedmix_core.pairing import Similarity
from guidedmix_core.pseudo import Decoupling, PixelLoss, teach

Level = Literal["none", "image", "c5", "aspp"]

LARGE = 100_000_000  # parameters; a ResNet-101 has 45 million
_log = logging.getLogger(__name__)


class Mix(Config):
    """What is blended, and how much of it is labeled."""

    level: Level = Field(
        "image",
        description="images, or the maps at a tap (released code: aspp); none: the plain prediction teaches, "
        "and pairing, mitrans, head_mix and decouple have no subject",
    )
    lambda_max: float = Field(
        0.2, gt=0, le=0.5, description="the labeled share is uniform below this; released code 0.5"
    )


class Pairing(Config):
    """Which labeled image guides which unlabeled one."""

    mode: Similarity = Field("class_prob_l2", description="released code: random; the measures of similarity are ours")
    scope: Literal["batch", "queue"] = Field(
        "queue", description="choose among this batch's labeled images (one to one), or the last ones seen too"
    )
    queue_size: int = Field(64, ge=1, description="labeled crops remembered, for scope queue")
    alignment_weight: Weight = Field(
        0.1, description="of the classifier that reads the present classes from C5; class_prob_l2 compares its outputs"
    )
    align_backbone: bool = Field(
        False, description="the alignment term trains the backbone too, not only its classifier"
    )


class Refine(Config):
    """MITrans, in the mixed branch only."""

    depth: int = Field(1, ge=0, description="number of blocks; 0, as in every released configuration: none")
    where: Literal["pre_bottleneck", "post_bottleneck"] = Field(
        "post_bottleneck", description="on the context, or on the map before it (the concatenated ASPP: large)"
    )
    residual: Literal["none", "rezero"] = Field("rezero", description="rezero: x + gamma block(x), gamma is 0 at first")
    norm: Norm = Field("batch", description="of its convolutions; released block: none")

    def build(self, channels: int) -> MITrans:
        """New blocks. One before the bottleneck is large: 249 million parameters at 2560 channels."""
        module = MITrans(channels, self.depth, residual=self.residual, norm=self.norm)
        if (size := sum(parameter.numel() for parameter in module.parameters())) > LARGE:
            _log.warning("method.mitrans: %d million parameters at %d channels", size // 10**6, channels)
        return module


class Decouple(Config):
    """How the labeled image is taken out of the mixed prediction."""

    kind: Decoupling = Field(
        "logit",
        description="logit_sub: z_m - lam z_l (released code); logit: that over 1 - lam; "
        "probability: P_m - lam P_l, cut at 0 and normalized",
    )
    subtract: Literal["prediction", "truth"] = Field(
        "prediction", description="what is subtracted; the truth only from probabilities"
    )
    detach_labeled: bool = Field(True, description="what is subtracted carries no gradient; released code: it does")


class PseudoMask(Config):
    """Which of the target's pixels are taught."""

    target: Literal["hard", "soft"] = Field("hard", description="the most probable class, or all probabilities")
    threshold: float = Field(0.9, ge=0, le=1, description="a less probable pixel teaches nothing; 0: all do")
    keep_padding: bool = Field(False, description="padding is taught like any pixel, as in the released code")


class UnlabeledLoss(Config):
    """The term of the unlabeled images."""

    loss: PixelLoss = Field("ce", description="focal: sigmoid focal loss, the released code's `kl_loss`")
    weight: Weight = Field(Ramp(final=1.0, until=0.3), description="released code 10, paper unknown")
    normalize: Normalize = Field("all", description="divide by all pixels, or by those that exist")
    resolution: Literal["image", "logits"] = Field(
        "image", description="where it is computed: at the image's size, or at the classifier's own (released code)"
    )
    focal_alpha: float = Field(0.5, ge=0, le=1)
    focal_gamma: float = Field(0.5, ge=0)

    def of(
        self, logits: Float[Tensor, "N K h w"], pseudo: Pseudo, kept: Bool[Tensor, "N h w"], *, soft: bool
    ) -> Float[Tensor, ""]:
        """The loss of the logits against a pseudo mask."""
        rule = {"loss": self.loss, "soft": soft, "normalize": self.normalize}
        return teach(logits, pseudo, kept.float(), **rule, alpha=self.focal_alpha, gamma=self.focal_gamma)
