"""Image files as arrays: decoding, resizing, and what can be wrong with a file."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from guidedmix_core.datasets import Record
from guidedmix_core.errors import ConfigError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")


def read_rgb(record: Record) -> UInt8[np.ndarray, "H W 3"]:
    """OSError and ConfigError as `decode_rgb` has them."""
    assert record.image is not None
    return decode_rgb(record.image)


def decode_rgb(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """OSError if the file can't be decoded, whatever is wrong with it. ConfigError if it has wider numbers than bytes:
    Pillow would make white of all above 255."""
    image = _decoded(path)
    if image.mode.startswith(("I", "F")):
        raise ConfigError(
            f"{path}: the image has wider pixels (mode {image.mode}) than the 8 bits a channel that are expected; "
            "save it scaled to 0 to 255"
        )
    return np.asarray(image.convert("RGB"))


def read_ids(record: Record) -> UInt8[np.ndarray, "H W"]:
    """The ids of a gray, palette or 1-bit file. ConfigError if it has colors, an id above 255, or another size."""
    mask, path = _mask_of(record), record.mask
    if mask.mode == "1":
        return np.asarray(mask).astype(np.uint8)
    if mask.mode in ("L", "P"):
        return np.asarray(mask)
    if not mask.mode.startswith("I"):
        raise ConfigError(
            f"{path}: the mask has colors ({mask.mode}), not ids; data.name=folder reads them with mask_format=palette"
        )
    wide = np.asarray(mask)
    if wide.min() < 0 or wide.max() > 255:
        raise ConfigError(
            f"{path}: the mask has ids from {wide.min()} to {wide.max()}; expected 0 to 254, and 255 where ignored"
        )
    return wide.astype(np.uint8)


def read_gray(record: Record) -> UInt8[np.ndarray, "H W"]:
    """The brightness of a mask, whatever its mode. ConfigError if it has another size than its image."""
    return np.asarray(_mask_of(record).convert("L"))


def read_binary(record: Record) -> UInt8[np.ndarray, "H W"]:
    """1 where a black and white mask is bright: 128 or more, since masks in circulation are not clean.

    ConfigError if it holds ids: 1 is as dark as 0.
    """
    gray = read_gray(record)
    if gray.max() == 1:
        raise ConfigError(
            f"{record.mask}: the mask has the ids 0 and 1, expected black and white; data.name=folder reads them with "
            "mask_format=ids"
        )
    return (gray >= 128).astype(np.uint8)


def read_colors(record: Record) -> UInt8[np.ndarray, "H W 3"]:
    """A mask as the colors one sees. ConfigError if it has another size than its image."""
    return np.asarray(_mask_of(record).convert("RGB"))


def resize_rgb(image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int] | None) -> UInt8[np.ndarray, "h w 3"]:
    """Bilinear and antialiased; as it is if `size` is None."""
    if size is None or size == image.shape[:2]:
        return image
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))


def resize_ids(mask: UInt8[np.ndarray, "H W"], size: tuple[int, int] | None) -> UInt8[np.ndarray, "h w"]:
    """By nearest neighbor: no id appears that was not there."""
    if size is None or size == mask.shape:
        return mask
    return np.asarray(Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST))


def check_ids(mask: UInt8[np.ndarray, "H W"], num_classes: int, record: Record) -> UInt8[np.ndarray, "H W"]:
    """The mask itself. ConfigError if it has an id that is neither a class nor 255."""
    found = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    if strange := [int(value) for value in found if value >= num_classes and value != 255]:
        raise ConfigError(
            f"{record.mask}: the mask has the ids {strange}, but the {num_classes} classes are 0 to {num_classes - 1} "
            "(255: ignored); add the missing classes, or name the ids that are to be ignored"
        )
    return mask


def _mask_of(record: Record) -> Image.Image:
    assert record.image is not None and record.mask is not None
    mask = _decoded(record.mask)
    with Image.open(record.image) as file:
        size = file.size  # from the header alone
    if mask.size != size:
        raise ConfigError(
            f"{record.mask}: the mask has {mask.height}x{mask.width} pixels, its image {record.image} has "
            f"{size[1]}x{size[0]}; make them equal"
        )
    return mask


def _decoded(path: Path) -> Image.Image:
    try:
        with Image.open(path) as file:
            file.load()
            return file
    except (
        SyntaxError,
        ValueError,
        EOFError,
        IndexError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    ) as error:
        raise OSError(f"{path}: {error}") from error  # Pillow's decoders raise all of these on damaged files
