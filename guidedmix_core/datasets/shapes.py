"""A generated data set: textured objects on textured ground. It needs no files.

Each image follows from (seed, part, index) and the other fields alone, in any process.

The shape decides the class. Hue and texture say something of it: each class prefers one of each. Objects hide each
other and the light changes across the image. `difficulty` sets how loosely an object keeps to its class's hue and
texture, and noise, contrast, distortion and clutter.
"""

from __future__ import annotations

from colorsys import hsv_to_rgb
from typing import NamedTuple

import numpy as np
from pydantic import Field

from guidedmix_core.datasets import Classes, Dataset, Record
from guidedmix_core.datasets._drawing import (
    NUM_TEXTURES,
    Map,
    cross,
    disk,
    ring,
    smooth_noise,
    square,
    star,
    texture,
    triangle,
)
from guidedmix_core.datasets._images import resize_ids, resize_rgb
from guidedmix_core.fields import Size
from guidedmix_core.rng import stream_seed

OBJECTS = (disk, square, triangle, ring, star, cross)
PALETTE = ((38, 42, 51), (230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (240, 228, 66), (213, 94, 0))


class Shapes(Dataset):
    """Disks, squares, triangles, rings, stars and crosses in random textures; made on the spot."""

    image_size: Size = Field((96, 96), description="height and width of the images, in pixels")
    num_train: int = Field(256, ge=1)
    num_val: int = Field(48, ge=1)
    num_test: int = Field(48, ge=1)
    difficulty: float = Field(
        0.3,
        ge=0,
        le=1,
        description="of telling the classes apart: misleading textures, noise, low contrast, distortion, clutter",
    )
    seed: int = Field(0, ge=0, description="of the images themselves")

    def classes(self):
        return Classes(("background", *(draw.__name__ for draw in OBJECTS)), PALETTE)

    def records(self, part):
        count = {"train": self.num_train, "val": self.num_val, "test": self.num_test}[part]
        return [Record(f"{part}_{index:05d}", None, None) for index in range(count)]

    def read_image(self, record):
        return resize_rgb(self._image(record), self.size)

    def read_mask(self, record):
        mask = np.zeros(self.image_size, np.uint8)
        for thing in self._things(record):
            mask[thing.window][thing.outside < 0] = thing.kind + 1
        return resize_ids(mask, self.size)

    def _things(self, record: Record) -> list[Thing]:
        rng = np.random.default_rng(stream_seed(self.seed, "shapes/things", record.id))
        return [_place(self.image_size, self.difficulty, rng) for _ in range(rng.integers(4, 7))]

    def _image(self, record: Record) -> np.ndarray:
        rng = np.random.default_rng(stream_seed(self.seed, "shapes/paint", record.id))
        hard, size = self.difficulty, self.image_size
        y, x = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float32)
        ground = np.clip(rng.uniform(0.2, 0.8) + rng.normal(0, 0.2 * hard, 3), 0.1, 0.9)  # gray, if it is easy
        relief = (0.02 + 0.1 * hard) * texture(int(rng.integers(NUM_TEXTURES)), x, y, rng)
        relief += 0.06 * smooth_noise(size, 6, rng)
        image = (ground + relief[..., None]).astype(np.float32)
        for _ in range(rng.poisson(4 * hard)):
            _paint_bar(image, ground, x, y, rng)
        for thing in self._things(record):
            _paint_thing(image, thing, hard, rng)
        tilt = (x / size[1] - 0.5) * rng.normal() + (y / size[0] - 0.5) * rng.normal()
        light = np.exp((0.1 + 0.4 * hard) * (tilt + 0.3 * smooth_noise(size, 4, rng))).astype(np.float32)
        noise = rng.standard_normal(image.shape, np.float32)
        image = image * (255 * light[..., None]) + noise * np.float32(255 * (0.01 + 0.06 * hard)) + np.float32(0.5)
        return np.clip(image, 0, 255).astype(np.uint8)


class Thing(NamedTuple):
    """An object's class, the part of the image it lies in, and how many pixels each point there lies outside of it."""

    kind: int
    window: tuple[slice, slice]
    outside: Map


def _place(size: tuple[int, int], hard: float, rng: np.random.Generator) -> Thing:
    kind = int(rng.integers(len(OBJECTS)))
    radius = 0.185 * min(size) * np.exp(rng.uniform(-1, 1) * (0.1 + 0.4 * hard))
    center = rng.uniform(0.05, 0.95, 2) * size
    angle, squash = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(-1, 1, 2) * 0.18 * hard) / radius
    starts, stops = (
        np.maximum(0, center - 1.7 * radius).astype(int),
        np.minimum(size, center + 1.7 * radius + 2).astype(int),
    )
    window = (slice(starts[0], stops[0]), slice(starts[1], stops[1]))
    y, x = np.mgrid[window].astype(np.float32)
    y, x = y - np.float32(center[0]), x - np.float32(center[1])
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    outside = OBJECTS[kind]((x * cos + y * sin) * np.float32(squash[0]), (y * cos - x * sin) * np.float32(squash[1]))
    return Thing(kind, window, outside * np.float32(radius))


def _paint_thing(image: np.ndarray, thing: Thing, hard: float, rng: np.random.Generator) -> None:
    color = _color(thing.kind, hard, rng)
    other = np.clip(color + rng.choice([-1, 1]) * rng.uniform(0.2, 0.5, 3), 0, 1)
    kind = thing.kind if rng.random() < 0.9 - 0.6 * hard else int(rng.integers(NUM_TEXTURES))
    y, x = np.mgrid[thing.window].astype(np.float32)
    share = 0.5 + 0.5 * texture(kind, x, y, rng)
    _paint(image[thing.window], thing.outside, color + share[..., None] * (other - color))


def _paint_bar(image: np.ndarray, ground: np.ndarray, x: Map, y: Map, rng: np.random.Generator) -> None:
    """Clutter that belongs to the ground."""
    angle, width = rng.uniform(0, np.pi), rng.uniform(0.6, 2.0)
    place = rng.uniform(0, 1, 2) * x.shape
    across = (y - place[0]) * np.cos(angle) - (x - place[1]) * np.sin(angle)
    _paint(image, np.abs(across) - width, np.clip(ground + rng.normal(0, 0.2, 3), 0, 1))


def _paint(image: np.ndarray, outside: Map, color: np.ndarray) -> None:
    """Where `outside`, in pixels, is negative; the edge is one pixel soft."""
    image += np.clip(0.5 - outside, 0, 1)[..., None] * (color - image)


def _color(kind: int, hard: float, rng: np.random.Generator) -> np.ndarray:
    """Each class prefers a hue; its neighbors' hues are a sixth of the circle away."""
    hue = (kind / len(OBJECTS) + rng.normal(0, 0.02 + 0.16 * hard)) % 1
    return np.array(hsv_to_rgb(hue, rng.uniform(0.35, 0.95), rng.uniform(0.35, 0.95)))
