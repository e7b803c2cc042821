"""Which training images have labels: two published lists, or a stratified draw."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from guidedmix_core.cache import cached_presence
from guidedmix_core.config import Split
from guidedmix_core.datasets import Dataset, Record
from guidedmix_core.errors import ConfigError
from guidedmix_core.lists import Names, first_few, read_list
from guidedmix_core.rng import generator

REDRAWS = 100


@dataclass(frozen=True)
class LabelSplit:
    """Records in the order of their lists; a drawn split is in the order of the data set."""

    labeled: tuple[Record, ...]
    unlabeled: tuple[Record, ...]


def draw_split(split: Split, dataset: Dataset, skipped: Collection[str] = ()) -> LabelSplit:
    """`skipped` are the ids of images that can't be read.

    ConfigError if a list is empty, names unknown images or overlaps the other, or if there are fewer masks than labels.
    """
    everything = dataset.records("train")
    records = [record for record in everything if record.id not in skipped]
    if not split.labeled_list:
        labeled = _draw(split, dataset, records)
        return LabelSplit(labeled, _without(records, labeled))
    names = Names(everything)
    labeled = _listed(split.labeled_list, "split.labeled_list", names, skipped)
    if not split.unlabeled_list:
        return LabelSplit(labeled, _without(records, labeled))
    unlabeled = _listed(split.unlabeled_list, "split.unlabeled_list", names, skipped)
    if both := sorted({record.id for record in labeled} & {record.id for record in unlabeled}):
        raise ConfigError(
            f"split.labeled_list and split.unlabeled_list share {len(both)} images ({first_few(both)}); "
            "each goes in one of them"
        )
    return LabelSplit(labeled, unlabeled)


def _without(records: Iterable[Record], labeled: Iterable[Record]) -> tuple[Record, ...]:
    taken = {record.id for record in labeled}
    return tuple(record for record in records if record.id not in taken)


def _draw(split: Split, dataset: Dataset, records: Sequence[Record]) -> tuple[Record, ...]:
    """A uniform draw among those in which every class occurs; if a hundred find none, one that is greedy for classes.

    In the order of the data set. The masks of all candidates are opened, for which classes occur and nothing else; none
    is opened if all candidates are labeled. So a drawn split stays the same when the masks it withholds are removed.
    """
    candidates = [record for record in records if record.has_mask]
    count = split.labeled if isinstance(split.labeled, int) else round(split.labeled * len(records))
    if not count:
        raise ConfigError(f"split.labeled={split.labeled}: that is no image of {len(records)}; ask for a larger share")
    if count > len(candidates):
        raise ConfigError(
            f"split.labeled={split.labeled}: expected at most {len(candidates)}, which is how many "
            f"of the {len(records)} training images have a mask"
        )
    if count == len(candidates):
        return tuple(candidates)
    table = cached_presence(dataset, candidates)
    present = np.stack([table[i] for i in range(len(table))]).astype(bool)  # (candidates, K)
    stream = generator(split.seed, "split")
    orders = [torch.randperm(len(candidates), generator=stream).numpy() for _ in range(REDRAWS)]
    possible = present.any(0).sum()
    complete = (order[:count].tolist() for order in orders if present[order[:count]].any(0).sum() == possible)
    chosen = next(complete, None) or _greedy(present, orders[0], count)
    return tuple(candidates[i] for i in sorted(chosen))


def _greedy(present: np.ndarray, order: np.ndarray, count: int) -> list[int]:
    """Always the image that adds most classes; among equals, the first in the order."""
    left, missing, chosen = list(order), present.any(0), []
    for _ in range(count):
        best = max(left, key=lambda i: (present[i] & missing).sum())
        chosen.append(int(best))
        left.remove(best)
        missing = missing & ~present[best]
    return chosen


def _listed(path: str, place: str, names: Names, skipped: Collection[str]) -> tuple[Record, ...]:
    lines = read_list(Path(path).expanduser())
    kept = tuple(record for record in names.find_all(lines, f"{place}={path}") if record.id not in skipped)
    if not kept:
        raise ConfigError(f"{place}={path}: none of its {len(lines)} images can be read; restore them")
    return kept
