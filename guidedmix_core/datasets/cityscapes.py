"""Cityscapes, the fine annotations.

Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016, arXiv 1604.01685.

    root/leftImg8bit/{train,val}/CITY/STEM_leftImg8bit.png
    root/gtFine/{train,val}/CITY/STEM_gtFine_labelIds.png        as it is downloaded: ids 0 to 33
    root/gtFine/{train,val}/CITY/STEM_gtFine_labelTrainIds.png   as cityscapesscripts makes them: ids 0 to 18, 255

The id of an image is CITY/STEM, so all published lists resolve. The masks of the test part are not public (the files
there are empty); papers report val.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from guidedmix_core.datasets import Classes, Dataset
from guidedmix_core.datasets._files import check_judged, check_part, check_strays, find_root, image_files, paired
from guidedmix_core.datasets._images import check_ids, read_ids, read_rgb, resize_ids, resize_rgb
from guidedmix_core.errors import ConfigError

CLASSES = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
}
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Which of the 34 ids of the annotation is which class; the others are ignored."""
NUM_LABEL_IDS = 34
SUFFIXES = {"label_ids": "_gtFine_labelIds", "train_ids": "_gtFine_labelTrainIds"}


class Cityscapes(Dataset):
    """Streets of 50 cities, 2975 training and 500 validation images of 2048x1024."""

    root: str = Field(description="the folder that has leftImg8bit and gtFine")
    masks: Literal["label_ids", "train_ids"] = Field(
        "label_ids",
        description="label_ids: *_gtFine_labelIds.png, as downloaded; train_ids: *_gtFine_labelTrainIds.png, made by "
        "cityscapesscripts. Both give the same 19 classes",
    )

    def classes(self):
        return Classes(tuple(CLASSES), tuple(CLASSES.values()))

    def parts(self):
        return ("train", "val")

    def records(self, part):
        check_part(self, part)
        root = find_root(self.root, f"leftImg8bit/{part}", f"gtFine/{part}")
        folder, suffix = root / "gtFine" / part, SUFFIXES[self.masks]
        masks = image_files(folder, suffix)
        if not masks:
            self._complain(folder)
        images = image_files(root / "leftImg8bit" / part, "_leftImg8bit")
        records = paired(images, masks, folder, suffix)
        check_strays(records, masks)
        check_judged(records, part)
        return records

    def read_image(self, record):
        return resize_rgb(read_rgb(record), self.size)

    def read_mask(self, record):
        mask = read_ids(record)
        if self.masks == "train_ids":
            mask = check_ids(mask, len(CLASSES), record)
        else:
            table = np.full(256, 255, np.uint8)
            table[list(LABEL_IDS)] = np.arange(len(CLASSES))
            mask = table[check_ids(mask, NUM_LABEL_IDS, record)]
        return resize_ids(mask, self.size)

    def _complain(self, folder: Path) -> None:
        other = next(name for name in SUFFIXES if name != self.masks)
        cure = "add them"
        if image_files(folder, SUFFIXES[other]):
            cure = f"there are *{SUFFIXES[other]}.png, so set data.masks={other}"
        raise ConfigError(f"{folder}: no *{SUFFIXES[self.masks]}.png in it (data.masks={self.masks}); {cure}")
