"""DeepLabV3. Chen et al., Rethinking Atrous Convolution for Semantic Image Segmentation, arXiv 1706.05587.

As in mmseg's ASPPHead, which the released GuidedMix-Net uses (its files say DeepLabV3+, but join no low-level map).
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import nn

from guidedmix_core.fields import Tuple
from guidedmix_core.modules.aspp import ASPP
from guidedmix_core.modules.conv import Norm, conv_block
from guidedmix_core.modules.encoder import Encoder
from guidedmix_core.modules.stage import Classifier, Stage
from guidedmix_core.segmentors import SegmentationNetwork, Segmentor


class DeepLabV3(Segmentor):
    """ASPP on C5 and a 3x3 bottleneck. There is no decoder: the tap of this name is the context."""

    taps: ClassVar[tuple[str, ...]] = ("c5", "aspp", "context", "decoder", "logits")

    channels: int = Field(512, ge=1, description="of each branch of the ASPP, and of the bottleneck")
    dilations: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Tuple] = Field(
        (12, 24, 36), description="of the ASPP, at output stride 8"
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="share of channels dropped before the classifier")
    norm: Norm = Field("batch", description="of the head")

    def build(self, num_classes: int) -> SegmentationNetwork:
        backbone = self.backbone.build()
        aspp = ASPP(backbone.channels[-1], self.channels, self.dilations, self.norm)
        stages = {
            "c5": Encoder(self.backbone, backbone, {}),
            "aspp": Stage("c5", "aspp", aspp),
            "context": Stage("aspp", "context", conv_block(aspp.channels, self.channels, norm=self.norm)),
            "decoder": Stage("context", "decoder", nn.Identity()),
            "logits": Stage("decoder", "logits", Classifier(self.channels, num_classes, self.dropout)),
        }
        widths = (backbone.channels[-1], aspp.channels, self.channels, self.channels, num_classes)
        channels = dict(zip(self.taps, widths, strict=True))
        return SegmentationNetwork(stages, channels, align_corners=self.align_corners)
