"""FixMatch, UniMatch and UniMatch V2: who labels what, and what each term is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from guidedmix_core.batch import Batch
from guidedmix_core.methods.unimatch_v2 import drop_complementary
from guidedmix_core.mixing import cutmix_boxes
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

ALL = {"method.threshold": 0.0, "method.cutmix.probability": 1.0}


def boxes(config, view: int) -> Tensor:
    return cutmix_boxes(At(0, LATE, STEPS).generator(f"cutmix/{view}"), 4, (32, 40), config.method.cutmix)


def expected_strong(nets: nn.Module, config, batch: Batch, view: int, source: Tensor, other: Tensor) -> Tensor:
    """CE of the mixed strong view with the mixed labels; padding, mixed alike, counts nowhere."""
    region, weak, partner = boxes(config, view), batch.unlabeled, batch.partner
    image = torch.where(region.unsqueeze(1), partner.strong[view], weak.strong[view])
    label = torch.where(region, other, source).masked_fill(~torch.where(region, partner.valid, weak.valid), 255)
    return F.cross_entropy(nets.student(image), label, ignore_index=255)


def test_the_terms_of_fixmatch_are_the_formulas() -> None:
    config = without_normalization(run_of("fixmatch", ALL))
    nets, batch = networks(config), some_batch()
    weak, other = (nets.student(part.weak).argmax(1) for part in (batch.unlabeled, batch.partner))
    losses = losses_of(config, nets, batch)
    expected = {
        "supervised": F.cross_entropy(nets.student(batch.image), batch.mask, ignore_index=255),
        "strong_0": expected_strong(nets, config, batch, 0, weak, other),
    }
    assert_close(losses.terms, expected)
    assert losses.weights == {"supervised": 0.5, "strong_0": 0.5}


def test_unimatch_adds_a_second_view_with_a_box_of_its_own() -> None:
    config = without_normalization(run_of("unimatch", ALL))
    nets, batch = networks(config), some_batch()
    weak, other = (nets.student(part.weak).argmax(1) for part in (batch.unlabeled, batch.partner))
    losses = losses_of(config, nets, batch)
    for view in (0, 1):
        assert_close(losses.terms[f"strong_{view}"], expected_strong(nets, config, batch, view, weak, other))
    assert not torch.equal(boxes(config, 0), boxes(config, 1))
    assert losses.weights == {"supervised": 0.5, "feature": 0.25, "strong_0": 0.125, "strong_1": 0.125}


def test_unimatchs_weights_sum_to_one() -> None:
    config = run_of("unimatch")
    assert sum(losses_of(config, networks(config)).weights.values()) == 1


def test_unimatch_without_its_additions_is_fixmatch_bit_by_bit() -> None:
    changes = {**ALL, "segmentor.dropout": 0.3}
    bare = {"method.strong_views": 1, "method.strong_weight": 0.5, "method.feature_weight": 0.0}
    one, other = train_steps(run_of("unimatch", {**changes, **bare})), train_steps(run_of("fixmatch", changes))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_the_partner_is_labeled_in_evaluation_mode() -> None:
    config = run_of("fixmatch", ALL)
    nets = networks(config)
    counter = next(buffer for name, buffer in nets.named_buffers() if name.endswith("num_batches_tracked"))
    losses_of(config, nets)
    assert counter == 2  # the joint pass and the strong views: the partner's labels leave no statistics
    assert nets.student.training


def test_the_feature_term_teaches_the_unmixed_weak_label_on_dropped_channels() -> None:
    changes = {**ALL, "method.strong_weight": 0.0, "method.feature_dropout": 1e-9}
    config = without_normalization(run_of("unimatch", changes))
    nets, batch = networks(config), some_batch()
    logits = nets.student(batch.unlabeled.weak)
    target = logits.argmax(1).masked_fill(~batch.unlabeled.valid, 255)
    losses = losses_of(config, nets, batch)
    assert losses.terms.keys() == {"supervised", "feature"}
    assert_close(losses.terms["feature"], F.cross_entropy(logits, target, ignore_index=255))


def test_nothing_leads_back_through_what_labels() -> None:
    config = without_normalization(run_of("fixmatch", {**ALL, "method.cutmix.probability": 0.0}))
    nets, batch = networks(config), some_batch()
    target = nets.student(batch.unlabeled.weak).argmax(1).masked_fill(~batch.unlabeled.valid, 255)
    by_hand = F.cross_entropy(nets.student(batch.unlabeled.strong[0]), target, ignore_index=255)
    assert_close(gradients(losses_of(config, nets, batch).terms["strong_0"], nets), gradients(by_hand, nets))


def test_the_terms_of_unimatch_v2_are_the_formulas() -> None:
    config = without_normalization(run_of("unimatch_v2", {**ALL, "method.complementary_dropout": False}))
    nets, batch = networks(config), some_batch()
    label, valid = nets.teacher(batch.unlabeled.weak).argmax(1), batch.unlabeled.valid
    losses = losses_of(config, nets, batch)
    for view, strong in enumerate(batch.unlabeled.strong):
        region = boxes(config, view)
        image = torch.where(region.unsqueeze(1), strong.flip(0), strong)
        target = torch.where(region, label.flip(0), label)
        target = target.masked_fill(~torch.where(region, valid.flip(0), valid), 255)
        assert_close(losses.terms[f"strong_{view}"], F.cross_entropy(nets.student(image), target, ignore_index=255))
    assert losses.weights == {"supervised": 0.5, "strong_0": 0.25, "strong_1": 0.25}


def test_complementary_channels_sum_to_both_and_half_of_the_pairs_stay_whole() -> None:
    maps = {"c5": torch.ones(16, 64, 2, 2), "c2": torch.ones(16, 32, 4, 4)}
    dropped = drop_complementary(maps, 0.5, At(0, 0, 1))
    for feature in dropped.values():
        first, second = feature[:8], feature[8:]
        assert_close(first + second, torch.full_like(first, 2.0))
        whole = (first == 1).flatten(1).all(1)
        assert whole.sum() == 4
        assert set(first[~whole].unique().tolist()) == {0.0, 2.0}
    whole = [(feature[:8] == 1).flatten(1).all(1) for feature in dropped.values()]
    assert torch.equal(*whole)  # the same pairs at every map
