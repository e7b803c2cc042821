"""A head that gives each place of a map a vector to compare."""

from __future__ import annotations

from torch import nn

from guidedmix_core.modules.conv import Norm, conv_block


class Representation(nn.Sequential):
    """Two 3x3 convolutions and a linear one, as in U2PL (arXiv 2203.03884)."""

    def __init__(self, inputs: int, channels: int, norm: Norm, dropout: float) -> None:
        super().__init__(
            conv_block(inputs, channels, norm=norm),
            nn.Dropout2d(dropout),
            conv_block(channels, channels, norm=norm),
            nn.Dropout2d(dropout),
            nn.Conv2d(channels, channels, 1),
        )
