"""Tiny data sets on disk, in CamVid's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

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
