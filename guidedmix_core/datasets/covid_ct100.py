"""The COVID-19 CT segmentation data set of MedSeg: 100 slices of lung CT in two NIfTI files.

MedSeg, medicalsegmentation.com/covid19, 2020; slices collected by the Italian Society of Medical Radiology.

    root/tr_im.nii.gz  root/tr_mask.nii.gz      512x512x100; .nii does, too

Classes: 0 background, 1 ground-glass opacity, 2 consolidation, 3 pleural effusion, which is in few slices. The slices
are of some 40 patients. There is no official cut, and neither of these looks at patients; val and test are the same:

    first_70  slices 0-69 train, 70-99 test, as in nope-pepepe/COVID-Segmentation
    inf_net   the slices of COVID-SemiSeg (see `covid_ct`): 50 train, 48 test, 22 and 48 left out. That the names of
              its files are the numbers of the slices is our reading.

A slice is transposed, so that the patient lies as in a radiologist's picture, and stretched to 0-255.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Literal

import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Image
from pydantic import Field

from guidedmix_core.datasets import Classes, Dataset, Part, Record
from guidedmix_core.datasets._files import find_root
from guidedmix_core.datasets._images import resize_ids, resize_rgb
from guidedmix_core.errors import ConfigError
from guidedmix_core.fields import Interval

CLASSES = {
    "background": (0, 0, 0),
    "ground-glass opacity": (128, 0, 0),
    "consolidation": (0, 128, 0),
    "pleural effusion": (0, 0, 128),
}
NUM_SLICES = 100
INF_NET_TRAIN = {*range(6), *range(10, 18), 19, 20, *range(23, 36), 37, *range(39, 48), *range(49, 59), 67}
INF_NET_LEFT_OUT = {22, 48}


class CovidCT100(Dataset):
    """Slices of lung CT with three kinds of infection, 70 training and 30 test slices (or 50 and 48), four classes."""

    root: str = Field(description="the folder that has tr_im.nii.gz and tr_mask.nii.gz")
    cut: Literal["first_70", "inf_net"] = Field(
        "first_70", description="which slices train: the first 70, or Inf-Net's 50"
    )
    window: Interval | None = Field(
        None, description="what is black and what is white, in the units of the file; null: each slice's own extremes"
    )

    def classes(self):
        return Classes(tuple(CLASSES), tuple(CLASSES.values()))

    def records(self, part):
        root = find_root(self.root, "tr_im.nii*", "tr_mask.nii*")
        image, mask = (next(root.glob(f"{name}.nii*")) for name in ("tr_im", "tr_mask"))
        shapes = [_volume(path).shape for path in (image, mask)]
        if shapes[0] != shapes[1] or shapes[0][2:] != (NUM_SLICES,):
            raise ConfigError(
                f"{root}: the volumes are {shapes[0]} and {shapes[1]}; expected equal shapes and {NUM_SLICES} slices"
            )
        return [Record(f"slice_{i:02d}", image, mask, i) for i in self._slices(part)]

    def read_image(self, record):
        assert record.image is not None
        slice_ = _slice(record.image, record).astype(np.float32)
        low, high = self.window or (slice_.min(), slice_.max())
        gray = ((slice_ - low) / max(high - low, 1e-6)).clip(0, 1) * 255
        return resize_rgb(np.repeat(gray.round().astype(np.uint8)[..., None], 3, axis=2), self.size)

    def read_mask(self, record):
        assert record.mask is not None
        ids = _slice(record.mask, record)
        if (strange := ~np.isin(ids, range(len(CLASSES)))).any():
            raise ConfigError(
                f"{record.mask}: {record.id} has the values {np.unique(ids[strange])[:5].tolist()}; expected the ids "
                f"0 to {len(CLASSES) - 1}"
            )
        return resize_ids(ids.astype(np.uint8), self.size)

    def _slices(self, part: Part) -> list[int]:
        trained = set(range(70)) if self.cut == "first_70" else INF_NET_TRAIN
        left_out = set() if self.cut == "first_70" else INF_NET_LEFT_OUT
        return sorted(trained if part == "train" else set(range(NUM_SLICES)) - trained - left_out)


def _volume(path: Path) -> Nifti1Image:
    try:
        return Nifti1Image.from_filename(path)
    except (ImageFileError, OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{path}: can't be read as NIfTI ({error}); download it again") from error


def _slice(path: Path, record: Record) -> np.ndarray:
    """Height by width; a NIfTI file has them the other way round. OSError if it can't be decoded."""
    try:
        return np.asarray(_volume(path).dataobj[..., record.slice]).T
    except (ConfigError, EOFError, zlib.error, ValueError) as error:
        raise OSError(f"{path}: {error}") from error
