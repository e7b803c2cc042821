"""Any data set that lies in a folder of images and a folder of masks.

The parts may be folders, as in the default, or lists:

    ISIC 2018   {images: ISIC2018_Task1-2_{part}_Input, masks: ISIC2018_Task1_{part}_GroundTruth,
                 part_names: {train: Training, val: Validation, test: Test}, mask_suffix: _segmentation}
    Kvasir-SEG  {images: images, masks: masks, lists: {train: train.txt, val: val.txt}}
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from guidedmix_core.components import Config
from guidedmix_core.datasets import Classes, Dataset, Part, Record
from guidedmix_core.datasets._files import check_judged, check_strays, image_files, paired
from guidedmix_core.datasets._images import (
    check_ids,
    read_binary,
    read_colors,
    read_ids,
    read_rgb,
    resize_ids,
    resize_rgb,
)
from guidedmix_core.datasets._palette import voc_colors
from guidedmix_core.errors import ConfigError
from guidedmix_core.fields import Color, Tuple
from guidedmix_core.lists import Names, read_list


class Lists(Config):
    """Which images a part has: text files with one image a line, relative to the root."""

    train: str
    val: str
    test: str | None = None


class PartNames(Config):
    """What the parts are called in the names of folders."""

    train: str = "train"
    val: str = "val"
    test: str = "test"


class Folder(Dataset):
    """Images and masks of the same names in two folders."""

    root: str = Field(description="the folder that the other paths start from")
    images: str = Field("images/{part}", description="folder of the images; {part} stands for train, val or test")
    masks: str = Field("masks/{part}", description="folder of the masks; an image that is never labeled needs none")
    part_names: PartNames = Field(PartNames(), description="what {part} stands for, such as train: Training")
    image_suffix: str = Field("", description="what follows the id in the name of an image, without the ending")
    mask_suffix: str = Field("", description="what follows the id in the name of a mask, without the ending")
    lists: Lists | None = Field(
        None, description="files that list each part's images; null: each part has its own folder"
    )
    class_names: Annotated[tuple[str, ...], Tuple] = Field(
        min_length=1, max_length=255, description="in the order of their ids"
    )
    palette: Annotated[tuple[Color, ...], Tuple] | None = Field(
        None, description="a color for each class; null: Pascal VOC's colors"
    )
    mask_format: Literal["ids", "palette", "binary"] = Field(
        "ids",
        description="ids: a mask's numbers are ids (gray or indexed PNG); palette: its colors are those of `palette`; "
        "binary: black is the first class, white (128 or more, as in a JPEG) the second",
    )
    ignore: Annotated[tuple[int, ...], Tuple] = Field(
        (255,), description="ids in the masks that are ignored; 255 always is"
    )
    ignore_colors: Annotated[tuple[Color, ...], Tuple] = Field(
        (), description="colors in the masks that are ignored, for mask_format=palette"
    )

    @model_validator(mode="after")
    def _fits(self) -> Folder:
        if self.palette and len(self.palette) != len(self.class_names):
            raise ValueError(
                f"palette has {len(self.palette)} colors, class_names {len(self.class_names)} names; expected as many"
            )
        if self.mask_format == "palette" and not self.palette:
            raise ValueError("mask_format=palette needs the palette: one color for each class")
        if self.mask_format == "binary" and len(self.class_names) != 2:
            raise ValueError(f"mask_format=binary has two classes, black and white; class_names has {self.class_names}")
        colors = [*(self.palette or ()), *self.ignore_colors]
        if self.mask_format == "palette" and len(set(colors)) < len(colors):
            raise ValueError("palette and ignore_colors name a color twice; in a mask it can stand for one class only")
        if self.lists is None and "{part}" not in self.images:
            raise ValueError(
                f"images={self.images}: without lists it must say where the parts lie, such as images/{{part}}"
            )
        return self

    def classes(self):
        return Classes(self.class_names, self.palette or voc_colors(len(self.class_names)))

    def parts(self):
        has_test = self.lists.test is not None if self.lists else self._folder(self.images, "test").is_dir()
        return ("train", "val", "test") if has_test else ("train", "val")

    def records(self, part):
        root = Path(self.root).expanduser()
        listed = read_list(root / self._list(part)) if self.lists else None
        images, masks = self._folder(self.images, part), self._folder(self.masks, part)
        files = image_files(images, self.image_suffix, besides=self.mask_suffix if images == masks else "")
        mask_files = image_files(masks, self.mask_suffix) if masks.is_dir() else {}
        records = paired(files, mask_files, masks, self.mask_suffix)
        if listed is None:
            check_strays(records, mask_files)
        else:
            records = Names(records).find_all(listed, str(root / self._list(part)))
        check_judged(records, part)
        return records

    def read_image(self, record):
        return resize_rgb(read_rgb(record), self.size)

    def read_mask(self, record):
        if self.mask_format == "palette":
            mask = self._classes_of(read_colors(record), record)
        elif self.mask_format == "binary":
            mask = read_binary(record)
        else:
            table = np.arange(256, dtype=np.uint8)
            table[[value for value in self.ignore if 0 <= value <= 255]] = 255
            mask = check_ids(table[read_ids(record)], len(self.class_names), record)
        return resize_ids(mask, self.size)

    def _folder(self, pattern: str, part: Part) -> Path:
        return Path(self.root).expanduser() / pattern.replace("{part}", getattr(self.part_names, part))

    def _list(self, part: Part) -> str:
        assert self.lists is not None
        name = {"train": self.lists.train, "val": self.lists.val, "test": self.lists.test}[part]
        if name is None:
            raise ConfigError(
                f"data.lists.{part} is not given; list the {part} images, or choose another evaluate.part"
            )
        return name

    def _classes_of(self, colors: np.ndarray, record: Record) -> np.ndarray:
        known = [*(self.palette or ()), *self.ignore_colors]
        ids = np.array([*range(len(self.class_names)), *(255 for _ in self.ignore_colors)], np.uint8)
        codes = _codes(np.array(known))
        order = np.argsort(codes)
        found = _codes(colors)
        place = np.searchsorted(codes[order], found).clip(max=len(codes) - 1)
        if (strange := codes[order][place] != found).any():
            color = tuple(colors[strange][0].tolist())
            raise ConfigError(
                f"{record.mask}: the mask has the color {color}, which is no class; add it to palette or ignore_colors"
            )
        return ids[order][place]


def _codes(colors: np.ndarray) -> np.ndarray:
    return colors.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
