"""Discriminators: of predicted masks beside their images, and of feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

Granularity = Literal["image", "region"]
Pool = Literal["adaptive", "released"]

MASK_STRIDE = 16
"""Of a mask discriminator's map."""
RELEASED_WINDOW = 20
PATCH_STRIDE = 8
"""Of a patch discriminator's verdicts."""


class MaskDiscriminator(nn.Module):
    """The discriminator of s4GAN (Mittal et al., TPAMI 2021, arXiv 1908.05724), which RRN has twice.

    It gives verdicts before the sigmoid, one an image or one a region of 16x16 pixels, and its last map, averaged.
    """

    def __init__(self, channels: int, dropout: float, granularity: Granularity, pool: Pool, width: int = 64) -> None:
        super().__init__()
        self.granularity: Granularity = granularity
        self.pool: Pool = pool
        self.convs = _halving([channels, width, 2 * width, 4 * width, 8 * width], dropout)
        self.verdict = nn.Conv2d(8 * width, 1, 1)  # on the average it is the linear layer of s4GAN

    def forward(self, shown: Float[Tensor, "N C H W"]) -> tuple[Float[Tensor, "N 1 h w"], Float[Tensor, "N D 1 1"]]:
        feature = self.convs(shown)
        # The released average of 20x20 fits the map of a crop of 321 pixels; of a larger one it is the upper left part.
        window = feature[..., :RELEASED_WINDOW, :RELEASED_WINDOW] if self.pool == "released" else feature
        pooled = window.mean((-2, -1), keepdim=True)
        return self.verdict(pooled if self.granularity == "image" else feature), pooled


class PatchDiscriminator(nn.Module):
    """Verdicts on the patches of a feature map, before the sigmoid."""

    def __init__(self, channels: int, width: int = 64) -> None:
        super().__init__()
        self.convs = _halving([channels, width, 2 * width, 4 * width], dropout=0.0)
        self.verdict = nn.Conv2d(4 * width, 1, 1)

    def forward(self, feature: Float[Tensor, "N D H W"]) -> Float[Tensor, "N 1 h w"]:
        return self.verdict(self.convs(feature))


def _halving(channels: Sequence[int], dropout: float) -> nn.Sequential:
    """Each convolution halves the map; between two, dropout of whole channels. No normalization."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(channels):
        layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        layers += [nn.Dropout2d(dropout)] if dropout else []
    return nn.Sequential(*(layers[:-1] if dropout else layers))
