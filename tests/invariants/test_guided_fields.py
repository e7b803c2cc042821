"""GuidedMix-Net's fields: what they may not combine, and that each does what it says."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from guidedmix_core.components import names
from guidedmix_core.errors import ConfigError
from guidedmix_core.methods.guidedmix import GuidedMix
from guidedmix_core.mixing import cutmix_boxes
from guidedmix_core.rng import At
from tests.invariants.steps import (
    LATE,
    RANDOM_PAIRS,
    STEPS,
    losses_of,
    networks,
    run_of,
    some_batch,
    without_normalization,
)

NO_MIXING = {"method.mix.level": "none", "method.pseudo.threshold": 0.0}


@pytest.mark.parametrize(
    ("preset", "path", "value", "cure"),
    [
        ("guidedmix_paper", "method.mix.lambda_max", 0.6, "at most 0.5"),
        ("guidedmix_paper", "method.mix.lambda_max", 0, "more than 0"),
        ("guidedmix_paper", "method.labeled_mixed_weight", 0, "expected more"),
        ("guidedmix_paper", "method.labeled_decoupled_weight", 1.0, "expected 0"),
        ("guidedmix_paper", "method.pairing.alignment_weight", 0, "untrained classifier"),
        ("guidedmix_paper", "method.unlabeled.loss", "mse", "target: soft"),
        ("guidedmix_paper", "method.unlabeled.loss", "kl", "target: soft"),
        ("guidedmix_paper", "method.decouple.subtract", "truth", "kind: probability"),
        ("guidedmix_official", "method.student_view", "strong", "plain_teaches has weak"),
        ("guidedmix_official", "method.ema", 0.9, "use null"),
        ("guidedmix_official", "method.decouple.kind", "probability", "logit_sub or logit"),
        ("guidedmix_official", "method.mix.level", "none", "no mixed branch"),
    ],
)
def test_a_contradiction_names_its_field_and_the_cure(preset: str, path: str, value: object, cure: str) -> None:
    with pytest.raises(ConfigError, match=rf"(?s){path}.*{cure}"):
        run_of(preset, {path: value})


def test_a_focal_loss_needs_a_class() -> None:
    with pytest.raises(ConfigError, match=r"method.unlabeled.loss=focal: .*target: hard"):
        run_of("guidedmix_official", {"method.pseudo.target": "soft"})


def test_a_level_the_segmentor_does_not_have_is_refused() -> None:
    unet = {"segmentor.name": "unet", "segmentor.backbone.name": "tiny", "method.mix.level": "aspp"}
    with pytest.raises(
        ConfigError, match=r"method.mix.level=aspp: segmentor 'unet' has no such tap; it has c5, context"
    ):
        run_of("guidedmix_paper", unet)


def test_the_papers_preset_is_the_default() -> None:
    assert run_of("guidedmix_paper").method == GuidedMix()


@pytest.mark.parametrize("segmentor", names("segmentors"))
def test_a_second_head_and_mitrans_fit_every_segmentor(segmentor: str) -> None:
    small = {"segmentor.name": segmentor, "segmentor.backbone.name": "tiny", "segmentor.backbone.width": 4}
    config = run_of("guidedmix_paper", {**small, "method.head_mix": "separate"})
    assert losses_of(config, networks(config)).total().isfinite()


@pytest.mark.parametrize("level", ["image", "c5", "aspp"])
def test_mitrans_stands_before_the_bottleneck_at_every_level(level: str) -> None:
    config = run_of("guidedmix_paper", {"method.mix.level": level, "method.mitrans.where": "pre_bottleneck"})
    nets = networks(config)
    before = losses_of(config, nets).terms["labeled_mixed"]
    nets.mitrans.blocks[0].gamma.data.fill_(0.5)
    assert nets.mitrans.blocks[0].block.first[0].in_channels == nets.student.channels["aspp"]
    assert losses_of(config, nets).terms["labeled_mixed"] != before


def test_without_mixing_the_plain_prediction_teaches() -> None:
    config = without_normalization(run_of("guidedmix_paper", {**NO_MIXING, "method.student_view": "strong"}))
    nets, batch = networks(config), some_batch()
    weak, strong = nets.student(batch.unlabeled.weak), nets.student(batch.unlabeled.strong[0])
    target = weak.argmax(1).masked_fill(~batch.unlabeled.valid, 255)
    expected = F.cross_entropy(strong, target, ignore_index=255, reduction="sum") / target.numel()
    assert_close(losses_of(config, nets, batch).terms["unlabeled"], expected)


def test_without_mixing_nothing_of_the_mixed_branch_is_built() -> None:
    config = run_of("guidedmix_paper", {**NO_MIXING, "method.head_mix": "separate"})
    assert all(name.startswith("student") for name in networks(config).state_dict())


def test_the_cutmix_view_carries_its_pseudo_mask_along() -> None:
    changes = {
        **NO_MIXING,
        "method.student_view": "cutmix",
        "method.cutmix.probability": 1.0,
        "method.cutmix.area": [0.3, 0.3],
    }
    config = without_normalization(run_of("guidedmix_paper", changes))
    nets, batch = networks(config), some_batch()
    region = cutmix_boxes(At(0, LATE, STEPS).generator("cutmix"), 4, (32, 40), config.method.cutmix)
    strong, valid = batch.unlabeled.strong[0], batch.unlabeled.valid
    label = nets.student(batch.unlabeled.weak).argmax(1).masked_fill(~valid, 255)
    partner = [1, 2, 3, 0]
    view = torch.where(region.unsqueeze(1), strong[partner], strong)
    target = torch.where(region, label[partner], label)
    expected = F.cross_entropy(nets.student(view), target, ignore_index=255, reduction="sum") / target.numel()
    assert_close(losses_of(config, nets, batch).terms["unlabeled"], expected)


@pytest.mark.parametrize("resolution", ["image", "logits"])
def test_padding_is_taught_only_if_kept(resolution: str) -> None:
    changes = {**RANDOM_PAIRS, "method.pseudo.threshold": 0.0, "method.unlabeled.resolution": resolution}
    ignoring, keeping = (
        run_of("guidedmix_paper", {**changes, "method.pseudo.keep_padding": keep}) for keep in (False, True)
    )
    kept = [losses_of(config, networks(config)).metrics["kept"].item() for config in (ignoring, keeping)]
    assert kept == pytest.approx([{"image": 35 / 40, "logits": 4 / 5}[resolution], 1.0])  # 5 columns of 40, 1 of 5


def test_the_labeled_counterpart_is_a_term_of_its_own() -> None:
    config = run_of("guidedmix_official", {"method.labeled_decoupled_weight": 10.0})
    losses = losses_of(config, networks(config))
    assert losses.weights["labeled_decoupled"] == 10.0
    assert losses.terms["labeled_decoupled"] > 0


def test_a_step_tells_lambda_gamma_and_what_was_kept() -> None:
    config = run_of("guidedmix_paper")
    metrics = losses_of(config, networks(config)).metrics
    assert metrics.keys() == {"kept", "leak", "lambda", "gamma"}
    assert 0 <= metrics["lambda"] < 0.2
    assert metrics["gamma"] == 0
    assert not any(value.requires_grad for value in metrics.values())
