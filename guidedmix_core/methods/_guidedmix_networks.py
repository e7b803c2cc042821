"""The networks of GuidedMix-Net: a student, what only its mixed branch has; and what they see in a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from guidedmix_core.batch import Pseudo
from guidedmix_core.methods import Student
from guidedmix_core.methods._guidedmix_fields import Level
from guidedmix_core.modules.mitrans import MITrans
from guidedmix_core.pairing import PairQueue
from guidedmix_core.segmentors import Maps, SegmentationNetwork


@dataclass(frozen=True)
class Seen:
    """Images as one network sees them."""

    image: Float[Tensor, "N C H W"]
    pooled: Float[Tensor, "N D"]
    """C5's mean over the image, in fp32."""
    maps: Maps
    """Every map at the mixing level that later stages read."""
    logits: Float[Tensor, "N K _ _"]

    def take(self, index: Int[Tensor, "M"]) -> Seen:
        """These of the images, in this order."""
        maps = {name: feature[index] for name, feature in self.maps.items()}
        return Seen(self.image[index], self.pooled[index], maps, self.logits[index])


@dataclass(frozen=True)
class Mixed:
    """Unlabeled images mixed with their guides: the guides' share, their masks, and what the mixed branch says."""

    lam: float
    guide: Seen
    truth: Int[Tensor, "U H W"]
    logits: Float[Tensor, "U K _ _"]


@dataclass(frozen=True)
class Scene:
    """What the terms of unlabeled images are made of. Without mixing, `mixed` is None: the plain prediction teaches."""

    weak: Seen
    student: Seen
    region: Bool[Tensor, "U H W"] | None
    mixed: Mixed | None
    pseudo: Pseudo


def see(network: SegmentationNetwork, images: Sequence[Float[Tensor, "_ C H W"]], level: Level) -> list[Seen]:
    """One backbone pass over all images together, then the head on each group by itself.

    So BatchNorm's statistics are shared in the backbone and separate in the head, as in the released code.
    """
    encode = network.taps[0]
    together = network.run({"image": torch.cat(list(images))}, until=encode)
    groups = {name: feature.split([len(image) for image in images]) for name, feature in together.items()}
    seen = []
    for i, image in enumerate(images):
        maps = {name: feature[i] for name, feature in groups.items()}
        pooled = maps[encode].float().mean(dim=(2, 3))
        reached = level if level in network.taps else encode
        maps = network.run(maps, after=encode, until=reached)
        logits = network.run(maps, after=reached)["logits"]
        seen.append(Seen(image, pooled, maps if level in network.taps else {"image": image}, logits))
    return seen


class MixedBranch(Student):
    """The student, and how its mixed branch differs: MITrans after one tap, and maybe a head from the bottleneck on."""

    def __init__(
        self,
        student: SegmentationNetwork,
        mitrans: MITrans,
        mitrans_tap: str,
        mix_head: SegmentationNetwork | None,
    ) -> None:
        super().__init__(student)
        self.mitrans = mitrans
        self.mitrans_tap = mitrans_tap
        self.mix_head = mix_head

    def mixed_logits(self, maps: Maps, level: Level) -> Float[Tensor, "N K _ _"]:
        """The mixed branch, from the mixing level on."""
        taps = self.student.taps
        maps = self._refined(maps, level)
        for tap in taps[taps.index(level) + 1 if level in taps else 0 :]:
            head = self.student if self.mix_head is None or tap not in self.mix_head.taps else self.mix_head
            maps = head.stages[tap](maps)
            maps = self._refined(maps, tap)
        return maps["logits"]

    def _refined(self, maps: Maps, tap: str) -> Maps:
        return {**maps, tap: self.mitrans(maps[tap])} if tap == self.mitrans_tap else maps


class GuidedNetworks(MixedBranch):
    """The student is what is evaluated; all else serves training only.

    `teacher` averages student and mixed branch, `align_head` reads classes from C5, `queue` remembers labeled crops.
    """

    def __init__(
        self,
        branch: MixedBranch,
        align_head: nn.Linear | None = None,
        queue: PairQueue | None = None,
        teacher: MixedBranch | None = None,
    ) -> None:
        super().__init__(branch.student, branch.mitrans, branch.mitrans_tap, branch.mix_head)
        self.align_head = align_head
        self.queue = queue
        self.teacher = teacher
