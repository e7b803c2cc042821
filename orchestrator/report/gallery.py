"""Which images are shown of those whose pictures were kept: by a rule, so that nobody picks the pretty ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.folder import TrialFolder
from orchestrator.image_counts import read_counts
from orchestrator.report.wording import difference

RULE = (
    "of the images whose pictures were kept, those with the largest gain, the median difference and the largest loss "
    "in the mIoU of the image alone, over the classes in it"
)


@dataclass(frozen=True)
class Chosen:
    stem: str
    """Of the picture's file."""
    why: str
    """`largest gain, +4.1`."""


def chosen(own: TrialFolder, reference: TrialFolder) -> list[Chosen] | None:
    """Three images, or as many as there are. None if the counts are missing or of other images: then no rule holds."""
    stems = sorted(file.name.removesuffix("_image.png") for file in own.panels.glob("*_image.png"))
    ours, theirs = _by_image(own), _by_image(reference)
    if ours is None or theirs is None or any(stem not in ours or stem not in theirs for stem in stems):
        return None
    gaps = sorted(((ours[stem] - theirs[stem], stem) for stem in stems), reverse=True)
    if not gaps:
        return None
    places = {0: "largest gain", len(gaps) // 2: "median", len(gaps) - 1: "largest loss"}
    if len(gaps) < 3:
        places = dict.fromkeys(range(len(gaps)), "")
    found = []
    for place, name in sorted(places.items()):
        gap, stem = gaps[place]
        if name == "largest gain" and gap <= 0:
            name = "smallest loss"
        if name == "largest loss" and gap >= 0:
            name = "smallest gain"
        found.append(Chosen(stem, f"{name}, {difference('val/miou', gap)}".removeprefix(", ")))
    return found


def _by_image(folder: TrialFolder) -> dict[str, float] | None:
    """The mean IoU of each evaluated image alone, over the classes in its prediction or truth."""
    if (found := read_counts(folder.counts)) is None:
        return None
    ids, counts = [name.replace("/", "_") for name in found.ids], found.counts
    union = counts.sum(-1)
    iou = np.divide(counts[..., 0], union, out=np.zeros(union.shape), where=union > 0)
    return dict(zip(ids, iou.sum(1) / np.maximum((union > 0).sum(1), 1), strict=True))
