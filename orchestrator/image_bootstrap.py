"""What other evaluation images would change: resampled images, the same ones for both cells.

mIoU is a ratio of sums, so an interval over images needs the counts of each image. It says nothing of other seeds or
splits: the trained networks are taken as they are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from orchestrator.comparison import Cell, Comparison
from orchestrator.folder import StudyFolder
from orchestrator.image_counts import read_counts
from orchestrator.results import TrialRecord

MEANING = "What other images would change for these trained networks; it says nothing of other seeds."
IMAGES = 20
"""What an interval over images needs. Of two equal networks the nominal 95 % intervals of the difference cover zero in
80 % with 4 images, 87 % with 8, 92 % with 20 and 94 % with 100 (2000 simulated pairs each, four classes of unlike size,
images of unlike difficulty)."""
UNREAD = "counts of its runs or of the reference's are missing or damaged"
_File = tuple[str, int, int]
"""Path, time and size: another file at the same place is another one."""


@dataclass(frozen=True)
class Gap:
    """The difference as it is, and its percentile interval over images."""

    mean: float
    interval: tuple[float, float]

    @property
    def sign(self) -> int:
        """Of what the whole interval is above or below; 0: it has zero in it."""
        return (self.interval[0] > 0) - (self.interval[1] < 0)


@dataclass(frozen=True)
class ImageGaps:
    """A cell minus the reference, the mean over the blocks that both have."""

    blocks: int
    images: int
    miou: Gap
    classes: tuple[Gap | None, ...]
    """None of a class that a block has in neither prediction nor truth."""

    @property
    def counts(self) -> tuple[int, int, int]:
        """Of the classes, how many intervals lie above 0, below 0, and around it."""
        signs = [gap.sign for gap in self.classes if gap is not None]
        return signs.count(1), signs.count(-1), signs.count(0)


def image_gaps(folder: StudyFolder, comparison: Comparison, cells: Iterable[Cell]) -> dict[str, ImageGaps | str]:
    """Of each of these cells that shares a block with the reference, or why there is nothing. Empty if none is asked
    for. What this process knows already is not computed again."""
    resamples, coverage = comparison.analysis.image_resamples, comparison.analysis.interval
    if resamples is None:
        return {}
    other = comparison.reference.complete
    theirs = {block: _file(folder, run) for block, run in other.items()}
    found = {}
    for cell in cells:
        own = cell.complete
        blocks = [block for block in own if block in other and own[block].is_alike(other[block])]
        blocks = [block for block in blocks if own[block].fingerprint != other[block].fingerprint]
        files = ((_file(folder, own[block]), theirs[block]) for block in blocks)
        pairs = tuple((mine, yours) for mine, yours in files if mine is not None and yours is not None)
        if blocks:
            found[cell.name] = UNREAD if len(pairs) < len(blocks) else _of_files(pairs, resamples, coverage)
    return found


def with_gaps(found: Mapping[str, ImageGaps | str]) -> dict[str, ImageGaps]:
    return {cell: gaps for cell, gaps in found.items() if not isinstance(gaps, str)}


def without_gaps(found: Mapping[str, ImageGaps | str]) -> list[str]:
    """A sentence a reason; what holds for all cells names none."""
    cells = defaultdict(list)
    for cell, gaps in found.items():
        if isinstance(gaps, str):
            cells[gaps].append(cell)
    said = []
    for reason, names in cells.items():
        whose = "" if len(names) == len(found) else f" of {', '.join(names)}"
        said.append(f"No interval over images{whose}: {reason}.")
    return said


def resampled_iou(counts: Int64[np.ndarray, "N K 3"], resamples: int, seed: int = 0) -> Float64[np.ndarray, "R K"]:
    """IoU of each class; in the first row of the images as they are. NaN where a class is absent.

    Each resample draws N images with replacement, the same ones for all runs on so many images.
    """
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


def gaps_of(arms: Sequence[tuple[np.ndarray, np.ndarray]], images: int, coverage: float) -> ImageGaps:
    """Of the resampled IoU of cell and reference in each block, over the same images in the same order."""
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


@lru_cache(maxsize=4096)  # the end of a study asks for it several times: summary, page, terminal
def _of_files(pairs: tuple[tuple[_File, _File], ...], resamples: int, coverage: float) -> ImageGaps | str:
    """Of the counts of cell and reference in each block, or why they come to nothing."""
    arms, images = [], {}
    for own, other in pairs:
        if (mine := _read(own, resamples)) is None or (yours := _of_reference(other, resamples)) is None:
            return UNREAD
        images |= {mine[0]: None, yours[0]: None}
        arms.append((mine[1], yours[1]))
    if len(images) > 1:
        return "not all runs were judged on the same images"
    if (number := len(next(iter(images)))) < IMAGES:
        return f"there are {number} images, and over fewer than {IMAGES} it covers too seldom"
    return gaps_of(arms, number, coverage)


def _file(folder: StudyFolder, run: TrialRecord) -> _File | None:
    path = folder.trial(run.fingerprint).counts
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return str(path), found.st_mtime_ns, found.st_size


def _read(file: _File, resamples: int) -> tuple[tuple[str, ...], np.ndarray] | None:
    found = read_counts(Path(file[0]))
    return None if found is None else (found.ids, resampled_iou(found.counts, resamples))


_of_reference = lru_cache(maxsize=32)(_read)  # every cell needs it again; megabytes a run
