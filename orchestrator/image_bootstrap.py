"""What other evaluation images would change: resampled images, the same ones for both cells.

mIoU is a ratio of sums, so an interval over images needs the counts of each image. It says nothing of other seeds or
splits: the trained networks are taken as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, Int64

from orchestrator.comparison import Comparison
from orchestrator.folder import StudyFolder


@dataclass(frozen=True)
class Gap:
    """The difference as it is, and its percentile interval over images."""

    mean: float
    interval: tuple[float, float]

    @property
    def excludes_zero(self) -> bool:
        return self.interval[0] > 0 or self.interval[1] < 0


@dataclass(frozen=True)
class ImageGaps:
    """A cell minus the reference, the mean over the blocks that both have."""

    blocks: int
    images: int
    miou: Gap
    classes: tuple[Gap | None, ...]
    """None of a class that a block has in neither prediction nor truth."""


def image_gaps(folder: StudyFolder, comparison: Comparison, seed: int = 0) -> dict[str, ImageGaps]:
    """Of each cell whose runs were evaluated on the same images as the reference's. Empty if none is asked for."""
    resamples, coverage = comparison.analysis.image_resamples, comparison.analysis.interval
    if resamples is None:
        return {}
    known: dict[str, tuple[tuple[str, ...], np.ndarray] | None] = {}

    def judged(fingerprint: str) -> tuple[tuple[str, ...], np.ndarray] | None:
        if fingerprint not in known:
            file = folder.trial(fingerprint).counts
            known[fingerprint] = _read(file, resamples, seed) if file.exists() else None
        return known[fingerprint]

    other, found = comparison.reference.complete, {}
    for cell in comparison.cells:
        own = cell.complete
        blocks = [block for block in own if block in other and own[block].halvings == other[block].halvings]
        blocks = [block for block in blocks if own[block].fingerprint != other[block].fingerprint]
        pairs = [(judged(own[block].fingerprint), judged(other[block].fingerprint)) for block in blocks]
        arms = [(one[1], two[1]) for one, two in pairs if one and two and one[0] == two[0]]
        if arms and len(arms) == len(pairs) and len({one[0] for one, _ in pairs if one}) == 1:
            images = len(pairs[0][0][0]) if pairs[0][0] else 0
            found[cell.name] = _gaps(arms, images, coverage)
    return found


def resampled_gaps(
    arms: Sequence[tuple[Int64[np.ndarray, "N K 3"], Int64[np.ndarray, "N K 3"]]],
    resamples: int,
    coverage: float,
    seed: int = 0,
) -> ImageGaps:
    """Of the counts of cell and reference in each block, over the same N images in the same order.

    Each resample draws N images with replacement, once for both cells and all blocks.
    """
    found = [(resampled_iou(own, resamples, seed), resampled_iou(other, resamples, seed)) for own, other in arms]
    return _gaps(found, len(arms[0][0]), coverage)


def resampled_iou(counts: Int64[np.ndarray, "N K 3"], resamples: int, seed: int) -> Float64[np.ndarray, "R K"]:
    """IoU of each class; in the first row of the images as they are. NaN where a class is absent."""
    images, classes, _ = counts.shape
    hit, miss = counts[..., 0], counts.sum(2)
    sums = _draws(images, resamples, seed) @ np.concatenate([hit, miss], axis=1).astype(np.float64)
    hit, union = sums[:, :classes], sums[:, classes:]
    return np.divide(hit, union, out=np.full_like(union, np.nan), where=union > 0)


@lru_cache(maxsize=4)
def _draws(images: int, resamples: int, seed: int) -> np.ndarray:
    """How often each resample has each image; the first row has every one once."""
    drawn = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), resamples)
    return np.concatenate([np.ones((1, images)), drawn])


def _gaps(arms: Sequence[tuple[np.ndarray, np.ndarray]], images: int, coverage: float) -> ImageGaps:
    mious = np.mean([_mean(own) - _mean(other) for own, other in arms], axis=0)
    classes = np.mean([own - other for own, other in arms], axis=0)
    miou = _gap(mious, coverage)
    assert miou is not None, "some class occurs in every image"
    return ImageGaps(len(arms), images, miou, tuple(_gap(column, coverage) for column in classes.T))


def _mean(iou: np.ndarray) -> np.ndarray:
    """Over the classes that occur, as in `guidedmix_core.metrics`."""
    occurs = ~np.isnan(iou)
    return np.where(occurs, iou, 0).sum(1) / occurs.sum(1)


def _gap(column: np.ndarray, coverage: float) -> Gap | None:
    """Resamples without the class are left out."""
    if np.isnan(column[0]):
        return None
    low, high = np.nanquantile(column[1:], [(1 - coverage) / 2, (1 + coverage) / 2])
    return Gap(float(column[0]), (float(low), float(high)))


def _read(file: object, resamples: int, seed: int) -> tuple[tuple[str, ...], np.ndarray]:
    with np.load(file) as found:  # pyright: ignore[reportArgumentType]
        return tuple(map(str, found["ids"])), resampled_iou(found["counts"].astype(np.int64), resamples, seed)
