"""COVID-SemiSeg: infected regions in slices of lung CT, with few labeled and many unlabeled slices.

Fan et al., "Inf-Net: Automatic COVID-19 Lung Infection Segmentation From CT Images", IEEE TMI 2020, arXiv 2004.14133.

    root/TrainingSet/LungInfection-Train/Doctor-label/{Imgs,GT}    50 labeled slices
    root/TrainingSet/LungInfection-Train/Pseudo-label/Imgs         1600 unlabeled slices
    root/TrainingSet/MultiClassInfection-Train/{Imgs,GT}           the 50 slices, with the kind of infection
    root/TestingSet/{LungInfection-Test,MultiClassInfection-Test}/{Imgs,GT}   48 slices

Images are .jpg of many sizes, masks .png of the same names. The labeled and the test slices come from those of
`covid_ct100`. Pseudo-label/GT, the authors' own predictions, is never opened: its slices have no mask here. The
authors made no val part: val is the test part, so a checkpoint chosen on it is reported optimistically.

Masks of the infection are black and white. Masks of its kinds are red (128, 0, 0) for ground-glass opacity and green
(0, 128, 0) for consolidation; the released loader reads them as gray 38 and 75, and so do we.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from guidedmix_core.datasets import Classes, Dataset, Part
from guidedmix_core.datasets._files import check_judged, check_strays, find_root, image_files, paired
from guidedmix_core.datasets._images import read_binary, read_gray, read_rgb, resize_ids, resize_rgb
from guidedmix_core.errors import ConfigError

KINDS = {"background": (0, 0, 0), "ground-glass opacity": (128, 0, 0), "consolidation": (0, 128, 0)}
GRAY_OF_KINDS = (0, 38, 75)
FOLDERS = {"infection": "LungInfection", "multiclass": "MultiClassInfection"}


class CovidCT(Dataset):
    """Slices of lung CT, 50 labeled and 1600 unlabeled training slices, 48 test slices, two or three classes."""

    root: str = Field(description="the folder that has TrainingSet and TestingSet")
    task: Literal["infection", "multiclass"] = Field(
        "infection",
        description="infection: against the background; multiclass: ground-glass opacity, consolidation and background",
    )

    def classes(self):
        if self.task == "multiclass":
            return Classes(tuple(KINDS), tuple(KINDS.values()))
        return Classes(("background", "infection"), ((0, 0, 0), (128, 0, 0)))

    def records(self, part):
        root = find_root(self.root, "TrainingSet", "TestingSet")
        folder = self._labeled(root, part)
        images, masks = image_files(folder / "Imgs"), image_files(folder / "GT")
        check_strays(paired(images, masks, folder / "GT"), masks)
        if part == "train":
            images = _joined(images, root / "TrainingSet" / "LungInfection-Train" / "Pseudo-label" / "Imgs")
        records = paired(images, masks, folder / "GT")
        check_judged(records, part)
        return records

    def read_image(self, record):
        return resize_rgb(read_rgb(record), self.size)

    def read_mask(self, record):
        if self.task == "infection":
            return resize_ids(read_binary(record), self.size)
        gray = read_gray(record)
        if strange := sorted(set(np.unique(gray).tolist()) - set(GRAY_OF_KINDS)):
            raise ConfigError(
                f"{record.mask}: the mask has the gray values {strange}; expected {list(GRAY_OF_KINDS)}: black, "
                "(128, 0, 0) and (0, 128, 0)"
            )
        return resize_ids(np.searchsorted(GRAY_OF_KINDS, gray).astype(np.uint8), self.size)

    def _labeled(self, root: Path, part: Part) -> Path:
        name = FOLDERS[self.task]
        if part != "train":
            return root / "TestingSet" / f"{name}-Test"
        folder = root / "TrainingSet" / f"{name}-Train"
        return folder / "Doctor-label" if self.task == "infection" else folder


def _joined(labeled: dict[str, Path], folder: Path) -> dict[str, Path]:
    unlabeled = image_files(folder) if folder.is_dir() else {}
    if both := sorted(set(labeled) & set(unlabeled)):
        raise ConfigError(
            f"{unlabeled[both[0]]}: {len(both)} unlabeled images have the name of a labeled one; rename or remove them"
        )
    return dict(sorted((labeled | unlabeled).items()))
