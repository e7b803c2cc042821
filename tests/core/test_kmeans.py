"""K-means finds what is there."""

from __future__ import annotations

import torch
from torch.testing import assert_close

from guidedmix_core.kmeans import kmeans
from guidedmix_core.rng import generator


def test_separate_blobs_are_found() -> None:
    truth = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    noise = 0.1 * torch.randn(4, 50, 2, generator=generator("test"))
    blobs = truth.unsqueeze(1) + noise
    found = kmeans(blobs.flatten(0, 1), 4, generator("test", "start"))
    order = torch.cdist(truth, found).argmin(1)
    assert_close(found[order], blobs.mean(1), atol=1e-5, rtol=1e-5)


def test_one_center_is_the_mean() -> None:
    points = torch.randn(30, 3, generator=generator("test"))
    assert_close(kmeans(points, 1, generator("test", "start")), points.mean(0, keepdim=True))


def test_each_center_is_the_mean_of_the_points_nearest_to_it() -> None:
    points = torch.randn(200, 3, generator=generator("test"))
    centers = kmeans(points, 5, generator("test", "start"))
    nearest = torch.cdist(points, centers).argmin(1)
    assert_close(torch.stack([points[nearest == m].mean(0) for m in range(5)]), centers)


def test_equal_generators_find_equal_centers() -> None:
    points = torch.randn(200, 3, generator=generator("test"))
    assert torch.equal(kmeans(points, 5, generator("start")), kmeans(points, 5, generator("start")))


def test_fewer_points_than_centers_are_all_centers() -> None:
    points = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    centers = kmeans(points, 4, generator("start"))
    assert {tuple(center) for center in centers.tolist()} == {(1.0, 2.0), (3.0, 4.0)}


def test_more_starts_are_never_worse() -> None:
    points = torch.randn(300, 2, generator=generator("test"))
    one, ten = (
        torch.cdist(points, kmeans(points, 12, generator("start"), starts=starts)).amin(1).square().sum()
        for starts in (1, 10)
    )
    assert ten <= one
