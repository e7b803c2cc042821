"""The first stage of every segmentor: normalize the image, read it with the backbone, keep the maps used later."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from guidedmix_core.backbones import Backbone, Pyramid
from guidedmix_core.errors import ConfigError


class Encoder(nn.Module):
    """`image` in [0, 1] becomes `c5` and the maps of `skips`: name to index in the pyramid."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: Backbone, backbone: Pyramid, skips: Mapping[str, int]) -> None:
        super().__init__()
        self.backbone = backbone
        self.skips = dict(skips)
        # Not saved: they belong to the configuration, and a checkpoint holds what was learned.
        self.register_buffer("mean", torch.tensor(config.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(3, 1, 1), persistent=False)

    def forward(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        pyramid = self.backbone((maps["image"] - self.mean) / self.std)
        return {**{name: pyramid[index] for name, index in self.skips.items()}, "c5": pyramid[-1]}


def low_level(backbone: Pyramid) -> int:
    """The index of the map at stride 4. ConfigError if the backbone has none."""
    if 4 not in backbone.strides[:-1]:
        raise ConfigError(
            f"segmentor.backbone: its maps have strides {backbone.strides}; expected one at 4 before the last"
        )
    return backbone.strides.index(4)
