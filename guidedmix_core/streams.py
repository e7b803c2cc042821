"""The endless streams a run trains on. A batch is a pure function of (seed, step, part): nothing is remembered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from guidedmix_core import augment, color, intensity
from guidedmix_core.augment import Crops, resample_image, resample_mask
from guidedmix_core.batch import Batch, Unlabeled, Views
from guidedmix_core.cache import ArrayCache
from guidedmix_core.config import RunConfig
from guidedmix_core.rng import generator


@dataclass(frozen=True)
class Pool:
    """The images of a stream: `index[i]` is the place of image i in the cache, `masks[i]` its mask, if seen."""

    images: ArrayCache
    index: tuple[int, ...]
    masks: ArrayCache | None = None

    def __len__(self) -> int:
        return len(self.index)

    def sizes(self, chosen: Sequence[int]) -> Int[Tensor, "N 2"]:
        return torch.tensor([self.images.shapes[self.index[i]][:2] for i in chosen])


class Reader:
    """Takes crops, which lie on its device, out of a pool."""

    def __init__(self, padding: tuple[float, float, float], device: torch.device) -> None:
        self.device = device
        self.padding = torch.tensor(padding, device=device)

    def images(self, pool: Pool, chosen: Sequence[int], crops: Crops) -> Float[Tensor, "N C H W"]:
        windows = self._windows([pool.images[pool.index[i]] for i in chosen], crops)
        return resample_image(windows, crops, self.padding)

    def masks(self, pool: Pool, chosen: Sequence[int], crops: Crops) -> Int[Tensor, "N H W"]:
        assert pool.masks is not None, "the masks of this pool are withheld"
        return resample_mask(self._windows([pool.masks[i] for i in chosen], crops), crops)

    def _windows(self, arrays: Sequence[np.ndarray], crops: Crops) -> Tensor:
        """What the crops need of each array, in one canvas; the rest of the canvas is never read."""
        rows, columns = crops.rows, crops.columns
        height = max(stop - start for start, stop in zip(rows.start, rows.stop, strict=True))
        width = max(stop - start for start, stop in zip(columns.start, columns.stop, strict=True))
        shape, pinned = (len(arrays), height, width, *arrays[0].shape[2:]), self.device.type == "cuda"
        canvas = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)
        for i, array in enumerate(arrays):
            window = array[rows.start[i] : rows.stop[i], columns.start[i] : columns.stop[i]]
            canvas[i, : window.shape[0], : window.shape[1]].numpy()[...] = window
        return canvas.to(self.device, non_blocking=True)


class TrainingStream:
    """The batches of a run.

    Augmentation is drawn for the whole batch of a step and then cut into parts, so that the parts of any number of
    workers together are the batch that one worker sees.
    """

    def __init__(
        self,
        config: RunConfig,
        labeled: Pool,
        unlabeled: Pool,
        views: Views,
        reader: Reader,
        parts: int,
    ) -> None:
        self.config, self.views, self.reader, self.parts = config, views, reader, parts
        self.labeled, self.unlabeled = labeled, unlabeled
        self._items = {"labeled": tuple(range(len(labeled))), "unlabeled": tuple(range(len(unlabeled)))}
        self._orders = {stream: stream for stream in ("labeled", "unlabeled", "partner")}
        if config.split.zip_streams and views.unlabeled:
            self._zip()
        self._items["partner"] = tuple(range(len(unlabeled)))

    def batch(self, step: int, part: int) -> Batch:
        """Part 0 .. parts - 1 of the step's batch."""
        image, mask = self._labeled(step, part)
        return Batch(
            image,
            mask,
            self._unlabeled("unlabeled", step, part) if self.views.unlabeled else None,
            self._unlabeled("partner", step, part) if self.views.partner else None,
        )

    def _zip(self) -> None:
        """The released loader: the shorter list repeats one permutation of itself to the length of the longer one, and
        the pairs stay for the run."""
        length = max(map(len, self._items.values()))
        for stream, items in self._items.items():
            if len(items) < length:
                order = _order(self.config.seed, f"zip/{stream}", 0, len(items))
                self._items[stream] = tuple(order[i % len(order)] for i in range(length))
            self._orders[stream] = "zip"

    def _labeled(self, step: int, part: int) -> tuple[Float[Tensor, "B C H W"], Int[Tensor, "B H W"]]:
        config, size = self.config, self.config.train.batch_size
        mine = self._mine(size, part)
        chosen = self._chosen("labeled", step, size)[mine]
        stream = generator(config.seed, "augment/labeled", step)
        draws = torch.rand(size, augment.DRAWS, generator=stream)[mine]
        if config.augment.max_class_share < 1:
            again = torch.rand(augment.TRIES - 1, size, augment.DRAWS, generator=stream)[:, mine]
            draws = self._balanced(chosen, torch.cat([draws.unsqueeze(0), again]))
        crops = augment.random_crops(self.labeled.sizes(chosen), draws, config.augment).to(self.reader.device)
        image = self.reader.images(self.labeled, chosen, crops)
        return self._weak("labeled", step, mine, image, crops), self.reader.masks(self.labeled, chosen, crops)

    def _unlabeled(self, name: str, step: int, part: int) -> Unlabeled:
        config, size = self.config, self.config.train.unlabeled_batch_size
        mine = self._mine(size, part)
        chosen = self._chosen(name, step, size)[mine]
        draws = torch.rand(size, augment.DRAWS, generator=generator(config.seed, f"augment/{name}", step))[mine]
        crops = augment.random_crops(self.unlabeled.sizes(chosen), draws, config.augment).to(self.reader.device)
        weak = self._weak(name, step, mine, self.reader.images(self.unlabeled, chosen, crops), crops)
        strong = tuple(self._strong(name, view, step, mine, weak, crops) for view in range(self.views.strong))
        pseudo = self.reader.masks(self.unlabeled, chosen, crops) if self.unlabeled.masks is not None else None
        return Unlabeled(weak, strong, crops.inside, pseudo)

    def _weak(self, name: str, step: int, mine: slice, image: Tensor, crops: Crops) -> Float[Tensor, "N C H W"]:
        if not self.config.augment.weak_color:
            return image
        draws = self._color_draws(f"color/{name}/weak", name, step, color.WEAK_DRAWS)[mine]
        return self._padded(color.distortion(image, draws, self.config.augment.weak_color), crops)

    def _strong(
        self, name: str, view: int, step: int, mine: slice, weak: Tensor, crops: Crops
    ) -> Float[Tensor, "U C H W"]:
        settings, purpose = self.config.augment, f"color/{name}/{view}"
        if settings.strong == "intensity":
            number = intensity.draws_of(settings.operations)
            draws = self._color_draws(purpose, name, step, number)[mine]
            return self._padded(intensity.intensity_view(weak, draws, settings.operations), crops)
        draws = self._color_draws(purpose, name, step)[mine]
        return self._padded(color.strong_view(weak, draws, settings), crops)

    def _color_draws(self, purpose: str, name: str, step: int, number: int = color.DRAWS) -> Float[Tensor, "N P"]:
        size = self.config.train.batch_size if name == "labeled" else self.config.train.unlabeled_batch_size
        return torch.rand(size, number, generator=generator(self.config.seed, purpose, step))

    def _padded(self, image: Tensor, crops: Crops) -> Float[Tensor, "N C H W"]:
        """Colors change inside the image only."""
        if crops.fit:
            return image
        return torch.where(crops.inside.unsqueeze(1), image, self.reader.padding[:, None, None])

    def _balanced(self, chosen: Sequence[int], draws: Float[Tensor, "T N 4"]) -> Float[Tensor, "N 4"]:
        assert self.labeled.masks is not None
        masks = (self.labeled.masks[i] for i in chosen)
        tries = [augment.first_balanced(mask, draws[:, j], self.config.augment) for j, mask in enumerate(masks)]
        return draws[tries, range(len(tries))]

    def _mine(self, size: int, part: int) -> slice:
        share = size // self.parts
        return slice(part * share, (part + 1) * share)

    def _chosen(self, name: str, step: int, size: int) -> list[int]:
        """The images of a step's whole batch, from one permutation an epoch; an epoch may begin inside a batch."""
        items, order = self._items[name], self._orders[name]
        turns = (divmod(place, len(items)) for place in range(step * size, (step + 1) * size))
        return [items[_order(self.config.seed, order, epoch, len(items))[i]] for epoch, i in turns]


@lru_cache(maxsize=16)
def _order(seed: int, stream: str, epoch: int, length: int) -> tuple[int, ...]:
    return tuple(torch.randperm(length, generator=generator(seed, f"order/{stream}", epoch)).tolist())
