"""Decoded arrays on disk: decoded once, memory-mapped, shared by every process of the machine.

A cache is a folder named for its content: `bytes` holds the arrays one after another, `index.json` their ids and
shapes. It is built beside its place and renamed into it, under a lock, so it is there as a whole or not at all. It may
be deleted whenever no run is using it.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import platformdirs
from filelock import FileLock

from guidedmix_core.datasets import Dataset, Record
from guidedmix_core.errors import ConfigError
from guidedmix_core.files import whole_folder

FORMAT = 1
CHUNK = 256
"""Records that are decoded before their arrays are written: what bounds the memory of a build."""


class ArrayCache:
    """The arrays of a list of records, read-only. It travels between processes as the name of its folder."""

    def __init__(self, folder: Path) -> None:
        """ValueError if the folder is not a whole cache."""
        index = json.loads((folder / "index.json").read_text())
        self.folder = folder
        self.ids: tuple[str, ...] = tuple(index["ids"])
        self.shapes: tuple[tuple[int, ...], ...] = tuple(map(tuple, index["shapes"]))
        self.digest: str = index["digest"]
        """sha256 over what was decoded: the bytes of the files, or the arrays where a file is not one image's own."""
        self.skipped: tuple[str, ...] = tuple(index["skipped"])
        """The ids of what can't be read: of images, within the tolerance."""
        self._ends = np.cumsum([math.prod(shape) for shape in self.shapes], dtype=np.int64)
        size = int(self._ends[-1]) if self.ids else 0
        if (found := (folder / "bytes").stat().st_size) != size:
            raise ValueError(f"{folder}: {found} bytes, expected {size}")
        self._bytes = np.asarray(np.memmap(folder / "bytes", np.uint8, "r")) if size else np.zeros(0, np.uint8)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> np.ndarray:
        end = self._ends[i]
        return self._bytes[end - math.prod(self.shapes[i]) : end].reshape(self.shapes[i])

    def __reduce__(self):
        return ArrayCache, (self.folder,)


def cached_images(dataset: Dataset, records: Sequence[Record]) -> ArrayCache:
    """RGB arrays. Unreadable images are left out, and are a ConfigError above the data set's tolerance."""
    return _cached("images", dataset, records, dataset.read_image, lambda record: record.image)


def cached_masks(dataset: Dataset, records: Sequence[Record]) -> ArrayCache:
    """Class ids of exactly these records; no other mask is opened. ConfigError if one is missing or unreadable."""
    return _cached("masks", dataset, records, dataset.read_mask, lambda record: record.mask)


def cached_truth(dataset: Dataset, records: Sequence[Record]) -> ArrayCache:
    """The ids of those records whose masks can be read; the others are `skipped`, whatever is wrong with them."""
    return _cached("truth", dataset, records, dataset.read_mask, lambda record: record.mask)


def cached_presence(dataset: Dataset, records: Sequence[Record]) -> ArrayCache:
    """For each record K numbers: 1 where the class occurs in its mask. What a stratified draw needs to know of it."""
    num_classes = len(dataset.classes())

    def read(record: Record) -> np.ndarray:
        return (np.bincount(dataset.read_mask(record).ravel(), minlength=256)[:num_classes] > 0).astype(np.uint8)

    return _cached("presence", dataset, records, read, lambda record: record.mask)


def opened(folder: Path) -> ArrayCache | None:
    """The cache in the folder; None if it is not there, or damaged."""
    try:
        return ArrayCache(folder)
    except (OSError, ValueError, KeyError):
        return None


def store(folder: Path, arrays: Iterable[tuple[str, np.ndarray]]) -> ArrayCache:
    """A cache of these arrays, each with its id. The caller sees to it that nobody else makes the same."""
    ids, shapes, digest = [], [], hashlib.sha256()
    with whole_folder(folder) as unfinished:
        with (unfinished / "bytes").open("wb") as file:
            for name, array in arrays:
                ids.append(name)
                shapes.append(array.shape)
                digest.update(f"{name}\n".encode() + array.tobytes())
                file.write(array.tobytes())
            file.flush()
            os.fsync(file.fileno())
        _write_index(unfinished, ids, shapes, digest.hexdigest(), ())
    return ArrayCache(folder)


def cache_root() -> Path:
    """`$GUIDEDMIX_CACHE`, or the user's cache folder."""
    return Path(os.environ.get("GUIDEDMIX_CACHE") or platformdirs.user_cache_dir("guidedmix"))


def _cached(
    kind: str,
    dataset: Dataset,
    records: Sequence[Record],
    read: Callable[[Record], np.ndarray],
    source: Callable[[Record], Path | None],
) -> ArrayCache:
    folder = cache_root() / f"{kind}-{_key(kind, dataset, records, source)}"
    if (cache := opened(folder)) is not None:
        return cache
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if (cache := opened(folder)) is not None:  # another process was faster
                return cache
            with whole_folder(folder) as unfinished:
                _build(unfinished, kind, dataset, records, read, source)
            return ArrayCache(folder)
    except OSError as error:
        raise ConfigError(
            f"GUIDEDMIX_CACHE={cache_root()}: {kind} can't be written there ({error}); name a folder with room for them"
        ) from error


def _build(
    folder: Path,
    kind: str,
    dataset: Dataset,
    records: Sequence[Record],
    read: Callable[[Record], np.ndarray],
    source: Callable[[Record], Path | None],
) -> None:
    tolerated = (OSError, ConfigError) if kind == "truth" else OSError

    def decode(record: Record) -> tuple[np.ndarray, str] | Exception:
        try:
            array, path = np.ascontiguousarray(read(record)), source(record)
            content = array.data if path is None or record.slice is not None else path.read_bytes()
            return array, hashlib.sha256(content).hexdigest()
        except tolerated as error:
            return error

    ids, shapes, failures, digest = [], [], {}, hashlib.sha256()
    with (folder / "bytes").open("wb") as file, ThreadPoolExecutor(os.cpu_count()) as threads:
        for start in range(0, len(records), CHUNK):
            chunk = records[start : start + CHUNK]
            for record, decoded in zip(chunk, threads.map(decode, chunk), strict=True):
                if isinstance(decoded, Exception):
                    failures[record.id] = f"{source(record)} ({decoded})"
                    continue
                array, content = decoded
                ids.append(record.id)
                shapes.append(array.shape)
                digest.update(f"{record.id} {content}\n".encode())
                file.write(array.data)
    if kind != "truth":
        _check(failures, kind, dataset, len(records))
    _write_index(folder, ids, shapes, digest.hexdigest(), failures)


def _write_index(
    folder: Path, ids: list[str], shapes: list[tuple[int, ...]], digest: str, skipped: Iterable[str]
) -> None:
    index = {"ids": ids, "shapes": shapes, "digest": digest, "skipped": list(skipped)}
    (folder / "index.json").write_text(json.dumps(index))


def _check(failures: dict[str, str], kind: str, dataset: Dataset, count: int) -> None:
    first = "\n  ".join(list(failures.values())[:5])
    if failures and kind != "images":
        raise ConfigError(
            f"{len(failures)} of {count} masks can't be read; restore them, or don't label their images:\n  {first}"
        )
    if len(failures) > dataset.unreadable_tolerance * count:
        raise ConfigError(
            f"{len(failures)} of {count} images can't be read; restore them, or let data.unreadable_tolerance "
            f"(now {dataset.unreadable_tolerance}) skip that share:\n  {first}"
        )


def _key(kind: str, dataset: Dataset, records: Sequence[Record], source: Callable[[Record], Path | None]) -> str:
    """Cheap: names, sizes and times of the files, the data set's fields and its code."""
    key = hashlib.sha256(f"{FORMAT} {kind} {dataset.name} {dataset.model_dump_json()}\n".encode())
    module = Path(inspect.getfile(type(dataset)))
    for path in (module, *sorted((Path(__file__).parent / "datasets").glob("_*.py"))):
        key.update(path.read_bytes())
    for record in records:
        key.update(f"{record.id} {_stamp(source(record))}\n".encode())
        if kind != "images":
            key.update(f"{_stamp(record.image)}\n".encode())  # a mask is checked against the size of its image
    return key.hexdigest()[:32]


def _stamp(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        status = path.stat()
    except OSError:
        return f"{path} missing"
    return f"{path} {status.st_size} {status.st_mtime_ns}"
