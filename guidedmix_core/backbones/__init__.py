"""The backbone: an image becomes a pyramid of feature maps. One component a file."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from guidedmix_core.components import Component


class Pyramid(nn.Module, ABC):
    """A built backbone.

    `channels[i]` and `strides[i]` describe the i-th map, finest first, the last one is C5.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]

    @abstractmethod
    def forward(self, image: Float[Tensor, "N C H W"]) -> list[Tensor]:
        """The maps, finest first, of a normalized image."""


class Backbone(Component, ABC):
    """Which network reads the image, with which weights. Weights that can't be found are a ConfigError, never a
    random start."""

    family = "backbones"

    @property
    def mean(self) -> tuple[float, float, float]:
        """Of the images its weights were trained on, in [0, 1]; also the color of padding."""
        return (0.485, 0.456, 0.406)

    @property
    def std(self) -> tuple[float, float, float]:
        return (0.229, 0.224, 0.225)

    @abstractmethod
    def build(self) -> Pyramid:
        """A new backbone. Random weights come from torch's global generator, which the caller has put on a stream."""

    def weights_digest(self) -> str | None:
        """Which pretrained weights there are now: a digest of their file, or their name on the hub; None: random ones.

        ConfigError if the file is not there.
        """
        return None

    def load_weights(self, pyramid: Pyramid) -> None:
        """Fill a built backbone with its pretrained weights. Not called where a checkpoint brings all weights."""
