"""A few images of each part beside their masks in the data set's colors, and the names of the classes: one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from guidedmix_core import Classes, Dataset, Record, overlay_mask

COLUMNS = 6
TILE, GAP, MARGIN = 260, 12, 32
"""Width of a picture, space between two, and around all, in pixels."""
INK, FAINT, PAPER = (28, 30, 33), (110, 115, 122), (255, 255, 255)
TITLE, TEXT, SMALL = 26, 17, 13
SWATCH = 18


@dataclass(frozen=True)
class Row:
    """A part's line on the sheet."""

    title: str
    note: str
    records: Sequence[Record]


def contact_sheet(dataset: Dataset, title: str, rows: Sequence[Row]) -> Image.Image:
    """The rows, each image above its mask, then the classes."""
    pictures = [[_pictures(dataset, record) for record in row.records] for row in rows]
    height = _tile_height([image for row in pictures for image, _ in row])
    width = 2 * MARGIN + COLUMNS * TILE + (COLUMNS - 1) * GAP
    legend = _legend(dataset.classes(), width - 2 * MARGIN)
    row_height = TITLE + 2 * height + GAP + SMALL + 3 * GAP
    sheet = Image.new("RGB", (width, 2 * MARGIN + TITLE + 2 * GAP + len(rows) * row_height + legend.height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), title, INK, _font(TITLE))
    top = MARGIN + TITLE + 2 * GAP
    for row, shown in zip(rows, pictures, strict=True):
        draw.text((MARGIN, top), row.title, INK, _font(TEXT))
        draw.text((MARGIN + _font(TEXT).getlength(row.title) + GAP, top + 3), row.note, FAINT, _font(SMALL))
        for column, (record, (image, overlay)) in enumerate(zip(row.records, shown, strict=True)):
            left, first = MARGIN + column * (TILE + GAP), top + TITLE
            _paste(sheet, image, (left, first), height)
            _paste(sheet, overlay, (left, first + height + GAP // 2), height)
            draw.text((left, first + 2 * height + GAP), _cut(record.id), FAINT, _font(SMALL))
        top += row_height
    sheet.paste(legend, (MARGIN, top))
    return sheet


def _pictures(dataset: Dataset, record: Record) -> tuple[Image.Image, Image.Image]:
    image, mask = dataset.read_image(record), dataset.read_mask(record)
    return Image.fromarray(image), Image.fromarray(overlay_mask(image, mask, dataset.classes(), opacity=0.6))


def _tile_height(images: Sequence[Image.Image]) -> int:
    """Such that an image of the usual shape fills its place."""
    shapes = [image.height / image.width for image in images] or [1.0]
    return int(TILE * min(max(float(np.median(shapes)), 0.4), 1.25))


def _paste(sheet: Image.Image, picture: Image.Image, place: tuple[int, int], height: int) -> None:
    """Whole, in the middle of its place."""
    scale = min(TILE / picture.width, height / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    method = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    sheet.paste(picture.resize(size, method), (place[0] + (TILE - size[0]) // 2, place[1] + (height - size[1]) // 2))


def _legend(classes: Classes, width: int) -> Image.Image:
    """The classes in columns, read downwards."""
    entries = [*zip(classes.names, classes.palette, strict=True), ("ignored: not colored", None)]
    longest = max(_font(TEXT).getlength(name) for name, _ in entries)
    cell = int(SWATCH + GAP + longest + 2 * GAP)
    columns = max(1, min(width // cell, len(entries)))
    lines = -(-len(entries) // columns)
    legend = Image.new("RGB", (width, lines * (SWATCH + GAP)), PAPER)
    draw = ImageDraw.Draw(legend)
    for i, (name, color) in enumerate(entries):
        left, top = i // lines * cell, i % lines * (SWATCH + GAP)
        draw.rectangle((left, top, left + SWATCH, top + SWATCH), color or PAPER, FAINT)
        if color is None:
            draw.line((left, top + SWATCH, left + SWATCH, top), FAINT)
        draw.text((left + SWATCH + GAP, top - 1), name, INK, _font(TEXT))
    return legend


def _cut(name: str) -> str:
    """The end of a long name, where it differs from others."""
    while _font(SMALL).getlength(name) > TILE:
        name = "…" + name.lstrip("…")[1:]
    return name


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
