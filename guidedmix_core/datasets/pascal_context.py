"""PASCAL-Context: whole scenes of VOC 2010 in 59 classes, with or without the rest as a 60th.

Mottaghi et al., "The Role of Context for Object Detection and Semantic Segmentation in the Wild", CVPR 2014.

    root/JPEGImages/ID.jpg
    root/SegmentationClassContext/ID.png                    ids 0 (background) to 59, as mmseg's converter writes them
    root/ImageSets/SegmentationContext/{train,val}.txt      4998 and 5105 images

`root` is VOC2010, or VOCdevkit around it. There is no test part: papers report val. Names, order and colors are those
of mmseg. The list of 5291 labeled images in the released GuidedMix-Net names images of VOC 2012; many are not here.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from guidedmix_core.datasets import Classes, Dataset
from guidedmix_core.datasets._files import (
    check_judged,
    check_part,
    check_strays,
    find_root,
    image_files,
    listed,
    paired,
)
from guidedmix_core.datasets._images import check_ids, read_ids, read_rgb, resize_ids, resize_rgb

CLASSES = {
    "background": (120, 120, 120),
    "aeroplane": (180, 120, 120),
    "bicycle": (6, 230, 230),
    "bird": (80, 50, 50),
    "boat": (4, 200, 3),
    "bottle": (120, 120, 80),
    "bus": (140, 140, 140),
    "car": (204, 5, 255),
    "cat": (230, 230, 230),
    "chair": (4, 250, 7),
    "cow": (224, 5, 255),
    "table": (235, 255, 7),
    "dog": (150, 5, 61),
    "horse": (120, 120, 70),
    "motorbike": (8, 255, 51),
    "person": (255, 6, 82),
    "pottedplant": (143, 255, 140),
    "sheep": (204, 255, 4),
    "sofa": (255, 51, 7),
    "train": (204, 70, 3),
    "tvmonitor": (0, 102, 200),
    "bag": (61, 230, 250),
    "bed": (255, 6, 51),
    "bench": (11, 102, 255),
    "book": (255, 7, 71),
    "building": (255, 9, 224),
    "cabinet": (9, 7, 230),
    "ceiling": (220, 220, 220),
    "cloth": (255, 9, 92),
    "computer": (112, 9, 255),
    "cup": (8, 255, 214),
    "door": (7, 255, 224),
    "fence": (255, 184, 6),
    "floor": (10, 255, 71),
    "flower": (255, 41, 10),
    "food": (7, 255, 255),
    "grass": (224, 255, 8),
    "ground": (102, 8, 255),
    "keyboard": (255, 61, 6),
    "light": (255, 194, 7),
    "mountain": (255, 122, 8),
    "mouse": (0, 255, 20),
    "curtain": (255, 8, 41),
    "platform": (255, 5, 153),
    "sign": (6, 51, 255),
    "plate": (235, 12, 255),
    "road": (160, 150, 20),
    "rock": (0, 163, 255),
    "shelves": (140, 140, 140),
    "sidewalk": (250, 10, 15),
    "sky": (20, 255, 0),
    "snow": (31, 255, 0),
    "bedclothes": (255, 31, 0),
    "track": (255, 224, 0),
    "tree": (153, 255, 0),
    "truck": (0, 0, 255),
    "wall": (255, 71, 0),
    "water": (0, 235, 255),
    "window": (0, 173, 255),
    "wood": (31, 0, 255),
}


class PascalContext(Dataset):
    """Photographs in which every pixel has a class: 4998 training, 5105 validation images."""

    root: str = Field(
        description="VOC2010, which has JPEGImages, SegmentationClassContext and ImageSets/SegmentationContext, or "
        "VOCdevkit around it"
    )
    num_classes: Literal[59, 60] = Field(
        60, description="60: background is a class, as in GuidedMix-Net; 59: it is ignored, ids are one less"
    )

    def classes(self):
        first = 60 - self.num_classes
        return Classes(tuple(CLASSES)[first:], tuple(CLASSES.values())[first:])

    def parts(self):
        return ("train", "val")

    def records(self, part):
        check_part(self, part)
        lists = "ImageSets/SegmentationContext"
        root = find_root(self.root, "JPEGImages", "SegmentationClassContext", lists, inside="VOC2010")
        masks = image_files(root / "SegmentationClassContext")
        records = paired(image_files(root / "JPEGImages"), masks, root / "SegmentationClassContext")
        check_strays(records, masks)
        records = listed(records, root / lists / f"{part}.txt")
        check_judged(records, part)
        return records

    def read_image(self, record):
        return resize_rgb(read_rgb(record), self.size)

    def read_mask(self, record):
        mask = check_ids(read_ids(record), len(CLASSES), record)
        if self.num_classes == 59:
            mask = np.where(mask == 255, mask, mask - 1)  # background wraps from 0 to 255
        return resize_ids(mask, self.size)
