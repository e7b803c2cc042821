"""Shapes and textures of the generated data set, as functions of coordinates."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

Map = Float[np.ndarray, "H W"]


def disk(x: Map, y: Map) -> Map:
    """Like all shapes: how far a point lies outside, negative inside; the size is about 1."""
    return np.hypot(x, y) - 1


def square(x: Map, y: Map) -> Map:
    return np.maximum(np.abs(x), np.abs(y)) - 0.9


def triangle(x: Map, y: Map) -> Map:
    return np.maximum(np.abs(x) * 0.8660254 - y * 0.5, y) - 0.76


def ring(x: Map, y: Map) -> Map:
    return np.abs(np.hypot(x, y) - 0.8) - 0.28


def star(x: Map, y: Map) -> Map:
    """Five points: the plane is folded into one tenth, whose edge is a line from the tip to the notch."""
    tenth, tip, notch = np.pi / 5, 1.4, 0.66
    angle = np.abs(np.mod(np.arctan2(y, x), 2 * tenth) - tenth)
    radius = np.hypot(x, y)
    u, v = radius * np.cos(tenth - angle), radius * np.sin(tenth - angle)
    along = np.array([notch * np.cos(tenth) - tip, notch * np.sin(tenth)])
    normal = np.array([along[1], -along[0]]) / np.hypot(*along)
    return (u - tip) * normal[0] + v * normal[1]


def cross(x: Map, y: Map) -> Map:
    x, y = np.abs(x), np.abs(y)
    return np.minimum(np.maximum(x - 1.15, y - 0.4), np.maximum(y - 1.15, x - 0.4))


def texture(kind: int, x: Map, y: Map, rng: np.random.Generator) -> Map:
    """Values in [-1, 1] of one of the six kinds, at a random scale, phase and angle; x and y are in pixels."""
    angle, period, phase = rng.uniform(0, np.pi), rng.uniform(4, 8), rng.uniform(0, 2 * np.pi, 2)
    wave = 2 * np.pi / period
    u = (x * np.cos(angle) + y * np.sin(angle)) * wave + phase[0]
    v = (y * np.cos(angle) - x * np.sin(angle)) * wave + phase[1]
    match kind:
        case 0:  # stripes
            return np.sin(u)
        case 1:  # checks
            return np.sign(np.sin(u / 1.5)) * np.sign(np.sin(v / 1.5))
        case 2:  # dots
            return np.where(np.cos(u) + np.cos(v) > 0.6, 1.0, -0.6)
        case 3:  # grain
            return rng.uniform(-1, 1, x.shape)
        case 4:  # waves
            return np.sin(u + 1.5 * np.sin(v / 2))
        case _:  # a ramp
            return np.tanh(u / 8 - np.mean(u) / 8)


NUM_TEXTURES = 6


def smooth_noise(size: tuple[int, int], cells: int, rng: np.random.Generator) -> Map:
    """A random grid of cells x cells, about standard normal, interpolated to the size."""
    rows, columns = (_interpolation(length, cells) for length in size)
    return rows @ rng.standard_normal((cells, cells)) @ columns.T


def _interpolation(length: int, cells: int) -> np.ndarray:
    place = np.linspace(0, cells - 1, length)
    return np.clip(1 - np.abs(place[:, None] - np.arange(cells)), 0, 1)
