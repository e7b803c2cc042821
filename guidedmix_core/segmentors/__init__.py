"""The segmentor: backbone, context, decoder, classifier, as a chain of named stages. One component a file.

Each stage is named for the map it gives, its *tap*: `c5` (encode), `aspp`, `context`, `joined` (what the decoder
reads), `decoder`, `logits`. A method that mixes, reads or refines features stops the chain at a tap and goes on from
there; no hook exists.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, cast

import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from guidedmix_core.backbones import Backbone, Pyramid
from guidedmix_core.components import Component

Maps = dict[str, Tensor]
"""Every map that a later stage reads, by name; the tap itself is among them."""


class SegmentationNetwork(nn.Module):
    """The chain. `stages[tap]` takes the maps before it and gives the maps after it.

    `channels[tap]` is the width of each tap. Images are floats in [0, 1]; normalizing them is part of the first stage.
    """

    def __init__(self, stages: dict[str, nn.Module], channels: dict[str, int], *, align_corners: bool) -> None:
        super().__init__()
        self.stages = nn.ModuleDict(stages)
        self.channels = channels
        self.align_corners = align_corners

    @property
    def taps(self) -> tuple[str, ...]:
        """In order of the chain, the last is `logits`."""
        return tuple(self.stages)

    @property
    def backbone(self) -> Pyramid:
        """The part that pretrained weights fill."""
        return cast(Pyramid, self.stages["c5"].backbone)

    def run(self, maps: Maps, *, after: str = "image", until: str = "logits") -> Maps:
        """The maps at tap `until`, from those at tap `after` (`image`: the beginning)."""
        taps = self.taps
        start = 0 if after == "image" else taps.index(after) + 1
        for tap in taps[start : taps.index(until) + 1]:
            maps = self.stages[tap](maps)
        return maps

    def forward(self, image: Float[Tensor, "N C H W"]) -> Float[Tensor, "N K H W"]:
        """Logits at the size of the image."""
        return self.resize(self.run({"image": image})["logits"], (image.shape[-2], image.shape[-1]))

    def read(
        self, image: Float[Tensor, "N C H W"], tap: str
    ) -> tuple[Float[Tensor, "N K H W"], Float[Tensor, "N D h w"]]:
        """Logits at the size of the image, and the map at a tap on the way to them."""
        maps = self.run({"image": image}, until=tap)
        logits = self.run(maps, after=tap)["logits"]
        return self.resize(logits, (image.shape[-2], image.shape[-1])), maps[tap]

    def resize(self, logits: Float[Tensor, "N K h w"], size: tuple[int, int]) -> Float[Tensor, "N K H W"]:
        """Bilinear, in fp32 whatever the network computes in, by the segmentor's convention of corners."""
        return resize(logits.float(), size, align_corners=self.align_corners)

    def tail(self, after: str) -> SegmentationNetwork:
        """A network of the stages after a tap, sharing their weights with this one."""
        taps = self.taps[self.taps.index(after) + 1 :]
        return SegmentationNetwork(
            {tap: self.stages[tap] for tap in taps}, self.channels, align_corners=self.align_corners
        )


def resize(
    feature: Float[Tensor, "N D h w"], size: tuple[int, int], *, align_corners: bool
) -> Float[Tensor, "N D H W"]:
    """Bilinear."""
    return F.interpolate(feature, size=size, mode="bilinear", align_corners=align_corners)


class Segmentor(Component, ABC):
    """The architecture. `taps` lists its taps in order, without building it."""

    family = "segmentors"
    taps: ClassVar[tuple[str, ...]]

    backbone: Backbone
    align_corners: bool = Field(
        False,
        description="of bilinear resizing of maps and logits: the middles of corner pixels lie on each other, for "
        "which crops of 16 n + 1 pixels are made (UniMatch, ST++, CPS, U2PL, AugSeg, ClassMix, PCR); false: their "
        "outer corners do (mmseg, and so GuidedMix-Net)",
    )

    def check_tap(self, tap: str, path: str) -> None:
        """ValueError, beginning with the field's dotted path, if there is no such tap."""
        if tap not in self.taps:
            raise ValueError(f"{path}={tap}: segmentor {self.name!r} has no such tap; it has {', '.join(self.taps)}")

    @abstractmethod
    def build(self, num_classes: int) -> SegmentationNetwork:
        """A new network. Random weights come from torch's global generator, which the caller has put on a stream."""
