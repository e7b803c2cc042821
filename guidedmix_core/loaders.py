"""The data of a run: what is labeled, the streams it trains on, and the images it is judged by."""

from __future__ import annotations

import copy
import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from guidedmix_core.augment import center_crops
from guidedmix_core.batch import Batch, Unlabeled, Views
from guidedmix_core.cache import ArrayCache, cached_images, cached_masks, cached_truth
from guidedmix_core.config import RunConfig
from guidedmix_core.datasets import Classes, Part, Record
from guidedmix_core.errors import ConfigError
from guidedmix_core.splits import LabelSplit, draw_split
from guidedmix_core.streams import Pool, Reader, TrainingStream

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvalBatch:
    """Whole images of equal size, with their truth."""

    ids: tuple[str, ...]
    image: Float[Tensor, "N 3 H W"]
    mask: Int[Tensor, "N H W"]


class RunData:
    """Everything a run reads. The masks of unlabeled images are opened by `telemetry` alone."""

    classes: Classes
    split: LabelSplit
    fingerprint: str
    """16 hexadecimal digits over the content: training images, labeled masks, the evaluated part and the split."""
    trained_on: str
    """The same over what training reads: the evaluated part is left out."""
    skipped: tuple[str, ...]
    """The ids of unreadable images, within the tolerance."""

    def __init__(self, config: RunConfig) -> None:
        """Use `open_data`."""
        self._config = config
        self.classes = config.data.classes()
        self._images = cached_images(config.data, config.data.records("train"))
        self._place = {name: i for i, name in enumerate(self._images.ids)}
        self.split = draw_split(config.split, config.data, self._images.skipped)
        if config.method.views().unlabeled and not self.split.unlabeled:
            raise ConfigError(
                f"split: all {len(self.split.labeled)} images are labeled, but method.name={config.method.name} "
                "needs unlabeled ones; lower split.labeled, or use method.name=supervised"
            )
        self._labeled = self._pool(self.split.labeled, masks=True)
        self._evaluated, self._truth = _evaluated(config)
        self.skipped = self._images.skipped + self._evaluated.skipped
        assert self._labeled.masks is not None
        read = (self._images.digest, self._labeled.masks.digest)
        self.trained_on = self._digest(*read)
        self.fingerprint = self._digest(*read, self._evaluated.digest, self._truth.digest)
        self._stored: Pool | None = None

    def relabeled(self, stored: ArrayCache | None) -> RunData:
        """The same data with stored pseudo masks: the unlabeled stream has the images they are of, and no others."""
        data = copy.copy(self)
        if stored is not None:
            data._stored = Pool(self._images, tuple(self._place[name] for name in stored.ids), stored)
        return data

    def training(self, views: Views, device: torch.device | str, world: int = 1) -> TrainingStream:
        """ConfigError if the batch can't be cut into equal parts for the workers."""
        config, parts = self._config, world * self._config.train.accumulate
        for name in ("batch_size", "unlabeled_batch_size"):
            if (size := getattr(config.train, name)) % parts:
                raise ConfigError(
                    f"train.{name}={size}: expected a multiple of {parts} "
                    f"({world} workers, train.accumulate={config.train.accumulate})"
                )
        if config.split.zip_streams and config.train.batch_size != config.train.unlabeled_batch_size:
            raise ConfigError(
                f"train.batch_size={config.train.batch_size}: split.zip_streams pairs labeled with unlabeled images; "
                f"expected train.unlabeled_batch_size={config.train.unlabeled_batch_size}"
            )
        unlabeled = self._stored or self._pool(self.split.unlabeled)
        return TrainingStream(config, self._labeled, unlabeled, views, self._reader(device), parts)

    def unlabeled_image(self, i: int, device: torch.device | str) -> Float[Tensor, "1 3 H W"]:
        """The whole image of `split.unlabeled[i]`."""
        image = torch.tensor(self._images[self._place[self.split.unlabeled[i].id]]).to(device)
        return image.permute(2, 0, 1).unsqueeze(0).float().div_(255)

    def labeled(self, device: torch.device | str) -> Iterator[Batch]:
        """One pass over the labeled images, in their order: center crops at scale 1. The last batch may be smaller."""
        reader, size = self._reader(device), self._config.train.batch_size
        for start in range(0, len(self._labeled), size):
            chosen = range(start, min(start + size, len(self._labeled)))
            yield Batch(*self._center(self._labeled, chosen, reader))

    def evaluation(self, device: torch.device | str, rank: int = 0, world: int = 1) -> Iterator[EvalBatch]:
        """Each image of the evaluated part once, over all ranks: equal sizes together, batches dealt out in turn."""
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for i, shape in enumerate(self._evaluated.shapes):
            groups[shape].append(i)
        size = self._config.evaluate.batch_size
        batches = [group[start : start + size] for group in groups.values() for start in range(0, len(group), size)]
        for batch in batches[rank::world]:
            yield self._eval_batch(batch, device)

    def panels(self, device: torch.device | str) -> list[EvalBatch]:
        """The same few images at every evaluation, one a batch, spread evenly over the evaluated part."""
        return [self._eval_batch([i], device) for i in _spread(len(self._evaluated), self._config.evaluate.panels)]

    def telemetry(self, device: torch.device | str) -> Iterator[tuple[Batch, Int[Tensor, "U H W"]]]:
        """Center crops of unlabeled images, labeled ones beside them, and the withheld truth; nothing if there is none.

        The same at every call; masks that can't be read are left out. The last batch may be smaller; it keeps the ratio
        of labeled to unlabeled images. With stored pseudo masks the images are some that have one.
        """
        stored = set(self._stored.index if self._stored else self._place.values())
        known = [record for record in self.split.unlabeled if record.has_mask and self._place[record.id] in stored]
        judged = [known[i] for i in _spread(len(known), self._config.evaluate.telemetry_images)]
        if not judged:
            return
        pool, reader, train = self._withheld(judged), self._reader(device), self._config.train
        for start in range(0, len(pool), train.unlabeled_batch_size):
            chosen = range(start, min(start + train.unlabeled_batch_size, len(pool)))
            beside = -(-train.batch_size * len(chosen) // train.unlabeled_batch_size)
            first = start // train.unlabeled_batch_size * train.batch_size
            image, mask = self._center(self._labeled, [(first + i) % len(self._labeled) for i in range(beside)], reader)
            weak, truth = self._center(pool, chosen, reader)
            crops = center_crops(pool.sizes(chosen), self._config.augment.crop).to(reader.device)
            pseudo = None
            if self._stored:
                places = [self._stored.index.index(pool.index[i]) for i in chosen]
                pseudo = reader.masks(self._stored, places, crops)
            yield Batch(image, mask, Unlabeled(weak, (), crops.inside, pseudo)), truth

    def _pool(self, records: Sequence[Record], *, masks: bool = False) -> Pool:
        index = tuple(self._place[record.id] for record in records)
        return Pool(self._images, index, cached_masks(self._config.data, records) if masks else None)

    def _withheld(self, records: Sequence[Record]) -> Pool:
        """Nothing is trained on these masks: one that is damaged ends no run."""
        truth = cached_truth(self._config.data, records)
        if truth.skipped:
            _warn_of(truth.skipped)
        return Pool(self._images, tuple(self._place[name] for name in truth.ids), truth)

    def _reader(self, device: torch.device | str) -> Reader:
        return Reader(self._config.segmentor.backbone.mean, torch.device(device))

    def _center(
        self, pool: Pool, chosen: Sequence[int], reader: Reader
    ) -> tuple[Float[Tensor, "N C H W"], Int[Tensor, "N H W"]]:
        crops = center_crops(pool.sizes(chosen), self._config.augment.crop).to(reader.device)
        return reader.images(pool, chosen, crops), reader.masks(pool, chosen, crops)

    def _eval_batch(self, chosen: Sequence[int], device: torch.device | str) -> EvalBatch:
        image = torch.from_numpy(np.stack([self._evaluated[i] for i in chosen])).to(device)
        mask = torch.from_numpy(np.stack([self._truth[i] for i in chosen])).to(device)
        ids = tuple(self._evaluated.ids[i] for i in chosen)
        return EvalBatch(ids, image.permute(0, 3, 1, 2).contiguous().float().div_(255), mask.long())

    def _digest(self, *parts: str) -> str:
        digest = hashlib.sha256()
        for part in parts:
            digest.update(f"{part}\n".encode())
        for records in (self.split.labeled, self.split.unlabeled):
            digest.update(("\n".join(record.id for record in records) + "\n\n").encode())
        return digest.hexdigest()[:16]


def open_data(config: RunConfig) -> RunData:
    """Decodes what is not decoded yet. ConfigError for everything that is wrong with the data."""
    return RunData(config)


def _evaluated(config: RunConfig) -> tuple[ArrayCache, ArrayCache]:
    part: Part = config.evaluate.part
    records = config.data.records(part)
    images = cached_images(config.data, records)
    if not len(images):
        raise ConfigError(f"evaluate.part={part}: the data set has no image in it; choose another part")
    readable = set(images.ids)
    return images, cached_masks(config.data, [record for record in records if record.id in readable])


@cache
def _warn_of(skipped: tuple[str, ...]) -> None:
    """Once in a process, however often a run is judged."""
    which, more = ", ".join(skipped[:3]), ", …" if len(skipped) > 3 else ""
    log.warning(
        "%d masks of unlabeled images can't be read (%s%s); others judge pseudo masks", len(skipped), which, more
    )


def _spread(length: int, count: int) -> list[int]:
    """Up to `count` places, evenly spaced over the length."""
    count = min(length, count)
    return [(2 * i + 1) * length // (2 * count) for i in range(count)]
