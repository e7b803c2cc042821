"""The preset `guidedmix_official` is the released code's step, compared with a transcription free of our parts."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from guidedmix_core.batch import Batch
from guidedmix_core.methods import guidedmix
from tests.invariants.steps import gradients, losses_of, networks, reached, run_of, some_batch

PRESET = "guidedmix_official"


def released_step(nets: nn.Module, batch: Batch, lam: float, pi: Tensor) -> dict[str, Tensor]:
    """One step as released: `pi[i]` is the unlabeled image that is mixed with labeled image i."""
    main, mix = nets.student.stages, nets.mix_head.stages
    x_l, y_l, x_u = batch.image, batch.mask, batch.unlabeled.weak
    encode = main["c5"]
    c5 = encode.backbone((torch.cat([x_l, x_u]) - encode.mean) / encode.std)[-1]
    aspp = main["aspp"].module
    a_l = aspp(c5[: len(x_l)])
    z_l = main["logits"].module(main["context"].module(a_l))
    a_u = aspp(c5[len(x_l) :])
    z_u = main["logits"].module(main["context"].module(a_u))
    a_m = lam * a_l + (1 - lam) * a_u[pi]
    z_m = mix["logits"].module(mix["context"].module(a_m))
    d_u = z_m - lam * z_l
    t = z_u.detach()[pi].argmax(1)
    p = torch.sigmoid(d_u)
    y = F.one_hot(t, z_u.shape[1]).permute(0, 3, 1, 2)
    focal = -0.5 * y * (1 - p) ** 0.5 * torch.log(p) - 0.5 * (1 - y) * p**0.5 * torch.log(1 - p)
    up = F.interpolate(z_l, x_l.shape[-2:], mode="bilinear", align_corners=False)
    supervised = F.cross_entropy(up, y_l, ignore_index=255, reduction="sum") / y_l.numel()
    return {"supervised": supervised, "unlabeled": focal.mean()}


def step_with(monkeypatch: pytest.MonkeyPatch, lam: float, guide: Tensor, **changes: object) -> tuple:
    """Our step at a given lambda and pairing, and the networks it was taken with."""
    monkeypatch.setattr(guidedmix, "draw_lambda", lambda generator, cap: lam)
    monkeypatch.setattr(guidedmix, "choose_guides", lambda *choice, one_to_one: guide)
    config = run_of(PRESET, changes)
    nets = networks(config)
    return nets, losses_of(config, nets)


GUIDE = torch.tensor([2, 0, 3, 1])


@pytest.mark.parametrize("lam", [0.0, 0.2, 0.45])
def test_terms_and_gradients_are_those_of_the_released_code(monkeypatch: pytest.MonkeyPatch, lam: float) -> None:
    nets, ours = step_with(monkeypatch, lam, GUIDE)
    theirs = released_step(nets, some_batch(), lam, GUIDE.argsort())
    assert ours.weights == {"supervised": 1.0, "unlabeled": 10.0}
    assert_close(ours.terms, theirs)
    total = theirs["supervised"] + 10 * theirs["unlabeled"]
    assert_close(gradients(ours.total(), nets), gradients(total, nets), atol=2e-6, rtol=2e-4)


def test_the_backbone_sees_both_streams_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    nets, _ = step_with(monkeypatch, 0.3, GUIDE)
    counters = {name: b.item() for name, b in nets.named_buffers() if name.endswith("num_batches_tracked")}
    assert {count for name, count in counters.items() if "backbone" in name} == {1}
    assert {count for name, count in counters.items() if name.startswith("student") and "backbone" not in name} == {2}
    assert {count for name, count in counters.items() if name.startswith("mix_head")} == {1}


def parts_reached(loss: Tensor, nets: nn.Module) -> set[str]:
    names = reached(loss, nets)
    stages = {"backbone": "c5", "aspp": "aspp", "bottleneck": "context", "classifier": "logits"}
    main = {part for part, tap in stages.items() if any(name.startswith(f"student.stages.{tap}.") for name in names)}
    return main | ({"mix_head"} if any(name.startswith("mix_head") for name in names) else set())


@pytest.mark.parametrize(
    ("lam", "changes", "expected"),
    [
        (0.3, {}, {"mix_head", "aspp", "backbone", "bottleneck", "classifier"}),
        (0.3, {"method.decouple.detach_labeled": True}, {"mix_head", "aspp", "backbone"}),
        (0.0, {}, {"mix_head", "aspp", "backbone"}),
    ],
)
def test_the_main_classifier_learns_from_unlabeled_images_only_by_the_subtracted_prediction(
    monkeypatch: pytest.MonkeyPatch, lam: float, changes: dict[str, object], expected: set[str]
) -> None:
    nets, losses = step_with(monkeypatch, lam, GUIDE, **changes)
    assert parts_reached(losses.terms["unlabeled"], nets) == expected


def frozen_pass(monkeypatch: pytest.MonkeyPatch, lam: float) -> tuple[Tensor, Tensor]:
    """The gradients of the unlabeled term at the images, without normalization across them."""
    monkeypatch.setattr(guidedmix, "draw_lambda", lambda generator, cap: lam)
    changes = {"segmentor.norm": "none", "segmentor.backbone.norm": "none"}
    config, batch = run_of(PRESET, changes), some_batch()
    images = batch.image.requires_grad_(), batch.unlabeled.weak.requires_grad_()
    loss = losses_of(config, networks(config), batch).terms["unlabeled"]
    found = torch.autograd.grad(loss, images, allow_unused=True)
    at_labeled, at_unlabeled = (torch.zeros(1) if grad is None else grad.abs().amax() for grad in found)
    return at_labeled, at_unlabeled


def test_labeled_images_get_a_gradient_in_proportion_to_lambda(monkeypatch: pytest.MonkeyPatch) -> None:
    assert frozen_pass(monkeypatch, 0.0)[0] == 0
    assert frozen_pass(monkeypatch, 0.3)[0] > 0


@pytest.mark.parametrize("lam", [0.0, 0.3])
def test_unlabeled_images_always_get_a_gradient(monkeypatch: pytest.MonkeyPatch, lam: float) -> None:
    assert frozen_pass(monkeypatch, lam)[1] > 0


def test_the_second_head_has_its_own_weights_and_no_aspp() -> None:
    nets = networks(run_of(PRESET))
    shared = {id(p) for p in nets.student.parameters()} & {id(p) for p in nets.mix_head.parameters()}
    assert shared == set()
    assert nets.mix_head.taps == ("context", "decoder", "logits")


def test_one_more_head_leaves_the_initial_weights_of_the_student_alone() -> None:
    separate, shared = (networks(run_of(PRESET, {"method.head_mix": head})) for head in ("separate", "shared"))
    assert all(
        torch.equal(a, b) for a, b in zip(separate.student.parameters(), shared.student.parameters(), strict=True)
    )


def test_the_result_needs_neither_second_head_nor_mitrans() -> None:
    config = run_of(PRESET)
    nets = networks(config).eval()
    image = some_batch().image
    assert config.method.predictor(nets) is nets.student
    assert torch.equal(config.method.predictor(nets)(image), nets.student(image))
