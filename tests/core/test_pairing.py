"""The choice of guides."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from guidedmix_core.pairing import (
    PairQueue,
    alignment_loss,
    assign,
    choose_guides,
    classes_present,
    costs,
    embed,
    random_guides,
)
from guidedmix_core.rng import ambient, generator

MEASURES = ["feature_l2", "feature_cos", "class_prob_l2"]


def features(n: int, key: str) -> Tensor:
    return torch.randn(n, 12, generator=generator("test", key))


def align_head() -> nn.Linear:
    with ambient("test"):
        return nn.Linear(12, 5)


def guides(wanted: Tensor, offered: Tensor, mode: str, one_to_one: bool = True) -> Tensor:
    sides = (embed(pooled, mode, align_head()) for pooled in (wanted, offered))
    return choose_guides(*sides, mode, generator("test", "pairing"), one_to_one=one_to_one)


@pytest.mark.parametrize("mode", ["random", *MEASURES])
def test_guides_of_a_batch_are_a_permutation(mode: str) -> None:
    assert guides(features(16, "u"), features(16, "l"), mode).sort().values.tolist() == list(range(16))


@pytest.mark.parametrize("mode", MEASURES)
def test_an_identical_image_is_the_guide(mode: str) -> None:
    labeled, order = features(8, "l"), torch.randperm(8, generator=generator("test", "order"))
    assert torch.equal(guides(labeled[order], labeled, mode), order)


@pytest.mark.parametrize("mode", MEASURES)
def test_the_order_of_the_batch_does_not_matter(mode: str) -> None:
    wanted, offered = features(8, "u"), features(8, "l")
    order = torch.randperm(8, generator=generator("test", "order"))
    guide = guides(wanted, offered, mode)
    assert torch.equal(guides(wanted[order], offered, mode), guide[order])
    assert torch.equal(order[guides(wanted, offered[order], mode)], guide)


@pytest.mark.parametrize("mode", MEASURES)
def test_no_gradient_leads_into_the_choice(mode: str) -> None:
    assert not embed(features(4, "u").requires_grad_(), mode, align_head()).requires_grad


def test_the_nearest_pair_is_joined_first() -> None:
    assert assign(torch.tensor([[1.0, 2.0], [0.5, 9.0]])).tolist() == [1, 0]


@pytest.mark.parametrize(("num_unlabeled", "uses"), [(3, 1), (5, 1), (10, 2), (11, 3)])
def test_each_labeled_image_is_used_equally_often(num_unlabeled: int, uses: int) -> None:
    guide = assign(costs(features(num_unlabeled, "u"), features(5, "l"), "feature_l2"))
    assert guide.bincount(minlength=5).max() == uses
    assert random_guides(generator("test"), 5, num_unlabeled).bincount(minlength=5).max() == uses


def test_from_a_queue_each_image_takes_its_nearest() -> None:
    offered = features(40, "l")
    wanted = offered[[7, 7, 31]] + 0.01
    assert guides(wanted, offered, "feature_l2", one_to_one=False).tolist() == [7, 7, 31]


def test_cosine_is_blind_to_length_and_l2_is_not() -> None:
    one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 0.0]])
    cosine = costs(embed(one, "feature_cos"), embed(other, "feature_cos"), "feature_cos")
    assert_close(cosine, torch.zeros(1, 1))
    assert_close(costs(one, other, "feature_l2"), torch.full((1, 1), 2.0))


def test_the_classes_of_a_crop_leave_out_what_is_ignored() -> None:
    mask = torch.tensor([[[0, 2, 255]], [[255, 255, 255]]])
    assert torch.equal(classes_present(mask, 4), torch.tensor([[1.0, 0, 1, 0], [0, 0, 0, 0]]))


def test_alignment_is_binary_cross_entropy_with_the_present_classes() -> None:
    mask = torch.tensor([[[0, 2, 255]]])
    logits = torch.tensor([[2.0, -1.0, 0.5]])
    assert_close(alignment_loss(logits, mask), F.binary_cross_entropy(logits.sigmoid(), torch.tensor([[1.0, 0, 1]])))


def fill(queue: PairQueue, count: int) -> None:
    for i in range(count):
        image = torch.full((2, 3, 4, 4), i / 255)
        queue.store(queue.pool(image, torch.full((2, 4, 4), i), torch.full((2, 6), float(i))))


def test_the_queue_holds_the_last_crops_newest_first() -> None:
    queue = PairQueue(5)
    fill(queue, 4)
    assert queue.mask[:, 0, 0].tolist() == [3, 3, 2, 2, 1]
    assert queue.embedding[:, 0].tolist() == [3.0, 3.0, 2.0, 2.0, 1.0]
    assert queue.image[:, 0, 0, 0].tolist() == [3, 3, 2, 2, 1]


def test_looking_into_the_queue_does_not_change_it() -> None:
    queue = PairQueue(5)
    fill(queue, 1)
    pool = queue.pool(torch.ones(2, 3, 4, 4), torch.full((2, 4, 4), 255), torch.zeros(2, 6))
    assert (len(pool.image), len(queue.image)) == (4, 2)


def test_an_ignored_pixel_stays_ignored_in_the_queue() -> None:
    pool = PairQueue(5).pool(torch.ones(2, 3, 4, 4), torch.full((2, 4, 4), 255), torch.zeros(2, 6))
    assert pool.mask.eq(255).all()


def test_a_queue_is_restored_at_the_length_it_was_saved_with() -> None:
    queue, restored = PairQueue(8), PairQueue(8)
    fill(queue, 3)
    restored.load_state_dict(queue.state_dict())
    assert all(torch.equal(getattr(queue, name), getattr(restored, name)) for name in ("image", "mask", "embedding"))
    restored.load_state_dict(PairQueue(8).state_dict())
    assert len(restored.image) == 0
