"""Cross pseudo supervision: who labels what, in which mode, and what the mixed images teach."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from guidedmix_core.backbones.tiny import Tiny
from guidedmix_core.batch import Batch
from guidedmix_core.building import build_networks
from guidedmix_core.mixing import cutmix_boxes
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

NO_MIXING = {"method.mixer": "none"}


def swapped(nets: nn.Module) -> nn.Module:
    nets.student, nets.peer = nets.peer, nets.student
    return nets


def region_of(config: object) -> Tensor:
    return cutmix_boxes(At(0, LATE, STEPS).generator("cutmix"), 4, (32, 40), config.method.cutmix)


def counters(nets: nn.Module) -> set[int]:
    """How often BatchNorm saw a batch in training mode."""
    return {int(buffer) for name, buffer in nets.named_buffers() if name.endswith("num_batches_tracked")}


def supervised(nets: nn.Module, batch: Batch) -> Tensor:
    return sum(F.cross_entropy(branch(batch.image), batch.mask, ignore_index=255) for branch in nets.branches)


def test_with_cutmix_the_terms_are_the_formulas() -> None:
    config = without_normalization(run_of("cps"))
    nets, batch, region = networks(config), some_batch(), region_of(config)
    own, other = batch.unlabeled, batch.partner
    image = torch.where(region.unsqueeze(1), other.weak, own.weak)
    valid = torch.where(region, other.valid, own.valid)
    claims = [  # logits are mixed, then read: as released
        torch.where(region.unsqueeze(1), branch(other.weak), branch(own.weak)).argmax(1).masked_fill(~valid, 255)
        for branch in nets.branches
    ]
    expected = {
        "supervised": supervised(nets, batch),
        "cps": F.cross_entropy(nets.student(image), claims[1], ignore_index=255)
        + F.cross_entropy(nets.peer(image), claims[0], ignore_index=255),
    }
    assert 0 < region.float().mean() < 1
    assert_close(losses_of(config, nets, batch).terms, expected)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_without_cutmix_the_branches_teach_each_other_on_labeled_and_unlabeled_images(mode: str) -> None:
    config = without_normalization(run_of("cps", {**NO_MIXING, "method.claim_mode": mode}))
    nets, batch = networks(config), some_batch()
    images = torch.cat([batch.unlabeled.weak, batch.image])
    valid = torch.cat([batch.unlabeled.valid, torch.ones_like(batch.mask, dtype=torch.bool)])
    first, second = (branch(images) for branch in nets.branches)
    claims = [logits.argmax(1).masked_fill(~valid, 255) for logits in (first, second)]
    expected = F.cross_entropy(first, claims[1], ignore_index=255) + F.cross_entropy(
        second, claims[0], ignore_index=255
    )
    losses = losses_of(config, nets, batch)
    assert_close(losses.terms["cps"], expected)
    assert_close(losses.metrics["agreement"], (first.argmax(1) == second.argmax(1))[valid].float().mean())


@pytest.mark.parametrize("mixer", ["cutmix", "none"])
def test_the_branches_may_be_exchanged(mixer: str) -> None:
    config = run_of("cps", {"method.mixer": mixer})
    assert_close(losses_of(config, swapped(networks(config))).terms, losses_of(config, networks(config)).terms)


def test_equal_branches_teach_only_themselves() -> None:
    config = without_normalization(run_of("cps", NO_MIXING))
    nets, batch = networks(config), some_batch()
    nets.peer.load_state_dict(nets.student.state_dict())
    logits = nets.student(torch.cat([batch.unlabeled.weak, batch.image]))
    valid = torch.cat([batch.unlabeled.valid, torch.ones_like(batch.mask, dtype=torch.bool)])
    losses = losses_of(config, nets, batch)
    assert_close(
        losses.terms["cps"], 2 * F.cross_entropy(logits, logits.argmax(1).masked_fill(~valid, 255), ignore_index=255)
    )
    assert losses.metrics["agreement"] == 1


def test_both_branches_learn_in_bf16_too() -> None:
    """Autocast keeps casts of weights; one made in a pass without gradients must not serve one with them."""
    config = run_of("cps")
    nets = networks(config)
    with torch.autocast("cpu", torch.bfloat16):
        term = losses_of(config, nets).terms["cps"]
    found = reached(term, nets)
    assert {name for name, _ in nets.named_parameters() if name.endswith("weight")} <= found


def test_in_training_mode_labeling_gathers_statistics_too() -> None:
    config = run_of("cps")
    nets = networks(config)
    losses_of(config, nets)
    assert counters(nets) == {4}  # both draws to label, the mixed images, the labeled ones


def test_in_evaluation_mode_labeling_leaves_the_statistics_alone() -> None:
    config = run_of("cps", {"method.claim_mode": "eval"})
    nets = networks(config)
    losses_of(config, nets)
    assert counters(nets) == {2}
    assert all(module.training for module in nets.modules())


def test_without_cutmix_no_pass_is_made_only_to_label() -> None:
    config = run_of("cps", NO_MIXING)
    nets = networks(config)
    losses_of(config, nets)
    assert counters(nets) == {2}


def test_without_weight_each_branch_is_trained_as_if_alone() -> None:
    changes = {"segmentor.dropout": 0.3}
    nets = train_steps(run_of("cps", {"method.weight": 0, **changes}))
    alone = train_steps(run_of("supervised", changes)).state_dict()
    assert all(torch.equal(alone[name], value) for name, value in nets.state_dict().items() if "student" in name)
    assert losses_of(run_of("cps", {"method.weight": 0}), nets).terms.keys() == {"supervised"}


def test_the_branches_share_a_pretrained_backbone_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(self: object, backbone: nn.Module) -> None:
        with torch.no_grad():
            for weight in backbone.parameters():
                weight.fill_(0.1)

    monkeypatch.setattr(Tiny, "load_weights", fill)
    nets = build_networks(run_of("cps"), NUM_CLASSES)
    peer = dict(nets.peer.named_parameters())
    equal = {name for name, weight in nets.student.named_parameters() if torch.equal(weight, peer[name])}
    drawn = {name for name, weight in peer.items() if weight.std() > 0 and ".backbone." not in name}
    assert {name for name in peer if ".backbone." in name} <= equal
    assert drawn
    assert drawn.isdisjoint(equal)


def test_after_a_stage_the_branches_share_its_backbone_and_the_first_alone_has_its_head() -> None:
    config = run_of("cps")
    handed = {name: torch.full_like(weight, 2) for name, weight in networks(config).student.state_dict().items()}
    nets = build_networks(config, NUM_CLASSES, start=handed)
    student, peer = (dict(branch.named_parameters()) for branch in nets.branches)
    assert all((weight == 2).all() for weight in student.values())
    assert {name for name, weight in peer.items() if (weight == 2).all()} == {n for n in peer if ".backbone." in n}


def test_the_result_is_the_first_branch_or_the_mean_of_both() -> None:
    nets, image = networks(run_of("cps")).eval(), some_batch().image
    first, mean = (run_of("cps", {"method.evaluate": which}).method.predictor(nets) for which in ("first", "mean"))
    assert first is nets.student
    assert_close(mean(image), torch.stack([nets.student(image), nets.peer(image)]).mean(0))


def test_each_branch_has_an_optimizer_of_its_own() -> None:
    config = run_of("cps")
    nets = networks(config)
    players = config.method.players(nets, config.optim)
    held = {name: {id(p) for group in player.param_groups for p in group["params"]} for name, player in players.items()}
    assert held == {"student": set(map(id, nets.student.parameters())), "peer": set(map(id, nets.peer.parameters()))}


def test_a_part_of_the_boxes_keeps_what_is_published_of_the_others() -> None:
    box = run_of("cps", {"method.cutmix.num_boxes": 1}).method.cutmix
    assert (box.area, box.aspect, box.num_boxes, box.probability) == ((0.25, 0.5), "fitting", 1, 1.0)


def test_the_telemetry_shows_what_the_peer_teaches_the_student() -> None:
    config = run_of("cps")
    nets, batch = networks(config).eval(), some_batch()
    taught = config.method.taught(nets, batch, At(0, LATE, STEPS))
    assert torch.equal(taught.pseudo.label, nets.peer(batch.unlabeled.weak).argmax(1))
    assert torch.equal(taught.plain, nets.student(batch.unlabeled.weak).argmax(1))
    assert torch.equal(taught.kept, batch.unlabeled.valid)
