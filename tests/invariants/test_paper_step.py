"""The direction of the abstracts, without what we add: the mixed branch teaches, the plain prediction learns."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from guidedmix_core.methods import guidedmix
from guidedmix_core.rng import At
from tests.invariants.steps import (
    LATE,
    RANDOM_PAIRS,
    STEPS,
    losses_of,
    networks,
    reached,
    run_of,
    some_batch,
    without_normalization,
)

PRESET = "guidedmix_literal"
ALL_TAUGHT = {"method.pseudo.threshold": 0.0, **RANDOM_PAIRS}


def open_mitrans(nets: nn.Module) -> nn.Module:
    """MITrans starts as the identity; this makes it something else."""
    for block in nets.mitrans.blocks:
        block.gamma.data.fill_(0.5)
    return nets


def test_the_terms_are_the_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    lam, guide = 0.15, torch.tensor([2, 0, 3, 1])
    monkeypatch.setattr(guidedmix, "draw_lambda", lambda generator, cap: lam)
    monkeypatch.setattr(guidedmix, "choose_guides", lambda *choice, one_to_one: guide)
    changes = {"method.mitrans.depth": 0, "method.mixup_weight": 1.0, "method.mixup_threshold": 0.0}
    config = without_normalization(run_of(PRESET, {**ALL_TAUGHT, **changes}))
    nets, batch = networks(config), some_batch()
    x_m = lam * batch.image[guide] + (1 - lam) * batch.unlabeled.weak
    z_l, z_u, z_m = (nets.student(image) for image in (batch.image, batch.unlabeled.weak, x_m))
    target = ((z_m - lam * z_l[guide]) / (1 - lam)).argmax(1).masked_fill(~batch.unlabeled.valid, 255)
    plain = z_u.argmax(1).masked_fill(~batch.unlabeled.valid, 255)
    expected = {
        "supervised": F.cross_entropy(z_l, batch.mask, ignore_index=255),
        "unlabeled": F.cross_entropy(z_u, target, ignore_index=255, reduction="sum") / target.numel(),
        "labeled_mixed": lam * F.cross_entropy(z_m, batch.mask[guide], ignore_index=255),
        "mixup": (1 - lam) * F.cross_entropy(z_m, plain, ignore_index=255),
    }
    assert_close(losses_of(config, nets, batch).terms, expected)


def image_gradients(changes: dict[str, object], term: str) -> tuple[Tensor, Tensor]:
    """Of a term at labeled and unlabeled images, when images do not influence each other."""
    config, batch = without_normalization(run_of(PRESET, changes)), some_batch()
    images = batch.image.requires_grad_(), batch.unlabeled.weak.requires_grad_()
    loss = losses_of(config, open_mitrans(networks(config)), batch).terms[term]
    found = torch.autograd.grad(loss, images, allow_unused=True)
    at_labeled, at_unlabeled = (torch.zeros(()) if grad is None else grad.abs().amax() for grad in found)
    return at_labeled, at_unlabeled


def test_nothing_flows_into_the_branch_that_teaches() -> None:
    at_labeled, at_unlabeled = image_gradients(ALL_TAUGHT, "unlabeled")
    assert at_labeled == 0
    assert at_unlabeled > 0


def test_the_unlabeled_term_trains_the_student_and_not_mitrans() -> None:
    config = run_of(PRESET, ALL_TAUGHT)
    nets = open_mitrans(networks(config))
    names = reached(losses_of(config, nets).terms["unlabeled"], nets)
    assert any(name.startswith("student.stages.logits") for name in names)
    assert any("backbone" in name for name in names)
    assert not any(name.startswith("mitrans") for name in names)


def test_the_labeled_mixed_term_trains_mitrans_and_the_shared_head() -> None:
    config = run_of(PRESET, ALL_TAUGHT)
    nets = open_mitrans(networks(config))
    names = reached(losses_of(config, nets).terms["labeled_mixed"], nets)
    assert any(name.startswith("mitrans") for name in names)
    assert any(name.startswith("student.stages.logits") for name in names)


@pytest.mark.parametrize("align_backbone", [False, True])
def test_alignment_trains_its_classifier_and_the_backbone_if_asked(align_backbone: bool) -> None:
    config = run_of(PRESET, {"method.pairing.align_backbone": align_backbone})
    nets = networks(config)
    names = reached(losses_of(config, nets).terms["alignment"], nets)
    assert {"align_head.weight", "align_head.bias"} <= names
    assert any("backbone" in name for name in names) == align_backbone


def test_depth_0_has_no_parameter_and_no_other_state() -> None:
    none, one, two = (networks(run_of(PRESET, {"method.mitrans.depth": depth})).state_dict() for depth in (0, 1, 2))
    assert none.keys() == {name for name in one if not name.startswith("mitrans")}
    assert none.keys() < one.keys() < two.keys()


def test_mitrans_starts_as_its_absence() -> None:
    with_it, without = (run_of(PRESET, {**ALL_TAUGHT, "method.mitrans.depth": depth}) for depth in (2, 0))
    assert_close(
        losses_of(with_it, networks(with_it)).terms, losses_of(without, networks(without)).terms, rtol=0, atol=0
    )


def test_mitrans_refines_the_mixed_branch_only() -> None:
    config = run_of(PRESET, ALL_TAUGHT)
    closed, opened = networks(config), open_mitrans(networks(config))
    before, after = losses_of(config, closed).terms, losses_of(config, opened).terms
    assert before["supervised"] == after["supervised"]
    assert before["labeled_mixed"] != after["labeled_mixed"]


def test_mitrans_is_removed_at_test() -> None:
    config = run_of(PRESET)
    nets, image = networks(config).eval(), some_batch().image
    plain = config.method.predictor(nets)(image)
    assert torch.equal(config.method.predictor(open_mitrans(nets))(image), plain)
    assert not any(name.startswith(("mix", "mitrans")) for name in nets.student.state_dict())


@pytest.mark.parametrize("level", ["image", "c5", "aspp"])
def test_every_level_mixes_the_guide_into_the_unlabeled_image(level: str) -> None:
    changes = {**ALL_TAUGHT, "method.mix.level": level}
    at_labeled, at_unlabeled = image_gradients(changes, "labeled_mixed")
    assert at_labeled > 0
    assert at_unlabeled > at_labeled  # lambda is below 0.2


PLUS = {
    "segmentor.name": "deeplabv3plus",
    "segmentor.aspp_channels": 8,
    "segmentor.low_level_channels": 4,
    "segmentor.decoder_channels": 8,
    "segmentor.dilations": [1, 2],
    "segmentor.dropout": 0.0,
    "segmentor.backbone": {"name": "tiny", "width": 4},
}


@pytest.mark.parametrize("level", ["c5", "aspp"])
def test_mixing_at_a_tap_blends_every_map_that_later_stages_read(monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    lam, guide = 0.15, torch.tensor([2, 0, 3, 1])
    monkeypatch.setattr(guidedmix, "draw_lambda", lambda generator, cap: lam)
    monkeypatch.setattr(guidedmix, "choose_guides", lambda *choice, one_to_one: guide)
    config = without_normalization(run_of(PRESET, {**ALL_TAUGHT, **PLUS, "method.mix.level": level}))
    nets, batch = networks(config), some_batch()
    labeled, weak = (nets.student.run({"image": x}, until=level) for x in (batch.image, batch.unlabeled.weak))
    assert len(weak) == 2  # the tap's own map, and the one at stride 4
    maps = {name: lam * labeled[name][guide] + (1 - lam) * weak[name] for name in weak}
    z_m = F.interpolate(nets.student.run(maps, after=level)["logits"], (32, 40), mode="bilinear")
    expected = lam * F.cross_entropy(z_m, batch.mask[guide], ignore_index=255)
    assert_close(losses_of(config, nets, batch).terms["labeled_mixed"], expected)


def test_the_average_teaches_without_a_gradient_and_follows_the_student() -> None:
    config = run_of(PRESET, {**ALL_TAUGHT, "method.ema": 0.9})
    nets = networks(config)
    losses_of(config, nets).total().backward()
    assert all(p.grad is None for p in nets.teacher.parameters())
    with torch.no_grad():
        nets.student.stages["logits"].module[1].bias.add_(1.0)
        config.method.after_step(nets, At(0, LATE, STEPS))
    moved = nets.teacher.student.stages["logits"].module[1].bias
    assert_close(moved, torch.full_like(moved, 0.1))


def test_queued_guides_come_with_their_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    mix = guidedmix.Mixed
    monkeypatch.setattr(guidedmix, "Mixed", lambda *parts: seen.append(mix(*parts)) or seen[-1])
    config = run_of(PRESET, {"method.pairing.queue_size": 6})
    nets = networks(config)
    batches = [some_batch(key=key) for key in "abc"]
    for batch in batches:
        losses_of(config, nets, batch)
    assert len(nets.queue.image) == 6
    last = seen[-1]
    images = torch.cat([batch.image for batch in batches])
    masks = torch.cat([batch.mask for batch in batches])
    which = torch.cdist(last.guide.image.flatten(1), images.flatten(1)).argmin(1)
    assert torch.equal(last.truth, masks[which])
    assert_close(last.guide.image, images[which], atol=0.5 / 255 + 1e-6, rtol=0)


def test_telemetry_changes_no_state() -> None:
    config = run_of(PRESET)
    nets = networks(config)
    losses_of(config, nets)
    before = {name: tensor.clone() for name, tensor in nets.state_dict().items()}
    config.method.taught(nets.eval(), some_batch(key="other"), At(0, LATE, STEPS))
    assert all(torch.equal(before[name], tensor) for name, tensor in nets.state_dict().items())


def test_telemetry_shows_the_decoupled_target_beside_the_plain_prediction() -> None:
    config = run_of(PRESET, {**ALL_TAUGHT, "method.mix.lambda_max": 0.5})
    nets = open_mitrans(networks(config)).eval()
    taught = config.method.taught(nets, some_batch(), At(0, LATE, STEPS))
    assert torch.equal(taught.plain, nets.student(some_batch().unlabeled.weak).argmax(1))
    assert torch.equal(taught.kept, some_batch().unlabeled.valid)
    assert not torch.equal(taught.pseudo.label, taught.plain)
