"""Pseudo masks: reading, filtering, teaching, and taking the labeled image out of a mixed prediction."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from guidedmix_core.losses import cross_entropy
from guidedmix_core.mixing import blend
from guidedmix_core.pseudo import (
    confident,
    confident_share,
    decouple,
    decouple_probability,
    one_hot,
    predict_pseudo,
    shrink,
    teach,
)
from guidedmix_core.rng import ambient, generator

KINDS = ["none", "logit_sub", "logit", "probability"]


def logits(key: str) -> Tensor:
    return 3 * torch.randn(2, 5, 6, 7, generator=generator("test", key))


def everywhere() -> Tensor:
    return torch.ones(2, 6, 7, dtype=torch.bool)


def somewhere() -> Tensor:
    return torch.rand(2, 6, 7, generator=generator("test", "valid")) > 0.4


def test_a_pseudo_mask_carries_no_gradient() -> None:
    pseudo = predict_pseudo(logits("a").requires_grad_(), everywhere())
    assert not pseudo.confidence.requires_grad
    assert not pseudo.probability.requires_grad


def test_a_pseudo_mask_is_the_most_probable_class() -> None:
    pseudo = predict_pseudo(logits("a"), everywhere())
    assert torch.equal(pseudo.label, logits("a").argmax(1))
    assert_close(pseudo.confidence, logits("a").softmax(1).amax(1))


def test_threshold_0_by_valid_pixels_is_plain_cross_entropy_with_padding_ignored() -> None:
    pseudo, valid = predict_pseudo(logits("a"), somewhere()), somewhere()
    loss = teach(logits("b"), pseudo, confident(pseudo, 0.0).float(), loss="ce")
    assert_close(loss, cross_entropy(logits("b"), pseudo.label.masked_fill(~valid, 255)))


@pytest.mark.parametrize("loss", ["ce", "focal"])
def test_a_threshold_nothing_reaches_teaches_exactly_nothing(loss: str) -> None:
    z, pseudo = logits("b").requires_grad_(), predict_pseudo(logits("a"), everywhere())
    value = teach(z, pseudo, confident(pseudo, 1.01).float(), loss=loss)
    value.backward()
    assert value == 0
    assert z.grad.eq(0).all()


def test_of_n_pixels_v_valid_and_s_selected_each_divisor_is_what_it_says() -> None:
    pseudo = predict_pseudo(logits("a"), somewhere())
    kept = confident(pseudo, 0.8)
    mean_of_kept = F.cross_entropy(logits("b"), pseudo.label, reduction="none")[kept].mean()
    s, v, n = kept.sum(), pseudo.valid.sum(), kept.numel()
    assert_close(teach(logits("b"), pseudo, kept.float(), loss="ce", normalize="valid"), mean_of_kept * s / v)
    assert_close(teach(logits("b"), pseudo, kept.float(), loss="ce", normalize="all"), mean_of_kept * s / n)
    assert_close(confident_share(pseudo, 0.8), s / n)


def test_padding_is_never_confident() -> None:
    pseudo = predict_pseudo(logits("a"), somewhere())
    assert torch.equal(confident(pseudo, 0.0), somewhere())


@pytest.mark.parametrize("kind", KINDS)
def test_with_no_labeled_share_the_mixed_prediction_remains(kind: str) -> None:
    remains = decouple(logits("m"), logits("l"), 0.0, kind)
    assert_close(remains.softmax(1), logits("m").softmax(1))


def test_an_affine_head_is_decoupled_exactly() -> None:
    with ambient("test"):
        head = nn.Conv2d(4, 5, 1)
    a, b = (torch.randn(2, 4, 6, 7, generator=generator("test", key)) for key in "ab")
    remains = decouple(head(blend(a, b, 0.3)), head(a), 0.3, "logit_sub")
    assert_close(remains, 0.7 * head(b), atol=1e-5, rtol=1e-5)
    assert torch.equal(remains.argmax(1), head(b).argmax(1))
    assert_close(decouple(head(blend(a, b, 0.3)), head(a), 0.3, "logit"), head(b), atol=1e-5, rtol=1e-5)


def test_an_affine_head_leaves_nothing_of_a_labeled_image() -> None:
    assert_close(decouple(logits("l"), logits("l"), 1.0, "logit_sub"), torch.zeros(2, 5, 6, 7))


def test_probabilities_decouple_to_a_distribution() -> None:
    p_m, p_l = logits("m").softmax(1), logits("l").softmax(1)
    assert_close((p_m - 0.4 * p_l).sum(1), torch.full((2, 6, 7), 0.6))
    rest = decouple_probability(p_m, p_l, 0.4)
    assert (rest >= 0).all()
    assert_close(rest.sum(1), torch.ones(2, 6, 7))


def test_no_pixel_is_empty_after_the_cut() -> None:
    left = (logits("m").softmax(1) - 0.5 * logits("l").softmax(1)).clamp(min=0).sum(1)
    assert (left >= 0.5 - 1e-6).all()


def test_decoupled_probabilities_come_as_their_logarithm() -> None:
    remains = decouple(logits("m"), logits("l"), 0.4, "probability")
    expected = decouple_probability(logits("m").softmax(1), logits("l").softmax(1), 0.4)
    assert remains.isfinite().all()
    assert_close(remains.softmax(1), expected)


def test_the_truth_is_subtracted_where_there_is_one() -> None:
    truth = torch.randint(0, 5, (2, 6, 7), generator=generator("test", "truth")).masked_fill(~somewhere(), 255)
    remains = decouple(logits("m"), logits("l"), 0.4, "probability", truth).softmax(1)
    by_prediction = decouple(logits("m"), logits("l"), 0.4, "probability").softmax(1)
    of_truth = remains.gather(1, truth.clamp(max=4).unsqueeze(1)).squeeze(1)
    p_m = logits("m").softmax(1).gather(1, truth.clamp(max=4).unsqueeze(1)).squeeze(1)
    ignored = (truth == 255).unsqueeze(1).expand_as(remains)
    assert_close(remains[ignored], by_prediction[ignored])
    assert (of_truth <= p_m / 0.6 + 1e-6)[truth != 255].all()
    assert of_truth[(truth != 255) & (p_m < 0.4)].max() < 1e-6


def test_one_hot_falls_back_where_the_mask_is_ignored() -> None:
    mask = torch.tensor([[[1, 255]]])
    otherwise = torch.tensor([0.5, 0.3, 0.2]).view(1, 3, 1, 1).expand(1, 3, 1, 2)
    assert_close(one_hot(mask, otherwise)[0, :, 0].T, torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.3, 0.2]]))


def test_shrinking_keeps_ids_and_truth_values() -> None:
    mask = torch.tensor([[0, 255], [7, 3]]).repeat_interleave(2, 0).repeat_interleave(2, 1).unsqueeze(0)
    assert torch.equal(shrink(mask, (2, 2)), torch.tensor([[[0, 255], [7, 3]]]))
    assert torch.equal(shrink(mask == 255, (2, 2)), torch.tensor([[[False, True], [False, False]]]))
