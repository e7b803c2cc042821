"""A U-Net decoder on any backbone. Ronneberger et al., U-Net, MICCAI 2015, arXiv 1505.04597."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from guidedmix_core.modules.conv import Norm, conv_block
from guidedmix_core.modules.encoder import Encoder
from guidedmix_core.modules.stage import Classifier, Stage
from guidedmix_core.segmentors import SegmentationNetwork, Segmentor, resize


class UNet(Segmentor):
    """C5 is reduced to the context, which is enlarged level by level and joined with each map of the backbone."""

    taps: ClassVar[tuple[str, ...]] = ("c5", "context", "decoder", "logits")

    context_channels: int = Field(256, ge=1)
    decoder_channels: int = Field(
        32, ge=1, description="at the finest level; doubled at each coarser one, at most context_channels"
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="share of channels dropped before the classifier")
    norm: Norm = Field("batch", description="of the decoder")

    def build(self, num_classes: int) -> SegmentationNetwork:
        backbone = self.backbone.build()
        *skips, c5 = backbone.channels
        names = [f"skip{level}" for level in range(len(skips))]
        widths = [min(self.decoder_channels * 2**level, self.context_channels) for level in range(len(skips))]
        stages = {
            "c5": Encoder(self.backbone, backbone, {name: level for level, name in enumerate(names)}),
            "context": Stage("c5", "context", conv_block(c5, self.context_channels, norm=self.norm)),
            "decoder": _Decoder(
                self.context_channels,
                dict(zip(names, zip(skips, widths, strict=True), strict=True)),
                self.norm,
                self.align_corners,
            ),
            "logits": Stage("decoder", "logits", Classifier(widths[0], num_classes, self.dropout)),
        }
        channels = {"c5": c5, "context": self.context_channels, "decoder": widths[0], "logits": num_classes}
        return SegmentationNetwork(stages, channels, align_corners=self.align_corners)


class _Decoder(nn.Module):
    """From the context to the finest map; `levels` gives (width of the skip, width after it) by name, finest first."""

    def __init__(self, context: int, levels: dict[str, tuple[int, int]], norm: Norm, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.joins = nn.ModuleDict()
        width = context
        for name, (skip, after) in reversed(levels.items()):
            self.joins[name] = nn.Sequential(
                conv_block(width + skip, after, norm=norm), conv_block(after, after, norm=norm)
            )
            width = after

    def forward(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        feature = maps["context"]
        for name, join in self.joins.items():
            feature = join(self._beside(feature, maps[name]))
        return {"decoder": feature}

    def _beside(self, feature: Float[Tensor, "N D h w"], skip: Float[Tensor, "N E H W"]) -> Float[Tensor, "N F H W"]:
        size = (skip.shape[-2], skip.shape[-1])
        return torch.cat([resize(feature, size, align_corners=self.align_corners), skip], dim=1)
