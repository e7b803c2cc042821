"""Mean teacher: who labels, in which mode, and what the average covers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from guidedmix_core.errors import ConfigError
from guidedmix_core.mixing import classmix_regions, cutmix_boxes
from guidedmix_core.rng import At
from tests.invariants.steps import (
    LATE,
    STEPS,
    gradients,
    losses_of,
    networks,
    run_of,
    some_batch,
    train_steps,
    without_normalization,
)

PLAIN = {"method.mixer": "none", "method.strong": False, "method.threshold": 0.0}


def test_the_terms_are_the_formulas() -> None:
    config = without_normalization(run_of("mean_teacher", PLAIN))
    nets, batch = networks(config), some_batch()
    z_l, z_u = nets.student(batch.image), nets.student(batch.unlabeled.weak)
    target = nets.teacher(batch.unlabeled.weak).argmax(1).masked_fill(~batch.unlabeled.valid, 255)
    expected = {
        "supervised": F.cross_entropy(z_l, batch.mask, ignore_index=255),
        "unlabeled": F.cross_entropy(z_u, target, ignore_index=255),
    }
    assert_close(losses_of(config, nets, batch).terms, expected)


def test_the_teacher_gets_no_gradient() -> None:
    config = run_of("mean_teacher", PLAIN)
    nets = networks(config)
    losses_of(config, nets).total().backward()
    assert all(p.grad is None for p in nets.teacher.parameters())
    assert all(not p.requires_grad for p in nets.teacher.parameters())


def test_an_evaluating_teacher_keeps_its_statistics_and_its_mode() -> None:
    config = run_of("mean_teacher", PLAIN)
    nets = networks(config)
    before = {name: buffer.clone() for name, buffer in nets.teacher.named_buffers()}
    losses_of(config, nets)
    assert all(torch.equal(before[name], buffer) for name, buffer in nets.teacher.named_buffers())
    assert nets.teacher.training


def test_a_training_teacher_gathers_its_own_statistics() -> None:
    config = run_of("mean_teacher", {**PLAIN, "method.teacher_mode": "train", "method.cover": "params"})
    nets = networks(config)
    losses_of(config, nets)
    counters = [b for name, b in nets.teacher.named_buffers() if name.endswith("num_batches_tracked")]
    assert all(count == 1 for count in counters)


def test_parameters_alone_need_a_training_teacher() -> None:
    with pytest.raises(ConfigError, match=r"method.cover=params: .*use method.cover: state"):
        run_of("mean_teacher", {"method.cover": "params"})


def test_the_teacher_is_a_copy_after_the_first_step() -> None:
    config = run_of("mean_teacher")
    nets = networks(config)
    with torch.no_grad():
        nets.student.stages["logits"].module[1].bias.fill_(3.0)
        config.method.after_step(nets, At(0, 0, STEPS))
    assert all(torch.equal(a, b) for a, b in zip(nets.teacher.parameters(), nets.student.parameters(), strict=True))


def test_a_threshold_of_1_teaches_nothing() -> None:
    config = run_of("mean_teacher", {**PLAIN, "method.threshold": 1.0})
    nets = networks(config)
    term = losses_of(config, nets).terms["unlabeled"]
    assert term == 0
    assert all(grad is None or grad.eq(0).all() for grad in gradients(term, nets).values())


@pytest.mark.parametrize("loss", ["ce", "mse"])
def test_a_fraction_scales_the_mean_over_all_pixels(loss: str) -> None:
    def term(changes: dict[str, object]) -> torch.Tensor:
        config = without_normalization(run_of("mean_teacher", {**PLAIN, "method.loss": loss, **changes}))
        losses = losses_of(config, networks(config))
        return torch.stack([losses.terms["unlabeled"], losses.metrics["kept"]])

    everywhere, _ = term({"method.normalize": "all"})
    scaled, share = term({"method.normalize": "fraction", "method.threshold": 0.4})
    assert 0 < share < 1
    assert_close(scaled, everywhere * share)


@pytest.mark.parametrize("mixer", ["cutmix", "classmix"])
def test_image_and_pseudo_mask_are_mixed_alike(mixer: str) -> None:
    changes = {"method.mixer": mixer, "method.threshold": 0.0, "method.cutmix.probability": 1.0}
    config = without_normalization(run_of("mean_teacher", changes))
    nets, batch, partner = networks(config), some_batch(), [1, 2, 3, 0]
    label, strong, valid = (
        nets.teacher(batch.unlabeled.weak).argmax(1),
        batch.unlabeled.strong[0],
        batch.unlabeled.valid,
    )
    region = {
        "cutmix": cutmix_boxes(At(0, LATE, STEPS).generator("cutmix"), 4, (32, 40), config.method.cutmix),
        "classmix": classmix_regions(At(0, LATE, STEPS).generator("classmix"), label[partner]),
    }[mixer]
    label = label.masked_fill(~valid, 255)
    view = torch.where(region.unsqueeze(1), strong[partner], strong)
    target = torch.where(region, label[partner], label)
    assert 0 < region.float().mean() < 1
    expected = F.cross_entropy(nets.student(view), target, ignore_index=255)
    assert_close(losses_of(config, nets, batch).terms["unlabeled"], expected)


def test_the_result_is_the_network_asked_for() -> None:
    for which in ("student", "teacher"):
        config = run_of("mean_teacher", {"method.evaluate": which})
        nets = networks(config)
        assert config.method.predictor(nets) is getattr(nets, which)


@pytest.mark.parametrize(("method", "judged"), [("mean_teacher", "teacher"), ("classmix", "student")])
def test_classmix_is_judged_by_its_student_as_in_the_released_code(method: str, judged: str) -> None:
    config = run_of(method)
    nets = networks(config)
    assert config.method.result(nets) is getattr(nets, judged)


def test_separate_passes_differ_from_a_joint_one_only_in_statistics() -> None:
    together, apart = (
        without_normalization(run_of("mean_teacher", {**PLAIN, "method.joint_batch": joint})) for joint in (True, False)
    )
    one, other = (losses_of(config, networks(config)).terms for config in (together, apart))
    assert_close(one, other)


def test_the_teacher_lags_behind_the_student() -> None:
    nets = train_steps(run_of("mean_teacher", PLAIN))
    student, teacher = (net.stages["logits"].module[1].weight for net in (nets.student, nets.teacher))
    assert not torch.equal(student, teacher)
