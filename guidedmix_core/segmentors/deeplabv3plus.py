"""DeepLabV3+. Chen et al., Encoder-Decoder with Atrous Separable Convolution, ECCV 2018, arXiv 1802.02611.

The head with plain convolutions that the semi-supervised papers use (CPS, U2PL, UniMatch).
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from guidedmix_core.fields import Tuple
from guidedmix_core.modules.aspp import ASPP
from guidedmix_core.modules.conv import Norm, conv_block
from guidedmix_core.modules.encoder import Encoder, low_level
from guidedmix_core.modules.stage import Classifier, Stage
from guidedmix_core.segmentors import SegmentationNetwork, Segmentor, resize


class DeepLabV3Plus(Segmentor):
    """ASPP on C5, then a decoder that joins the map at stride 4."""

    taps: ClassVar[tuple[str, ...]] = ("c5", "aspp", "context", "joined", "decoder", "logits")

    aspp_channels: int = Field(256, ge=1, description="of each branch of the ASPP, and of the context")
    dilations: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Tuple] = Field(
        (6, 12, 18), description="of the ASPP: (6, 12, 18) at output stride 16, twice that at 8"
    )
    low_level_channels: int = Field(48, ge=1, description="to which the map at stride 4 is reduced")
    decoder_channels: int = Field(256, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1, description="share of channels dropped before the classifier")
    norm: Norm = Field("batch", description="of the head")

    def build(self, num_classes: int) -> SegmentationNetwork:
        backbone = self.backbone.build()
        low = low_level(backbone)
        aspp = ASPP(backbone.channels[-1], self.aspp_channels, self.dilations, self.norm)
        joined = self.aspp_channels + self.low_level_channels
        stages = {
            "c5": Encoder(self.backbone, backbone, {"c2": low}),
            "aspp": Stage("c5", "aspp", aspp),
            "context": Stage("aspp", "context", conv_block(aspp.channels, self.aspp_channels, 1, norm=self.norm)),
            "joined": _Join(backbone.channels[low], self.low_level_channels, self.norm, self.align_corners),
            "decoder": Stage("joined", "decoder", _fuse(joined, self.decoder_channels, self.norm)),
            "logits": Stage("decoder", "logits", Classifier(self.decoder_channels, num_classes, self.dropout)),
        }
        widths = (backbone.channels[-1], aspp.channels, self.aspp_channels, joined, self.decoder_channels, num_classes)
        channels = dict(zip(self.taps, widths, strict=True))
        return SegmentationNetwork(stages, channels, align_corners=self.align_corners)


class _Join(nn.Module):
    """The reduced map at stride 4 beside the context, enlarged: what the decoder reads."""

    def __init__(self, low_level: int, reduced: int, norm: Norm, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.reduce = conv_block(low_level, reduced, 1, norm=norm)

    def forward(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"joined": self.join(maps["context"], maps["c2"])}

    def join(self, context: Float[Tensor, "N D h w"], c2: Float[Tensor, "N E H W"]) -> Float[Tensor, "N F H W"]:
        size = (c2.shape[-2], c2.shape[-1])
        return torch.cat([self.reduce(c2), resize(context, size, align_corners=self.align_corners)], dim=1)


def _fuse(inputs: int, channels: int, norm: Norm) -> nn.Sequential:
    return nn.Sequential(conv_block(inputs, channels, norm=norm), conv_block(channels, channels, norm=norm))
