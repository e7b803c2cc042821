"""U2PL: who labels, who doubts, what is dropped, and when the unlabeled images begin."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from guidedmix_core.building import build_networks
from guidedmix_core.entropy import entropy
from guidedmix_core.errors import ConfigError
from guidedmix_core.rng import At
from tests.invariants.steps import (
    LATE,
    NUM_CLASSES,
    STEPS,
    losses_of,
    networks,
    reached,
    run_of,
    some_batch,
    train_steps,
    without_normalization,
)

TAP = {"method.contrast.tap": "context"}
SMALL = {**TAP, "method.contrast.queries": 16, "method.contrast.negatives": 5, "method.contrast.norm": "batch"}
ALONE = {**TAP, "method.contrast.weight": 0}


def statistics(net: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in net.named_buffers()}


def test_the_unlabeled_term_is_the_formula() -> None:
    config = without_normalization(run_of("u2pl", {**ALONE, "method.mixer": "none"}))
    nets, batch = networks(config), some_batch()
    logits, doubt = nets.student(batch.unlabeled.weak), nets.teacher(batch.unlabeled.weak)
    valid, unsure = batch.unlabeled.valid, entropy(doubt.softmax(1))
    kept = valid & (unsure < torch.quantile(unsure[valid], 1 - 0.2 * (1 - LATE / STEPS)))
    mean = F.cross_entropy(logits, doubt.argmax(1).masked_fill(~kept, 255), ignore_index=255)
    assert 0.9 < kept.sum() / valid.sum() < 1
    losses = losses_of(config, nets, batch)
    assert_close(losses.terms["unlabeled"], mean * kept.numel() / kept.sum())
    assert_close(losses.metrics["kept"], kept.float().mean())


def test_the_entropy_is_that_of_the_mixed_image_and_the_label_that_of_the_weak_one() -> None:
    changes = {**ALONE, "method.cutmix.probability": 1.0, "method.normalize": "selected"}
    config = without_normalization(run_of("u2pl", changes))
    nets, batch = networks(config), some_batch()
    image, pseudo = config.method.lesson(nets, batch, At(config.seed, LATE, STEPS))
    assert not torch.equal(image, batch.unlabeled.weak)
    unsure = entropy(nets.teacher(image).softmax(1))
    kept = pseudo.valid & (unsure < torch.quantile(unsure[pseudo.valid], 1 - 0.2 * (1 - LATE / STEPS)))
    expected = F.cross_entropy(nets.student(image), pseudo.label.masked_fill(~kept, 255), ignore_index=255)
    assert_close(losses_of(config, nets, batch).terms["unlabeled"], expected)


def test_the_second_look_gathers_the_teachers_statistics_once() -> None:
    config = run_of("u2pl", SMALL)
    nets = networks(config)
    losses_of(config, nets)
    for net in (nets.teacher, nets.teacher_head):
        counts = [value for name, value in statistics(net).items() if name.endswith("num_batches_tracked")]
        assert counts
        assert all(count == 1 for count in counts)
    assert nets.teacher.training


def test_a_teacher_whose_statistics_are_averaged_gathers_none() -> None:
    config = run_of("u2pl", {**SMALL, "method.cover": "state"})
    nets = networks(config)
    before = statistics(nets.teacher)
    losses_of(config, nets)
    assert all(torch.equal(before[name], value) for name, value in statistics(nets.teacher).items())


def test_no_gradient_reaches_the_teacher_and_the_contrast_trains_student_and_head() -> None:
    config = run_of("u2pl", SMALL)
    nets = networks(config)
    losses = losses_of(config, nets)
    assert losses.metrics["contrasted"] > 0
    found = reached(losses.terms["contrastive"], nets)
    assert any(name.startswith("head.") for name in found)
    assert any(".c5." in name for name in found)
    assert not any(".logits." in name for name in found)
    assert all(not p.requires_grad for net in (nets.teacher, nets.teacher_head) for p in net.parameters())


def test_the_memory_grows_by_doubtful_pixels() -> None:
    config = run_of("u2pl", {**SMALL, "method.contrast.new_negatives": 4})
    nets = networks(config)
    filled = []
    for step in (5, 6):
        losses_of(config, nets, step=step)
        filled.append(nets.memory.filled.clone())
    assert filled[0].max() == 4
    assert filled[1].max() == 8
    assert list(nets.memory.parameters()) == []


def test_the_first_share_of_the_run_is_supervised_and_the_teacher_a_copy() -> None:
    config = run_of("u2pl", {**SMALL, "method.supervised_share": 0.25})
    nets = networks(config)
    for step in range(STEPS):
        terms = losses_of(config, nets, step=step).terms
        assert terms.keys() == ({"supervised"} if step < 3 else {"supervised", "unlabeled", "contrastive"})
    with torch.no_grad():
        nets.student.stages["logits"].module[1].bias.fill_(3.0)
        config.method.after_step(nets, At(0, 2, STEPS))
    teacher = nets.teacher.state_dict()
    assert all(torch.equal(value, teacher[name]) for name, value in nets.student.state_dict().items())


@pytest.mark.parametrize(("step", "decay"), [(3, 0.0), (4, 0.5), (5, 2 / 3)])
def test_the_average_begins_anew_with_the_unlabeled_images(step: int, decay: float) -> None:
    config = run_of("u2pl", {**SMALL, "method.supervised_share": 0.25, "method.decay": 0.99})
    nets = networks(config)
    with torch.no_grad():
        for net, value in ((nets.student, 1.0), (nets.head, 1.0), (nets.teacher, 0.0), (nets.teacher_head, 0.0)):
            for weight in net.parameters():
                weight.fill_(value)
        config.method.after_step(nets, At(0, step, STEPS))
    for weight in (*nets.teacher.parameters(), *nets.teacher_head.parameters()):
        assert_close(weight, torch.full_like(weight, 1 - decay))


def test_without_a_contrast_there_is_neither_head_nor_memory() -> None:
    config = run_of("u2pl", ALONE)
    assert not any(name.startswith(("head", "memory", "teacher_head")) for name in networks(config).state_dict())
    assert losses_of(config, networks(config)).terms.keys() == {"supervised", "unlabeled"}


def test_a_contrast_leaves_every_other_draw_as_it_was() -> None:
    dropout = {"segmentor.dropout": 0.3}
    with_it, without = run_of("u2pl", {**SMALL, **dropout}), run_of("u2pl", {**ALONE, **dropout})
    one, other = (losses_of(config, networks(config)).terms for config in (with_it, without))
    assert {name: one[name] for name in other} == other


def test_stripped_of_all_its_own_it_is_the_mean_teacher_bit_by_bit() -> None:
    shared = {
        "segmentor.dropout": 0.3,
        "method.threshold": 0.4,
        "method.strong": False,
        "method.cover": "state",
        "method.decay": 0.98,
        "method.normalize": "valid",
        "method.cutmix": {"area": [0.5, 0.5], "aspect": [0.5, 2.0], "probability": 0.5, "whole_batch": True},
    }
    own = {**ALONE, "method.filter": "confidence", "method.supervised_share": 0.0}
    stripped, rival = train_steps(run_of("u2pl", {**shared, **own})), train_steps(run_of("mean_teacher", shared))
    expected = rival.state_dict()
    assert stripped.state_dict().keys() == expected.keys()
    assert [name for name, value in stripped.state_dict().items() if not torch.equal(value, expected[name])] == []


def test_few_classes_need_an_earlier_rank() -> None:
    config = run_of("u2pl", SMALL)
    with pytest.raises(ConfigError, match=r"method.contrast.low_rank=3: there are 3 classes; use .*low_rank: 1"):
        build_networks(config, 3)
    assert NUM_CLASSES > 3


def test_an_unknown_tap_is_refused_only_where_it_is_read() -> None:
    with pytest.raises(ConfigError, match=r"method.contrast.tap=joined: segmentor 'deeplabv3' has no such tap"):
        run_of("u2pl")
    run_of("u2pl", {"method.contrast.weight": 0})
