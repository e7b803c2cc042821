"""AugSeg: labels are injected where the teacher is unsure, and images, masks and confidence are mixed alike."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from guidedmix_core.batch import IGNORE, Pseudo
from guidedmix_core.methods import augseg
from guidedmix_core.methods.augseg import INJECTED, PASTED, certainty
from guidedmix_core.mixing import beta_boxes
from guidedmix_core.pseudo import known
from guidedmix_core.rng import At, generator
from tests.invariants.steps import LATE, STEPS, losses_of, networks, run_of, some_batch, without_normalization


def at(purpose: str) -> torch.Generator:
    return At(0, LATE, STEPS).generator(purpose)


def test_the_lesson_is_the_released_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augseg, "certainty", lambda pseudo: torch.tensor([0.0, 1.0, 0.0, 1.0]))
    config = without_normalization(run_of("augseg", {"method.threshold": 0.0}))
    nets, batch = networks(config), some_batch()
    strong, label = batch.unlabeled.strong[0], nets.teacher(batch.unlabeled.weak).argmax(1)
    label = label.masked_fill(~batch.unlabeled.valid, IGNORE)
    j = torch.randperm(4, generator=at("partner"))
    source, target = strong.clone(), label.clone()
    region = beta_boxes(at("inject/box"), 4, (32, 40), INJECTED, "cpu")
    for i in (0, 2):
        source[i] = torch.where(region[i], batch.image[j[i]], source[i])
        target[i] = torch.where(region[i], batch.mask[j[i]], target[i])
    region = beta_boxes(at("cutmix"), 4, (32, 40), PASTED, "cpu")
    image = torch.where(region.unsqueeze(1), source[j], strong)
    target = torch.where(region, target[j], label)
    pixels = F.cross_entropy(nets.student(image), target, ignore_index=IGNORE, reduction="none")
    assert_close(losses_of(config, nets, batch).terms["unlabeled"], pixels.mean())  # by all pixels


def test_without_boxes_the_strong_view_is_taught_as_it_is() -> None:
    config = without_normalization(run_of("augseg", {"method.threshold": 0.0, "method.cutmix": False}))
    nets, batch = networks(config), some_batch()
    label = nets.teacher(batch.unlabeled.weak).argmax(1).masked_fill(~batch.unlabeled.valid, IGNORE)
    logits = nets.student(batch.unlabeled.strong[0])
    expected = F.cross_entropy(logits, label, ignore_index=IGNORE, reduction="none").mean()
    assert_close(losses_of(config, nets, batch).terms["unlabeled"], expected)


def test_certainty_is_1_of_a_sure_image_and_0_of_an_even_one() -> None:
    sure = torch.zeros(1, 4, 2, 2)
    sure[:, 1] = 1
    even = torch.full((1, 4, 2, 2), 0.25)
    probability = torch.cat([sure, even])
    pseudo = Pseudo(probability.argmax(1), probability.amax(1), torch.ones(2, 2, 2, dtype=torch.bool), probability)
    assert_close(certainty(pseudo), torch.tensor([1.0, 0.0]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [INJECTED, PASTED])
def test_boxes_leave_a_beta_share_of_the_image(shape: tuple[int, int]) -> None:
    left = []
    for step in range(300):  # the largest of 64 boxes is not cut off by the border
        regions = beta_boxes(generator("test", step), 64, (100, 100), shape, "cpu")
        left.append(1 - regions.float().mean((1, 2)).max())
    mean, variance = shape[0] / sum(shape), math.prod(shape) / (sum(shape) ** 2 * (sum(shape) + 1))
    assert_close(torch.stack(left).mean(), torch.tensor(mean), atol=4 * math.sqrt(variance / 300) + 0.02, rtol=0)
    assert_close(torch.stack(left).var(), torch.tensor(variance), atol=0.25 * variance, rtol=0)


def test_a_known_mask_claims_what_has_a_class() -> None:
    pseudo = known(torch.tensor([[[0, 3], [IGNORE, 1]]]))
    assert pseudo.label.tolist() == [[[0, 3], [0, 1]]]
    assert pseudo.valid.tolist() == [[[True, True], [False, True]]]
    assert pseudo.confidence.eq(1).all()
