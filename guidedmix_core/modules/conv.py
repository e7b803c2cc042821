"""Convolution, normalization, ReLU: the block all heads are made of."""

from __future__ import annotations

from typing import Literal

from torch import nn

Norm = Literal["batch", "group", "none"]


def conv_block(
    inputs: int, outputs: int, kernel: int = 3, *, norm: Norm = "batch", dilation: int = 1, stride: int = 1
) -> nn.Sequential:
    """A convolution that keeps the size (divided by the stride), normalization and ReLU."""
    return nn.Sequential(
        conv(inputs, outputs, kernel, norm=norm, dilation=dilation, stride=stride),
        normalization(norm, outputs),
        nn.ReLU(inplace=True),
    )


def conv(
    inputs: int, outputs: int, kernel: int = 3, *, norm: Norm = "batch", dilation: int = 1, stride: int = 1
) -> nn.Conv2d:
    """The convolution of `conv_block`, with a bias only if no normalization follows. Kaiming's weights, fan out."""
    padding = dilation * (kernel // 2)
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=norm == "none")
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def point_conv(inputs: int, outputs: int, std: float = 0.01) -> nn.Conv2d:
    """A 1x1 convolution with bias and small normal weights: a classifier, an embedding."""
    layer = nn.Conv2d(inputs, outputs, 1)
    nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]
    return layer


def normalization(norm: Norm, channels: int) -> nn.Module:
    """The layer after a convolution."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(num_groups(channels), channels) if norm == "group" else nn.Identity()


def num_groups(channels: int) -> int:
    """At most 32, and at least 4 channels in each: a group of one channel would erase a map of one pixel."""
    return max(
        groups for groups in (1, 2, 4, 8, 16, 32) if channels % groups == 0 and (groups == 1 or channels // groups >= 4)
    )
