"""What labeled images teach, in every method."""

from __future__ import annotations

from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from guidedmix_core.components import Config
from guidedmix_core.losses import Normalize, cross_entropy, hardest


class Labeled(Config):
    """Cross entropy on the labeled pixels."""

    normalize: Normalize = Field("valid", description="divide by the pixels that have a class, or by all (mmseg)")
    ohem: float | None = Field(
        None,
        gt=0,
        le=1,
        description="online hard example mining: pixels whose own class has a greater probability teach nothing "
        "(0.7 on Cityscapes in CPS, U2PL, UniMatch; everywhere in PCR); null: off",
    )
    ohem_min_kept: int = Field(
        100_000,
        ge=1,
        description="of a worker's pixels at least so many teach, the hardest ones: 50 000 an image (CPS), 100 000 "
        "(U2PL, PCR, AugSeg), 200 000 (UniMatch); scale it with batch and crop",
    )

    def loss(self, logits: Float[Tensor, "B K H W"], mask: Int[Tensor, "B H W"]) -> Float[Tensor, ""]:
        if self.ohem is not None:
            mask = hardest(logits, mask, self.ohem, self.ohem_min_kept)
        return cross_entropy(logits, mask, normalize=self.normalize)
