"""A small convolutional network for tests and demonstrations on a CPU. It starts from random weights."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from guidedmix_core.backbones import Backbone, Pyramid
from guidedmix_core.modules.conv import Norm, conv, conv_block, normalization


class Tiny(Backbone):
    """Four stages of width, 2, 4 and 4 times width; the last three begin with a residual block."""

    width: int = Field(16, ge=1, description="channels at stride 2")
    output_stride: Literal[4, 8, 16] = Field(8, description="of the last map; what is not strided is dilated instead")
    norm: Norm = Field("batch", description="none: without normalization, for exact comparisons")

    def build(self) -> Pyramid:
        return _Network(self.width, self.output_stride, self.norm)


class _Network(Pyramid):
    def __init__(self, width: int, output_stride: int, norm: Norm) -> None:
        super().__init__()
        self.channels = (width, 2 * width, 4 * width, 4 * width)
        self.strides = tuple(min(stride, output_stride) for stride in (2, 4, 8, 16))
        dilations = tuple(max(1, stride // output_stride) for stride in (2, 4, 8, 16))
        steps = [2, *(after // before for before, after in zip(self.strides, self.strides[1:], strict=False))]
        layers = zip((3, *self.channels), self.channels, steps, dilations, strict=False)
        first, *others = (
            conv_block(inputs, outputs, norm=norm, stride=step, dilation=dilation)
            for inputs, outputs, step, dilation in layers
        )
        residuals = (
            Residual(outputs, dilation, norm)
            for outputs, dilation in zip(self.channels[1:], dilations[1:], strict=True)
        )
        self.levels = nn.ModuleList([first, *(nn.Sequential(*pair) for pair in zip(others, residuals, strict=True))])

    def forward(self, image: Float[Tensor, "N C H W"]) -> list[Tensor]:
        maps = []
        for level in self.levels:
            image = level(image)
            maps.append(image)
        return maps


class Residual(nn.Module):
    """Two 3x3 convolutions around which the input passes."""

    def __init__(self, channels: int, dilation: int, norm: Norm) -> None:
        super().__init__()
        self.first = conv_block(channels, channels, norm=norm, dilation=dilation)
        self.second = nn.Sequential(
            conv(channels, channels, norm=norm, dilation=dilation), normalization(norm, channels)
        )

    def forward(self, feature: Float[Tensor, "N D h w"]) -> Float[Tensor, "N D h w"]:
        return F.relu(feature + self.second(self.first(feature)))
