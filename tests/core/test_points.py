"""One pixel of each cell, and what a smaller map says there."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from guidedmix_core.points import Points, draw_points
from guidedmix_core.rng import generator
from guidedmix_core.segmentors import resize


def every_pixel(size: tuple[int, int]) -> Points:
    row, column = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    return Points(row, column, size)


def test_each_cell_has_one_point() -> None:
    points = draw_points(generator("test"), (64, 96), 32)
    cells = torch.stack([points.row // 2, points.column // 3])
    expected = torch.stack(torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij"))
    assert torch.equal(cells, expected)


def test_every_pixel_can_be_drawn() -> None:
    hit = torch.zeros(37, 41, dtype=torch.bool)
    for i in range(200):
        points = draw_points(generator("test", i), (37, 41), 8)
        hit[points.row, points.column] = True
    assert hit.all()


def test_the_draw_is_a_function_of_the_generator() -> None:
    first, again, other = (draw_points(generator(key), (64, 64), 8) for key in ("a", "a", "b"))
    assert torch.equal(first.row, again.row)
    assert not torch.equal(first.row, other.row)


def test_a_crop_smaller_than_the_grid_gives_each_of_its_rows() -> None:
    points = draw_points(generator("test"), (5, 20), 8)
    assert points.row.shape == (5, 8)
    assert torch.equal(points.row, torch.arange(5).view(5, 1).expand(5, 8))


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("small", [(8, 10), (5, 7), (33, 41), (1, 1)])
def test_reading_is_resizing_and_indexing(small: tuple[int, int], align_corners: bool) -> None:
    feature = torch.randn(2, 3, *small, generator=generator("test"))
    points = draw_points(generator("points"), (33, 41), 8)
    large = resize(feature, (33, 41), align_corners=align_corners)
    read = points.read(feature, align_corners=align_corners)
    assert_close(read, large[:, :, points.row, points.column], atol=1e-5, rtol=1e-5)
    assert_close(every_pixel((33, 41)).read(feature, align_corners=align_corners), large, atol=1e-5, rtol=1e-5)


def test_reading_is_grid_sample() -> None:
    feature = torch.randn(2, 3, 9, 11, generator=generator("test"))
    points = draw_points(generator("points"), (32, 40), 8)
    place = torch.stack([(points.column + 0.5) / 40, (points.row + 0.5) / 32], dim=2) * 2 - 1
    expected = F.grid_sample(feature, place.expand(2, -1, -1, -1), padding_mode="border", align_corners=False)
    assert_close(points.read(feature, align_corners=False), expected, atol=1e-5, rtol=1e-5)


def test_the_gradient_is_that_of_resizing_and_indexing() -> None:
    points = draw_points(generator("points"), (32, 32), 8)
    gradients = []
    for read in (points.read, lambda feature, **how: resize(feature, (32, 32), **how)[:, :, points.row, points.column]):
        feature = torch.randn(1, 2, 8, 8, generator=generator("test")).requires_grad_()
        read(feature, align_corners=False).square().sum().backward()
        gradients.append(feature.grad)
    assert_close(*gradients)


def test_half_precision_is_read_in_full() -> None:
    feature = torch.randn(1, 2, 8, 8, generator=generator("test")).bfloat16()
    points = draw_points(generator("points"), (32, 32), 8)
    half, full = (points.read(which, align_corners=False) for which in (feature, feature.float()))
    assert_close(half, full, atol=0, rtol=0)
