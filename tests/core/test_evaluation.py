"""Whole images, sliding windows, mirrored images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from guidedmix_core.evaluation import predict_scores
from tests.runs import small_run

IMAGE = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))


def pointwise(image: Tensor) -> Tensor:
    """Two classes, from each pixel alone: what windows and mirrors cannot change."""
    return torch.stack([image[:, 0] - image[:, 1], image[:, 2]], dim=1)


def leftmost(image: Tensor) -> Tensor:
    """A predictor that knows left from right."""
    ramp = torch.linspace(0, 1, image.shape[-1]).expand(len(image), image.shape[-2], -1)
    return torch.stack([ramp, 1 - ramp], dim=1)


def test_windows_that_overlap_give_what_the_whole_image_gives() -> None:
    config = small_run({"evaluate.mode": "sliding", "augment.crop": [16, 24]})
    assert_close(predict_scores(pointwise, IMAGE, config), pointwise(IMAGE).softmax(1))


def test_one_window_is_the_whole_image() -> None:
    sliding = small_run({"evaluate.mode": "sliding", "augment.crop": [40, 56]})
    assert_close(predict_scores(leftmost, IMAGE, sliding), leftmost(IMAGE).softmax(1), rtol=0, atol=0)


def test_a_whole_image_seen_once_keeps_its_logits() -> None:
    assert torch.equal(predict_scores(leftmost, IMAGE, small_run()), leftmost(IMAGE))


def test_windows_are_averaged_as_probabilities() -> None:
    sliding = {"evaluate.mode": "sliding", "evaluate.stride": 0.5, "augment.crop": [40, 28]}
    scores = predict_scores(leftmost, IMAGE, small_run(sliding))
    first, second, third = (leftmost(IMAGE[..., left : left + 28]).softmax(1) for left in (0, 14, 28))
    halves = [(before[..., 14:] + after[..., :14]) / 2 for before, after in ((first, second), (second, third))]
    assert_close(scores, torch.cat([first[..., :14], *halves, third[..., 14:]], dim=3))


@pytest.mark.parametrize("mode", ["whole", "sliding"])
def test_the_probabilities_of_image_and_mirrored_image_add_up(mode: str) -> None:
    scores = predict_scores(leftmost, IMAGE, small_run({"evaluate.mode": mode, "evaluate.flip": True}))
    assert_close(scores.sum(1), torch.full((2, 40, 56), 2.0))


def test_every_window_lies_inside_the_image() -> None:
    seen: list[tuple[int, ...]] = []

    def watching(image: Tensor) -> Tensor:
        seen.append(tuple(image.shape[-2:]))
        return pointwise(image)

    predict_scores(watching, IMAGE, small_run({"evaluate.mode": "sliding", "augment.crop": [32, 32]}))
    assert set(seen) == {(32, 32)}


def test_the_mirrored_image_has_half_of_the_vote() -> None:
    probabilities = predict_scores(leftmost, IMAGE, small_run({"evaluate.flip": True}))
    assert_close(probabilities, probabilities.flip(-1))
