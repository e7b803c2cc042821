"""DRIVE: vessels of the retina.

Staal et al., "Ridge-Based Vessel Segmentation in Color Images of the Retina", IEEE TMI 2004.

    root/training/images/21_training.tif  1st_manual/21_manual1.gif  mask/21_training_mask.gif
    root/test/images/01_test.tif  1st_manual/01_manual1.gif  2nd_manual/01_manual2.gif  mask/01_test_mask.gif

20 training and 20 test images of 565x584, in a round field of view. There is no official val part: val is the test
part, as in mmseg, so a checkpoint chosen on it is reported optimistically. Newer downloads have no masks of the test
part.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from guidedmix_core.datasets import Classes, Dataset, Record
from guidedmix_core.datasets._files import check_judged, check_strays, find_root, image_files, paired
from guidedmix_core.datasets._images import read_binary, read_rgb, resize_ids, resize_rgb

CLASSES = {"background": (0, 0, 0), "vessel": (6, 230, 230)}


class Drive(Dataset):
    """Fundus photographs, 20 training and 20 test images, two classes."""

    root: str = Field(description="the folder that has training and test")
    observer: Literal["first", "second"] = Field(
        "first", description="whose masks judge the test part: 1st_manual or 2nd_manual; training has the first's only"
    )
    outside_fov: Literal["background", "ignore"] = Field(
        "background",
        description="pixels outside the field of view: background, as in mmseg; ignore: as the authors evaluate",
    )

    def classes(self):
        return Classes(tuple(CLASSES), tuple(CLASSES.values()))

    def records(self, part):
        name = "training" if part == "train" else "test"
        root = find_root(self.root, f"{name}/images") / name
        folder, suffix = root / "1st_manual", "_manual1"
        if self.observer == "second" and part != "train":
            folder, suffix = root / "2nd_manual", "_manual2"
        masks = image_files(folder, suffix) if folder.is_dir() else {}
        records = paired(image_files(root / "images", f"_{name}"), masks, folder, suffix, ".gif")
        check_strays(records, masks)
        check_judged(records, part)
        return records

    def read_image(self, record):
        return resize_rgb(read_rgb(record), self.size)

    def read_mask(self, record):
        mask = read_binary(record)
        if self.outside_fov == "ignore":
            assert record.image is not None
            field = record.image.parent.parent / "mask" / f"{record.image.stem}_mask.gif"
            mask = np.where(read_binary(Record(record.id, record.image, field)) == 1, mask, np.uint8(255))
        return resize_ids(mask, self.size)
