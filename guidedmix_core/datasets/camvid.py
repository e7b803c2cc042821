"""CamVid in SegNet's 11-class version.

Brostow, Fauqueur, Cipolla, "Semantic object classes in video", PRL 2009.
Badrinarayanan, Kendall, Cipolla, "SegNet", PAMI 2017, arXiv 1511.00561.

    root/train/NAME.png  root/trainannot/NAME.png  root/val  root/valannot  root/test  root/testannot

Images may be .jpg. Ids 0-10 are classes, 11 is unlabeled. The val frames are neighbors of training frames; only the
drive `Seq05VD` in test is new.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from guidedmix_core.datasets import Classes, Dataset
from guidedmix_core.datasets._files import check_judged, check_strays, find_root, image_files, paired
from guidedmix_core.datasets._images import check_ids, read_ids, read_rgb, resize_ids, resize_rgb

CLASSES = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}
UNLABELED = 11


class CamVid(Dataset):
    """Road scenes, 367 training, 101 validation, 233 test frames of 480x360."""

    root: str = Field(description="the folder that has train, trainannot, val, valannot, test, testannot")

    def classes(self):
        return Classes(tuple(CLASSES), tuple(CLASSES.values()))

    def records(self, part):
        root = find_root(self.root, part, f"{part}annot")
        masks = image_files(root / f"{part}annot")
        records = paired(image_files(root / part), masks, root / f"{part}annot")
        check_strays(records, masks)
        check_judged(records, part)
        return records

    def read_image(self, record):
        return resize_rgb(read_rgb(record), self.size)

    def read_mask(self, record):
        mask = read_ids(record)
        mask = np.where(mask == UNLABELED, np.uint8(255), mask)
        return resize_ids(check_ids(mask, len(CLASSES), record), self.size)
