"""Pascal VOC 2012, alone or with the masks that SBD adds.

Everingham et al., "The Pascal Visual Object Classes Challenge: A Retrospective", IJCV 2015.
SBD: Hariharan et al., "Semantic Contours from Inverse Detectors", ICCV 2011.

    root/JPEGImages/ID.jpg             17125 images
    root/SegmentationClass/ID.png      2913 fine masks, the outlines of objects ignored
    root/SegmentationClassAug/ID.png   12031 masks, most of them SBD's: coarser
    root/ImageSets/Segmentation/{train,val,train_aug}.txt

`root` is VOC2012, or VOCdevkit around it. The training part has 1464 images with fine masks, or the 10582 of
train_aug.txt (trainaug.txt in mmseg). Without that list it is every image with a mask in SegmentationClassAug that is
not in val.txt: the same 10582. The val part has 1449; papers report it. The masks of the test part are not public.

The "classic" lists of labeled images (92 to 1464) and U2PL's 662 and 1323 name images with fine masks alone, other
lists mix in SBD's: numbers of different families of lists do not compare.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from guidedmix_core.datasets import Classes, Dataset, Part, Record
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
from guidedmix_core.datasets._palette import voc_colors
from guidedmix_core.errors import ConfigError

CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
POOLS = ("train_aug.txt", "trainaug.txt")


class VOC2012(Dataset):
    """Photographs of 20 kinds of objects: 10582 training images with SBD's masks (1464 without), 1449 validation."""

    root: str = Field(description="VOC2012, which has JPEGImages and ImageSets/Segmentation, or VOCdevkit around it")
    labels: Literal["aug", "fine"] = Field(
        "aug",
        description="aug: 10582 training images, masks of SegmentationClassAug; fine: 1464, masks of SegmentationClass",
    )

    def classes(self):
        return Classes(CLASSES, voc_colors(len(CLASSES)))

    def parts(self):
        return ("train", "val")

    def records(self, part):
        check_part(self, part)
        root = find_root(self.root, "JPEGImages", "ImageSets/Segmentation", inside="VOC2012")
        folder = self._masks(root, part)
        masks = image_files(folder)
        everything = paired(image_files(root / "JPEGImages"), masks, folder)
        check_strays(everything, masks)
        records = self._chosen(everything, masks, root / "ImageSets" / "Segmentation", part)
        check_judged(records, part)
        return records

    def read_image(self, record):
        return resize_rgb(read_rgb(record), self.size)

    def read_mask(self, record):
        return resize_ids(check_ids(read_ids(record), len(CLASSES), record), self.size)

    def _masks(self, root: Path, part: Part) -> Path:
        """Val is judged by the fine masks; SegmentationClassAug has them, too, where SegmentationClass is left out."""
        fine, aug = root / "SegmentationClass", root / "SegmentationClassAug"
        if part == "val" and self.labels == "aug":
            return fine if fine.is_dir() else aug
        if self.labels == "aug" and not aug.is_dir():
            raise ConfigError(f"{aug}: no such folder; add the masks of SBD, or set data.labels=fine")
        return aug if self.labels == "aug" else fine

    def _chosen(self, records: list[Record], masks: dict[str, Path], lists: Path, part: Part) -> list[Record]:
        if part == "val" or self.labels == "fine":
            return listed(records, lists / f"{part}.txt")
        if pool := next((lists / name for name in POOLS if (lists / name).is_file()), None):
            return listed(records, pool)
        judged = {record.id for record in listed(records, lists / "val.txt")}
        return [record for record in records if record.id in masks and record.id not in judged]
