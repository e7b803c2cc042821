"""A small convolutional network for tests and demonstrations on a CPU. It starts from random weights."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from guidedmix_core.backbones import Backbone, Pyramid
from guidedmix_core.modules.conv import Norm, conv, conv_block, normalization

STRIDES = (2, 4, 8, 16)


class Tiny(Backbone):
    """Four stages of 1, 2, 4 and 4 times the width; the last two have a residual block."""

    width: int = Field(16, ge=1, description="channels at stride 2")
    output_stride: Literal[4, 8, 16] = Field(8, description="of the last map; what is not strided is dilated instead")
    norm: Norm = Field("batch", description="none: without normalization, for exact comparisons")

    def build(self) -> Pyramid:
        return _Network(self.width, self.output_stride, self.norm)


class _Network(Pyramid):
    def __init__(self, width: int, output_stride: int, norm: Norm) -> None:
        super().__init__()
        self.channels = (width, 2 * width, 4 * width, 4 * width)
        self.strides = tuple(min(stride, output_stride) for stride in STRIDES)
        self.levels = nn.ModuleList()
        inputs, before = 3, 1
        for outputs, stride, undilated in zip(self.channels, self.strides, STRIDES, strict=True):
            dilation = undilated // stride
            enter = conv_block(inputs, outputs, norm=norm, stride=stride // before, dilation=dilation)
            level = nn.Sequential(enter, Residual(outputs, dilation, norm)) if undilated >= 8 else enter
            self.levels.append(level)
            inputs, before = outputs, stride

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
