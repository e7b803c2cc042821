"""Folders of images and masks as records."""

from __future__ import annotations

from pathlib import Path

from guidedmix_core.datasets import Part, Record
from guidedmix_core.datasets._images import EXTENSIONS
from guidedmix_core.errors import ConfigError


def image_files(folder: Path, suffix: str = "", *, besides: str = "") -> dict[str, Path]:
    """Id to file, in the order of the ids. The id is the path in the folder, without suffix and ending.

    Files whose name ends in `besides` are left out. ConfigError if the folder is not there or an id has two files.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; set data.root to the folder of the data set")
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        stem = path.stem
        if path.suffix.lower() not in EXTENSIONS or not stem.endswith(suffix) or (besides and stem.endswith(besides)):
            continue
        name = str((path.relative_to(folder).parent / stem.removesuffix(suffix)).as_posix())
        if name in files:
            raise ConfigError(f"{path}: {files[name].name} has the same id {name!r}; keep one of the two")
        files[name] = path
    return dict(sorted(files.items()))


def paired(images: dict[str, Path], masks: dict[str, Path], mask_folder: Path, mask_suffix: str = "") -> list[Record]:
    """A record for each image. One without a mask gets the path where its mask should be."""
    return [
        Record(name, path, masks.get(name, mask_folder / f"{name}{mask_suffix}.png")) for name, path in images.items()
    ]


def check_strays(records: list[Record], masks: dict[str, Path]) -> None:
    """ConfigError if a mask has no image."""
    if strays := sorted(set(masks) - {record.id for record in records}):
        raise ConfigError(f"{masks[strays[0]]}: {len(strays)} masks have no image; add the images or remove the masks")


def check_judged(records: list[Record], part: Part) -> None:
    """ConfigError if an image that is judged has no mask; a training image needs none."""
    if part != "train" and (bare := [record for record in records if not record.has_mask]):
        raise ConfigError(
            f"{bare[0].image}: {len(bare)} {part} images have no mask; the first should be {bare[0].mask}"
        )
