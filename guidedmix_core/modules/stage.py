"""Stages of a segmentor that read one map."""

from __future__ import annotations

from torch import Tensor, nn

from guidedmix_core.modules.conv import point_conv


class Stage(nn.Module):
    """Replaces the map it reads by the one it gives. Maps for later stages pass."""

    def __init__(self, reads: str, gives: str, module: nn.Module) -> None:
        super().__init__()
        self.reads = reads
        self.gives = gives
        self.module = module

    def forward(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        passed = {name: feature for name, feature in maps.items() if name != self.reads}
        return {**passed, self.gives: self.module(maps[self.reads])}


class Classifier(nn.Sequential):
    """Dropout of whole channels, then a 1x1 convolution. The tap before it stays free of noise."""

    def __init__(self, channels: int, num_classes: int, dropout: float) -> None:
        super().__init__(nn.Dropout2d(dropout), point_conv(channels, num_classes))
