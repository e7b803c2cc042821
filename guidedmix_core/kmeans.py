"""K-means in torch, on the points' device."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def kmeans(
    points: Float[Tensor, "P D"], num: int, generator: torch.Generator, *, starts: int = 10, rounds: int = 100
) -> Float[Tensor, "M D"]:
    """The centers with the least squared distance from the points, of several starts by k-means++.

    Lloyd's iteration; k-means++: Arthur and Vassilvitskii, SODA 2007. Of fewer than `num` different points, some are
    several centers.
    """
    found = [_lloyd(points, _spread(points, num, generator), rounds) for _ in range(starts)]
    return min(found, key=lambda result: result[1])[0]


def _spread(points: Float[Tensor, "P D"], num: int, generator: torch.Generator) -> Float[Tensor, "M D"]:
    """Random points, each drawn with a probability proportional to its squared distance from those before it."""
    chances = points.new_ones(len(points))
    nearest = points.new_full((len(points),), torch.inf)
    centers = []
    for _ in range(num):
        # The first arrival of exponential waiting times comes with the probability of its rate.
        waiting = -torch.rand(len(points), generator=generator).log().to(points.device)
        centers.append(points[(chances / waiting).argmax()])
        nearest = nearest.minimum(_squared_distances(points, centers[-1].unsqueeze(0)).squeeze(1))
        chances = nearest
    return torch.stack(centers)


def _lloyd(
    points: Float[Tensor, "P D"], centers: Float[Tensor, "M D"], rounds: int
) -> tuple[Float[Tensor, "M D"], float]:
    """Until no point changes its center. A center without points stays."""
    before: Int[Tensor, "P"] | None = None
    for _ in range(rounds):
        nearest = _squared_distances(points, centers).argmin(1)
        if before is not None and torch.equal(nearest, before):
            break
        member = torch.nn.functional.one_hot(nearest, len(centers)).to(points.dtype)
        count = member.sum(0).unsqueeze(1)
        centers = torch.where(count > 0, member.T @ points / count.clamp(min=1), centers)
        before = nearest
    return centers, float(_squared_distances(points, centers).amin(1).sum())


def _squared_distances(points: Float[Tensor, "P D"], centers: Float[Tensor, "M D"]) -> Float[Tensor, "P M"]:
    return torch.cdist(points, centers, compute_mode="donot_use_mm_for_euclid_dist").square()
