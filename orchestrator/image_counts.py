"""The counts of each evaluated image, in a run's `counts.npz`: what everything over images is made from."""

from __future__ import annotations

import io
import logging
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from orchestrator.folder import write_atomic

DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError)
"""What reading an archive raises that was cut, or changed on the disk."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageCounts:
    ids: tuple[str, ...]
    counts: Int64[np.ndarray, "N K 3"]
    """TP, FP and FN of each class."""


def write_counts(path: Path, ids: Sequence[str], counts: np.ndarray) -> None:
    file = io.BytesIO()
    np.savez_compressed(file, ids=np.array(ids), counts=counts)
    write_atomic(path, file.getvalue())


def read_counts(path: Path) -> ImageCounts | None:
    """None without the file. A damaged one is told and left out: no study ends of what only its images need."""
    try:
        with path.open("rb") as opened, np.load(opened) as found:
            return ImageCounts(tuple(map(str, found["ids"])), found["counts"].astype(np.int64))
    except FileNotFoundError:
        return None
    except DAMAGED as error:
        log.warning("%s: %s, so nothing is said over its images; guidedmix doctor mends it", path, error)
        return None
