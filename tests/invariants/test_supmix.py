"""SupMix and SUFD: what is pasted where, what it teaches, and whom the discriminator moves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from guidedmix_core.adversary import deceive, judge, judged_right, tell_apart
from guidedmix_core.batch import Batch, Pseudo
from guidedmix_core.config import RunConfig
from guidedmix_core.errors import ConfigError
from guidedmix_core.methods._teacher import TaughtByAverage
from guidedmix_core.mixing import supmix_regions
from guidedmix_core.pairing import random_guides
from guidedmix_core.rng import At
from tests.invariants.steps import (
    LATE,
    STEPS,
    losses_of,
    networks,
    reached,
    run_of,
    some_batch,
    train_steps,
    without_normalization,
)
from tests.runs import small_run

FINE = {"segmentor.backbone.output_stride": 4}
"""A decoder's map of 8x10, large enough for the discriminator."""
NAMES = ("background", "disk", "square", "triangle", "ring")
AT = At(0, LATE, STEPS)


def run(changes: dict[str, object] | None = None) -> RunConfig:
    return run_of("supmix", {**FINE, "method.classes": ["disk", "ring"], **(changes or {})})


def lesson_of(config: RunConfig, nets: nn.Module, batch: Batch) -> tuple[Tensor, Pseudo]:
    image, pseudo, _ = config.method.lesson(nets, batch, AT)
    return image, pseudo


def guides() -> Tensor:
    return random_guides(AT.generator("supmix/pairs"), 4, 4)


def seen_by(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """The maps of labeled and unlabeled images as the student's pass gave them; they keep their gradients."""
    maps: list[tuple[Tensor, Tensor]] = []
    read = TaughtByAverage.read

    def reading(self: TaughtByAverage, nets: nn.Module, labeled: Tensor, unlabeled: Tensor, tap: str) -> object:
        of_both = read(self, nets, labeled, unlabeled, tap)
        maps.append((of_both[0][1], of_both[1][1]))
        for feature in maps[-1]:
            feature.retain_grad()
        return of_both

    monkeypatch.setattr(TaughtByAverage, "read", reading)
    return maps


@pytest.mark.parametrize("rule", ["all_selected", "half_random"])
def test_image_and_pseudo_mask_are_the_labeled_ones_where_pasted_and_untouched_elsewhere(rule: str) -> None:
    config = run({"method.rule": rule})
    nets, batch, guide = networks(config), some_batch(), guides()
    claimed = config.method.claim(nets, batch.unlabeled.weak, batch.unlabeled.valid)
    stream = AT.generator("supmix/classes") if rule == "half_random" else None
    region = supmix_regions(batch.mask[guide], nets.pasted, stream)
    image, pseudo = lesson_of(config, nets, batch)
    inside = region.unsqueeze(1)
    assert 0 < region.float().mean() < 1
    assert torch.equal(image, torch.where(inside, batch.image[guide], batch.unlabeled.strong[0]))
    assert torch.equal(pseudo.label, torch.where(region, batch.mask[guide], claimed.label))
    assert torch.equal(pseudo.confidence, torch.where(region, 1.0, claimed.confidence))
    assert torch.equal(pseudo.valid, region | claimed.valid)
    assert set(pseudo.label[region].tolist()) <= {1, 4}
    assert not (region & (batch.mask[guide] == 255)).any()


def test_labeled_images_without_a_pasted_class_change_nothing() -> None:
    config = run()
    nets, batch = networks(config), some_batch()
    batch = replace(batch, mask=batch.mask.where((batch.mask == 255) | (batch.mask == 0), 2))
    claimed = config.method.claim(nets, batch.unlabeled.weak, batch.unlabeled.valid)
    image, pseudo = lesson_of(config, nets, batch)
    assert torch.equal(image, batch.unlabeled.strong[0])
    assert all(torch.equal(getattr(pseudo, name), getattr(claimed, name)) for name in ("label", "confidence", "valid"))


def test_a_pasted_pixel_counts_in_full_however_unsure_the_teacher_is() -> None:
    config = without_normalization(run({"method.threshold": 1.0}))
    nets, batch = networks(config), some_batch()
    image, pseudo = lesson_of(config, nets, batch)
    region = supmix_regions(batch.mask[guides()], nets.pasted, None)
    pixels = F.cross_entropy(nets.student(image), pseudo.label, reduction="none")
    losses = losses_of(config, nets, batch)
    assert_close(losses.terms["unlabeled"], pixels[region].sum() / pseudo.valid.sum())
    assert_close(losses.metrics["kept"], region.float().mean())
    assert_close(losses.metrics["pasted"], region.float().mean())


def test_unlabeled_images_are_mixed_after_labeled_classes_were_pasted() -> None:
    """With a box that is the whole image, each gets all of the next one, pasted pixels included."""
    whole = {"method.mix_unlabeled": "cutmix", "method.cutmix.area": [1.0, 1.0], "method.cutmix.probability": 1.0}
    config, before = run(whole), run()
    nets, batch = networks(config), some_batch()
    (image, pseudo), (plain, claimed) = (lesson_of(which, nets, batch) for which in (config, before))
    assert torch.equal(image, plain.roll(-1, 0))
    assert torch.equal(pseudo.label, claimed.label.roll(-1, 0))


@pytest.mark.parametrize("mixer", ["classmix", "cutmix"])
def test_without_supmix_and_sufd_it_is_mean_teacher_bit_by_bit(mixer: str) -> None:
    shared = {**FINE, "segmentor.dropout": 0.3, "method.threshold": 0.2, "method.decay": 0.9}
    off = {"method.rule": "none", "method.adversarial_weight": 0}
    trained = train_steps(run_of("supmix", {**shared, **off, "method.mix_unlabeled": mixer}))
    expected = train_steps(run_of("mean_teacher", {**shared, "method.mixer": mixer})).state_dict()
    assert trained.state_dict().keys() - expected.keys() == {"pasted"}
    assert all(torch.equal(trained.state_dict()[name], value) for name, value in expected.items())


def test_without_sufd_there_is_no_discriminator() -> None:
    config = run({"method.adversarial_weight": 0, "method.tap": "nowhere"})
    nets = networks(config)
    assert nets.discriminator is None
    assert config.method.players(nets, config.optim).keys() == {"student"}
    assert losses_of(config, nets).terms.keys() == {"supervised", "unlabeled"}


def test_a_discriminator_that_moves_nobody_leaves_the_student_as_it_is() -> None:
    """It watches and is trained from the first step on; the adversarial term begins later."""
    late = {"method.adversarial_weight": {"final": 0.01, "until": 1.0}}
    one, other = (
        losses_of(config, networks(config), step=0).terms
        for config in (run(late), run({"method.adversarial_weight": 0}))
    )
    assert one.keys() - other.keys() == {"discriminator"}
    assert {name: one[name] for name in other} == other


def test_without_any_unlabeled_term_training_is_supervised_bit_by_bit() -> None:
    changes = {**FINE, "segmentor.dropout": 0.3}
    trained = train_steps(run_of("supmix", {**changes, "method.weight": 0, "method.adversarial_weight": 0}))
    expected = train_steps(run_of("supervised", changes)).student.state_dict()
    assert all(torch.equal(expected[name], value) for name, value in trained.student.state_dict().items())


@pytest.mark.parametrize("contest", ["bce", "lsgan", "hinge"])
def test_the_terms_of_sufd_are_the_formulas(contest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = without_normalization(run({"method.contest": contest, "method.real_label": 0.9}))
    nets, maps = networks(config), seen_by(monkeypatch)
    losses = losses_of(config, nets)
    real, fake = (nets.discriminator(feature) for feature in maps[0])
    assert real.shape == (4, 1, 1, 1)
    assert_close(losses.terms["adversarial"], deceive(fake, contest))
    assert_close(losses.terms["discriminator"], tell_apart(real, fake, contest, 0.9))
    assert_close(losses.metrics["discriminator_accuracy"], judged_right(real, fake, contest))


def test_nobody_trains_an_opponent() -> None:
    config = run()
    nets = networks(config)
    terms = losses_of(config, nets).terms
    discriminator = {name for name, _ in nets.named_parameters() if name.startswith("discriminator")}
    assert reached(terms["discriminator"], nets) == discriminator
    assert {name.split(".")[0] for name in reached(terms["adversarial"], nets)} == {"student"}
    assert not any("stages.logits" in name for name in reached(terms["adversarial"], nets))


def test_labeled_features_are_not_drawn_to_unlabeled_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    config = run({"method.joint_batch": False})
    maps = seen_by(monkeypatch)
    losses_of(config, networks(config)).terms["adversarial"].backward()
    (labeled, unlabeled), *_ = maps
    assert labeled.grad is None
    assert unlabeled.grad.abs().max() > 0


@pytest.mark.parametrize("joint", [True, False])
def test_the_discriminator_may_watch_the_weak_views(joint: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    config = without_normalization(run({"method.feature_view": "weak", "method.joint_batch": joint}))
    nets, batch, maps = networks(config), some_batch(), seen_by(monkeypatch)
    losses = losses_of(config, nets, batch)
    _, (_, of_weak) = config.method.read(nets, batch.image, batch.unlabeled.weak, "decoder")
    assert len(maps[0][1]) == 8
    assert_close(losses.terms["adversarial"], deceive(judge(nets.discriminator, of_weak)))
    mixed = losses_of(without_normalization(run()), nets, batch)
    assert_close(losses.terms["unlabeled"], mixed.terms["unlabeled"])
    assert not torch.isclose(losses.terms["adversarial"], mixed.terms["adversarial"])


def test_classes_are_named_as_in_the_data() -> None:
    assert networks(run()).pasted.tolist() == [name in ("disk", "ring") for name in NAMES] + [False, False]
    assert networks(run({"method.classes": None})).pasted.tolist() == [False] + 6 * [True]


def test_an_unknown_class_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"method.classes: no class 'sqare' in data 'shapes'; did you mean 'square'"):
        run({"method.classes": ["disk", "sqare"]})


def test_an_unknown_tap_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"method.tap=nowhere: segmentor 'deeplabv3' has no such tap"):
        run({"method.tap": "nowhere"})


def with_shares(*shares: float) -> Batch:
    """A labeled mask in which the classes have these shares."""
    counts = torch.tensor([round(share * 1280) for share in shares])
    mask = torch.repeat_interleave(torch.arange(len(shares)), counts).view(1, 32, 40)
    return Batch(torch.rand(1, 3, 32, 40, generator=AT.generator("image")), mask)


def test_rare_classes_are_counted_before_the_first_step() -> None:
    config = run({"method.classes": None, "method.rare_below": 0.2})
    nets = networks(config)
    labeled = iter([with_shares(0.1, 0.5, 0.1, 0.3), with_shares(0.1, 0.3, 0.2, 0.4)])
    config.method.prepare(nets, labeled, At(0, 0, STEPS))
    assert nets.pasted.tolist() == [False, False, True, False, True, True, True]  # 0.15; and those that never occur
    assert "pasted" in nets.state_dict()


def test_a_share_that_no_class_is_below_is_refused() -> None:
    config = run({"method.classes": None, "method.rare_below": 0.05})
    with pytest.raises(ConfigError, match=r"method.rare_below=0.05: .*0.25, 0.75"):
        config.method.prepare(networks(config), iter([with_shares(0.25, 0.75)]), At(0, 0, STEPS))


def test_a_map_too_small_for_the_discriminator_is_refused() -> None:
    config = small_run({"method.name": "supmix", "method.tap": "c5"})
    with pytest.raises(ConfigError, match=r"method.tap=c5: its map is 4x5,.* choose a finer tap"):
        losses_of(config, networks(config))
