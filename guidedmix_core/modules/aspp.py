"""Atrous spatial pyramid pooling. Chen et al., Rethinking Atrous Convolution, arXiv 1706.05587."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from guidedmix_core.modules.conv import Norm, conv_block


class ASPP(nn.Module):
    """The branches, concatenated in the order pooled image, 1x1, each dilation: the order of mmseg's ASPPHead."""

    def __init__(self, inputs: int, channels: int, dilations: Sequence[int], norm: Norm) -> None:
        super().__init__()
        self.channels = channels * (len(dilations) + 2)
        self.pool = ImagePool(inputs, channels, norm)
        self.point = conv_block(inputs, channels, 1, norm=norm)
        self.dilated = nn.ModuleList(
            conv_block(inputs, channels, norm=norm, dilation=dilation) for dilation in dilations
        )

    def forward(self, c5: Float[Tensor, "N D h w"]) -> Float[Tensor, "N E h w"]:
        return torch.cat([self.pool(c5), self.point(c5), *(branch(c5) for branch in self.dilated)], dim=1)


class ImagePool(nn.Module):
    """The mean over the image, convolved and spread over the map again.

    In training, BatchNorm over one pooled image has nothing to normalize: ValueError.
    """

    def __init__(self, inputs: int, channels: int, norm: Norm) -> None:
        super().__init__()
        self.conv = conv_block(inputs, channels, 1, norm=norm)

    def forward(self, c5: Float[Tensor, "N D h w"]) -> Float[Tensor, "N E h w"]:
        # SyncBatchNorm, which counts the other workers' images, is no BatchNorm2d.
        if self.training and len(c5) == 1 and any(isinstance(layer, nn.BatchNorm2d) for layer in self.conv):
            raise ValueError(
                "a batch of 1 image in training: BatchNorm of the pooled image needs 2; use more images or norm: group"
            )
        pooled = self.conv(c5.mean(dim=(2, 3), keepdim=True))
        return pooled.expand(-1, -1, *c5.shape[2:])
