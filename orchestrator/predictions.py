"""Masks and overlays of new images, as files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from guidedmix_core import ConfigError, overlay_mask, palette_image, predict

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}


def write_predictions(
    checkpoint: Path, images: Sequence[Path], output: Path, device: str
) -> Iterator[tuple[Path, Path]]:
    """(image, mask file) as each is written. ConfigError if an image is not there, or two would be written to one
    file."""
    paths = [found for path in images for found in _images(path)]
    taken: dict[str, Path] = {}
    for path in paths:
        if (other := taken.setdefault(path.stem, path)) is not path:
            raise ConfigError(
                f"{path} and {other} would both be written to {output / path.stem}.png; predict them apart"
            )
    classes, predictions = predict(checkpoint, paths, {}, device)
    output.mkdir(parents=True, exist_ok=True)
    for prediction in predictions:
        mask = output / f"{prediction.path.stem}.png"
        palette_image(prediction.mask, classes).save(mask)
        overlay = overlay_mask(prediction.image, prediction.mask, classes)
        Image.fromarray(overlay).save(output / f"{prediction.path.stem}_overlay.jpg", quality=92)
        yield prediction.path, mask


def _images(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(inner for inner in path.iterdir() if inner.suffix.lower() in SUFFIXES)
        if not found:
            raise ConfigError(f"{path}: no images here; expected files ending in {', '.join(sorted(SUFFIXES))}")
        return found
    if not path.is_file():
        raise ConfigError(f"{path}: no such image or folder")
    return [path]
