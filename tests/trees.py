"""Tiny data sets on disk, in their official layouts. Images are noise, so no two are equal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image

from guidedmix_core.components import find
from guidedmix_core.datasets import Dataset
from guidedmix_core.datasets._palette import voc_colors
from guidedmix_core.schema import build
from guidedmix_core.sources import Tree

SIZE = (24, 32)
COUNTS = {"train": 8, "val": 3, "test": 2}


def write_camvid(root: Path, size: tuple[int, int] = (24, 32)) -> Path:
    """Images of noise; mask i has the classes 0 and i mod 11, and a stripe of the unlabeled id."""
    rng = np.random.default_rng(0)
    for part, count in COUNTS.items():
        for i in range(count):
            mask = np.zeros(size, np.uint8)
            mask[:, size[1] // 2 :] = i % 11
            mask[:2] = 11
            write(root / part / f"{part}_{i}.png", rng.integers(0, 256, (*size, 3), np.uint8))
            write(root / f"{part}annot" / f"{part}_{i}.png", mask)
    return root


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write_lines(path: Path, *lines: str) -> str:
    """The path, as a configuration has it. The last line has no end, as in the published lists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))
    return str(path)


def write_voc2012(root: Path) -> Path:
    """5 fine training images, 3 more with SBD's masks, 3 of val; one of no part. `2007_00000i` has the classes 0, i."""
    everything = [f"2007_{i:06d}" for i in range(12)]
    fine, sbd, val = everything[:5], everything[5:8], everything[8:11]
    for i, name in enumerate(everything):
        write_noise(root / "JPEGImages" / f"{name}.jpg", i)
    for i, name in enumerate(everything[:11]):
        if name not in sbd:
            write_indexed(root / "SegmentationClass" / f"{name}.png", halves(0, i, outline=255))
        write(root / "SegmentationClassAug" / f"{name}.png", halves(0, i))
    lists = root / "ImageSets" / "Segmentation"
    write_lines(lists / "train.txt", *fine)
    write_lines(lists / "val.txt", *val)
    write_lines(
        lists / "train_aug.txt", *(f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png" for name in fine + sbd)
    )
    return root


def write_pascal_context(root: Path) -> Path:
    """4 training and 2 validation images; `2008_00000i` has the ids i (0 is background) and 59."""
    names = [f"2008_{i:06d}" for i in range(6)]
    for i, name in enumerate(names):
        write_noise(root / "JPEGImages" / f"{name}.jpg", i)
        write(root / "SegmentationClassContext" / f"{name}.png", halves(i, 59))
    write_lines(root / "ImageSets" / "SegmentationContext" / "train.txt", *names[:4])
    write_lines(root / "ImageSets" / "SegmentationContext" / "val.txt", *names[4:])
    return root


CITIES = {"train": ("aachen", "ulm"), "val": ("munster",)}


def write_cityscapes(root: Path, *kinds: str) -> Path:
    """3 images a city: road and sky (ids 7 and 23, classes 0 and 10), the ego vehicle (1) above them.

    `kinds` are `labelIds` (the default) and `labelTrainIds`.
    """
    masks = {"labelIds": halves(7, 23, outline=1), "labelTrainIds": halves(0, 10, outline=255)}
    for part, cities in CITIES.items():
        for number, (city, i) in enumerate((city, i) for city in cities for i in range(3)):
            stem = f"{city}/{city}_{i:06d}_000019"
            write_noise(root / "leftImg8bit" / part / f"{stem}_leftImg8bit.png", number + 10 * (part == "val"))
            for kind in kinds or ("labelIds",):
                write(root / "gtFine" / part / f"{stem}_gtFine_{kind}.png", masks[kind])
                write(root / "gtFine" / part / f"{stem}_gtFine_color.png", np.zeros((*SIZE, 4), np.uint8))
    return root


def write_chase_db1(root: Path) -> Path:
    """28 images. The first observer's masks are unclean grays, the second's 1-bit and all vessel."""
    for number, eye in enumerate(f"{child:02d}{side}" for child in range(1, 15) for side in "LR"):
        write_noise(root / f"Image_{eye}.jpg", number)
        write(root / f"Image_{eye}_1stHO.png", halves(127, 128, outline=3))
        write(root / f"Image_{eye}_2ndHO.png", np.ones(SIZE, bool))
    return root


def write_drive(root: Path) -> Path:
    """3 training and 2 test images; the right half is vessel, the upper rows are outside the field of view."""
    for part, numbers in {"training": range(21, 24), "test": range(1, 3)}.items():
        for number in numbers:
            write_noise(root / part / "images" / f"{number:02d}_{part}.tif", number)
            write(root / part / "1st_manual" / f"{number:02d}_manual1.gif", halves(0, 255))
            write(root / part / "mask" / f"{number:02d}_{part}_mask.gif", halves(255, 255, outline=0))
    for number in (1, 2):
        write(root / "test" / "2nd_manual" / f"{number:02d}_manual2.gif", halves(255, 0))
    return root


def write_covid_ct(root: Path) -> Path:
    """3 labeled, 4 unlabeled (their own predictions are no images at all), 2 test slices, of different sizes, gray."""
    training, testing = root / "TrainingSet", root / "TestingSet"
    labeled = {
        training / "LungInfection-Train" / "Doctor-label": range(3),
        training / "MultiClassInfection-Train": range(3),
        testing / "LungInfection-Test": range(3, 5),
        testing / "MultiClassInfection-Test": range(3, 5),
    }
    for folder, numbers in labeled.items():
        for number in numbers:
            size = (SIZE[0] + number, SIZE[1])
            write_noise(folder / "Imgs" / f"{number}.jpg", number, size, gray=True)
            kinds = halves(1, 2, size, outline=0)
            if "MultiClass" in folder.name:
                write_indexed(folder / "GT" / f"{number}.png", kinds)
            else:
                write(folder / "GT" / f"{number}.png", np.uint8(255) * (kinds > 0))
    pseudo = training / "LungInfection-Train" / "Pseudo-label"
    for number in range(4):
        write_noise(pseudo / "Imgs" / f"Data-1_coronacases_org_001_{number}.jpg", 50 + number, gray=True)
        write_lines(pseudo / "GT" / f"Data-1_coronacases_org_001_{number}.png", "no image")
    return root


def write_covid_ct100(root: Path) -> Path:
    """100 slices. Slice i is a ramp along the second axis of the file; left of it ids 0, right of it i mod 4."""
    height, width = SIZE
    ramp = np.random.default_rng(0).integers(-900, -800, (width, height, 100), np.int16)
    ramp += (40 * np.arange(height, dtype=np.int16))[None, :, None]
    ids = np.zeros((width, height, 100), np.float32)
    ids[width // 2 :] = np.arange(100) % 4
    root.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(ramp, np.eye(4)), root / "tr_im.nii.gz")
    nibabel.save(nibabel.Nifti1Image(ids, np.eye(4)), root / "tr_mask.nii.gz")
    return root


def write_isic(root: Path) -> Path:
    """ISIC 2018, task 1."""
    for part, count in {"Training": 3, "Validation": 2, "Test": 2}.items():
        for i in range(count):
            name = f"ISIC_{i:07d}"
            write_noise(root / f"ISIC2018_Task1-2_{part}_Input" / f"{name}.jpg", 7 * i + len(part))
            write(root / f"ISIC2018_Task1_{part}_GroundTruth" / f"{name}_segmentation.png", halves(0, 255))
        write_lines(root / f"ISIC2018_Task1-2_{part}_Input" / "LICENSE.txt", "CC-0")
    return root


def write_kvasir(root: Path) -> Path:
    """Kvasir-SEG with its authors' lists: masks are JPEG, so black and white are not clean."""
    names, size = [f"cju0qkwl35piu0993l0dewei{i}" for i in range(5)], (24, 36)  # its middle is inside a JPEG block
    for i, name in enumerate(names):
        write_noise(root / "images" / f"{name}.jpg", i, size)
        write(root / "masks" / f"{name}.jpg", np.repeat(halves(0, 255, size)[..., None], 3, axis=2))
    write_lines(root / "train.txt", *names[:3])
    write_lines(root / "val.txt", *names[3:])
    return root


def write_folder(root: Path) -> Path:
    for number, (part, i) in enumerate((part, i) for part in ("train", "val", "test") for i in range(3)):
        write_noise(root / "images" / part / f"{i}.png", number)
        write(root / "masks" / part / f"{i}.png", halves(0, 1))
    return root


TREES: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    "camvid": (write_camvid, {}),
    "chase_db1": (write_chase_db1, {}),
    "cityscapes": (write_cityscapes, {}),
    "covid_ct": (write_covid_ct, {}),
    "covid_ct100": (write_covid_ct100, {}),
    "drive": (write_drive, {}),
    "folder": (write_folder, {"class_names": ["ground", "thing"]}),
    "pascal_context": (write_pascal_context, {}),
    "voc2012": (write_voc2012, {}),
}
"""For each data set that has files: what writes a tiny one, and the fields it needs besides `root`."""


def dataset_at(name: str, root: Path, **fields: Any) -> Dataset:
    """The data set of that name on the tree at a root."""
    return built(name, {"root": str(root), **TREES[name][1], **fields})


def built(name: str, fields: dict[str, Any]) -> Dataset:
    """The data set of that name, as a configuration builds it."""
    component = find("datasets", name)
    assert issubclass(component, Dataset)
    return build(Tree(fields, {}), component)


def halves(left: int, right: int, size: tuple[int, int] = SIZE, *, outline: int | None = None) -> np.ndarray:
    """One value in the left half, another in the right, and the upper two rows of a third."""
    mask = np.full(size, left, np.uint8)
    mask[:, size[1] // 2 :] = right
    if outline is not None:
        mask[:2] = outline
    return mask


def write_noise(path: Path, seed: int, size: tuple[int, int] = SIZE, *, gray: bool = False) -> None:
    write(path, np.random.default_rng(seed).integers(0, 256, size if gray else (*size, 3), np.uint8))


def write_indexed(path: Path, ids: np.ndarray) -> None:
    """As VOC's masks: the ids with a palette of colors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(ids)
    picture.putpalette([channel for color in voc_colors(256) for channel in color])
    picture.save(path)
