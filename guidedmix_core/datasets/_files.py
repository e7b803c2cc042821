"""Folders of images and masks as records."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from guidedmix_core.datasets import Dataset, Part, Record
from guidedmix_core.datasets._images import EXTENSIONS
from guidedmix_core.errors import ConfigError
from guidedmix_core.lists import Names, read_list


def find_root(root: str, *expected: str, inside: str = "") -> Path:
    """The folder that has everything expected (names or patterns): `root`, or the folder named `inside` in it.

    ConfigError if it is neither; it says so if the folder lies a level or two higher or lower.
    """
    folder = Path(root).expanduser()
    wanted = " and ".join(expected)
    if not folder.is_dir():
        raise ConfigError(f"data.root={root}: no such folder; expected one with {wanted} in it")
    nested = (folder / inside,) if inside else ()
    if found := _first_with(expected, (folder, *nested)):
        return found
    near = _first_with(expected, (folder.parent, folder.parent.parent, *folder.glob("*/"), *folder.glob("*/*/")))
    cure = f"did you mean data.root={near}?" if near else f"set data.root to the folder that has {wanted}"
    missing = next(name for name in expected if not any(folder.glob(name)))
    raise ConfigError(f"data.root={root}: there is no {missing} in it; {cure}")


def _first_with(expected: Sequence[str], folders: Iterable[Path]) -> Path | None:
    return next((folder for folder in folders if all(any(folder.glob(name)) for name in expected)), None)


def check_part(dataset: Dataset, part: Part) -> None:
    """ConfigError if the data set has no masks of this part."""
    if part not in (parts := dataset.parts()):
        raise ConfigError(f"evaluate.part={part}: {dataset.name} has no public masks of it; use one of {list(parts)}")


def image_files(folder: Path, suffix: str = "", *, besides: str = "") -> dict[str, Path]:
    """Id to file, in the order of the ids. The id is the path in the folder, without suffix and ending.

    Files whose name ends in `besides` are left out. ConfigError if the folder is not there or an id has two files.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; set data.root to the folder of the data set")
    files: dict[str, Path] = {}
    for directory, _, names in os.walk(folder):  # strings, not paths: a folder may have 20 000 files
        place = Path(directory).relative_to(folder).as_posix()
        for file in sorted(names):
            stem, ending = os.path.splitext(file)
            if file.startswith("."):  # what macOS leaves in archives
                continue
            if ending.lower() not in EXTENSIONS or not stem.endswith(suffix) or (besides and stem.endswith(besides)):
                continue
            name = f"{place}/{stem.removesuffix(suffix)}".removeprefix("./")
            path = Path(directory, file)
            if name in files:
                raise ConfigError(f"{path}: {files[name].name} has the same id {name!r}; keep one of the two")
            files[name] = path
    return dict(sorted(files.items()))


def paired(
    images: dict[str, Path], masks: dict[str, Path], mask_folder: Path, mask_suffix: str = "", ending: str = ".png"
) -> list[Record]:
    """A record for each image. One without a mask gets the path where its mask should be."""
    return [
        Record(name, path, masks.get(name, mask_folder / f"{name}{mask_suffix}{ending}"))
        for name, path in images.items()
    ]


def listed(records: list[Record], file: Path) -> list[Record]:
    """Those that a list names, in the order of their ids. ConfigError if the list names an image that is not there."""
    return sorted(Names(records).find_all(read_list(file), str(file)), key=lambda record: record.id)


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
