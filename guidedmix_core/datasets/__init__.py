"""The data set: which images exist in which part, how to read one, what its classes are. One component a file.

Everything about speed (decoding once, memory-mapping, streams, views) lives elsewhere: a data set only lists and reads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from pydantic import Field

from guidedmix_core.components import Component
from guidedmix_core.fields import Size

Part = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Classes:
    """Names and colors of the classes, in the order of their ids. 255 is ignored everywhere."""

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Record:
    """One image: its id in split files, where it lies, where its mask lies. A generated data set has no files."""

    id: str
    image: Path | None
    mask: Path | None
    slice: int | None = None
    """Which one, where the files hold many."""

    @property
    def has_mask(self) -> bool:
        """Whether a mask could be read. Does not open it."""
        return self.image is None or (self.mask is not None and self.mask.is_file())


class Dataset(Component, ABC):
    """The contract. Reading is pure: the same record gives the same array, in any process."""

    family = "datasets"

    size: Size | None = Field(
        None,
        description="resize every image to this height and width when it is decoded, and every mask by nearest "
        "neighbor, so that predictions are judged at this size, too (Inf-Net judges at the mask's own); null: as it is",
    )
    unreadable_tolerance: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of a part's images that may be unreadable; they are skipped and counted. Above it: an error",
    )

    @abstractmethod
    def classes(self) -> Classes: ...

    def parts(self) -> tuple[Part, ...]:
        """The parts there are: some data sets keep the masks of their test part to themselves."""
        return ("train", "val", "test")

    @abstractmethod
    def records(self, part: Part) -> list[Record]:
        """The part's images in a fixed order. ConfigError (with path and cure) if the folder is not as expected, an
        image has no mask
        or a mask no image. Masks are not opened here, and a missing mask of a training image is an error only when it
        is read:
        unlabeled images need none."""

    @abstractmethod
    def read_image(self, record: Record) -> UInt8[np.ndarray, "H W 3"]:
        """RGB, resized to `size`. OSError if it can't be decoded."""

    @abstractmethod
    def read_mask(self, record: Record) -> UInt8[np.ndarray, "H W"]:
        """Class ids, 255 where ignored, resized to `size` by nearest neighbor. ConfigError if it has an id that is no
        class."""
