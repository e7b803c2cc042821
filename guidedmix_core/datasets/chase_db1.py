"""CHASE_DB1: vessels of the retina.

Fraz et al., "An Ensemble Classification-Based Approach Applied to Retinal Blood Vessel Segmentation", IEEE TBME 2012.

    root/Image_01L.jpg  root/Image_01L_1stHO.png  root/Image_01L_2ndHO.png   child 01 to 14, left and right eye

28 images of 14 children, 999x960, each annotated by two observers. An eye resembles its fellow, so a child is never
split. By default children 01 to 10 train and 11 to 14 (8 images) are both val and test: the 20/8 images of mmseg.
Choosing a checkpoint on the images that are reported is optimistic; `validation_children` sets some apart.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from guidedmix_core.datasets import Classes, Dataset, Part, Record
from guidedmix_core.datasets._files import check_judged, check_strays, find_root, image_files, paired
from guidedmix_core.datasets._images import read_binary, read_rgb, resize_ids, resize_rgb
from guidedmix_core.errors import ConfigError

CLASSES = {"background": (0, 0, 0), "vessel": (6, 230, 230)}
SUFFIXES = {"first": "_1stHO", "second": "_2ndHO"}


class ChaseDB1(Dataset):
    """Fundus photographs of 14 children, 20 training and 8 test images, two classes."""

    root: str = Field(description="the folder that has Image_01L.jpg, Image_01L_1stHO.png and so on")
    observer: Literal["first", "second"] = Field("first", description="whose masks; the literature uses the first's")
    train_children: int = Field(
        10, ge=1, le=13, description="the others are the test part: 10 gives 20/8 images (mmseg), 4 gives 8/20"
    )
    validation_children: int = Field(
        0, ge=0, description="the last so many of the training children are val instead; 0: val is the test part"
    )

    @model_validator(mode="after")
    def _leaves_some_to_train(self) -> ChaseDB1:
        if self.validation_children >= self.train_children:
            raise ValueError(
                f"validation_children={self.validation_children}: expected fewer than "
                f"train_children={self.train_children}, from which they are taken"
            )
        return self

    def classes(self):
        return Classes(tuple(CLASSES), tuple(CLASSES.values()))

    def records(self, part):
        root = find_root(self.root, "Image_01L.jpg")
        masks = image_files(root, SUFFIXES[self.observer])
        records = paired(image_files(root, besides="HO"), masks, root, SUFFIXES[self.observer])
        check_strays(records, masks)
        chosen = [record for record in records if _child(record) in self._children(part)]
        check_judged(chosen, part)
        return chosen

    def read_image(self, record):
        return resize_rgb(read_rgb(record), self.size)

    def read_mask(self, record):
        return resize_ids(read_binary(record), self.size)

    def _children(self, part: Part) -> range:
        first_val = self.train_children - self.validation_children + 1
        train, test = range(1, first_val), range(self.train_children + 1, 15)
        val = range(first_val, self.train_children + 1) or test
        return {"train": train, "val": val, "test": test}[part]


def _child(record: Record) -> int:
    """ConfigError if the name does not tell."""
    if not (found := re.fullmatch(r"Image_(\d\d)[LR]", record.id)):
        raise ConfigError(f"{record.image}: the name tells no child; expected one such as Image_01L.jpg, or remove it")
    return int(found[1])
