"""RRN: what discriminators are shown, what is believed, and who learns from whom."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from guidedmix_core.config import RunConfig
from guidedmix_core.errors import ConfigError
from guidedmix_core.modules.discriminator import MaskDiscriminator
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
from tests.runs import small_run

ALL = {"method.threshold": 0.0}
NONE = {"method.threshold": 1.0}
NO_TERMS = {
    "method.feature_matching_weight": 0,
    "method.local_selection_weight": 0,
    "method.dynamic_region_weight": 0,
}
EXACT = {"method.dropout": 0.0}
ADDED = {"feature_matching", "local_selection", "dynamic_region", "discriminator"}


def exact_run(changes: dict[str, object]) -> RunConfig:
    """Without dropout of the discriminators, and without normalization."""
    return without_normalization(run_of("rrn", {**EXACT, **changes}))


def rivals(config: RunConfig) -> nn.Module:
    """Networks whose discriminators differ strongly in what they take for real."""
    nets = networks(config)
    with torch.no_grad():
        for net, bias in zip(nets.discriminators, (20.0, -20.0), strict=True):
            net.verdict.bias.fill_(bias)
    return nets


def own_entropy(logits: Tensor, valid: Tensor) -> Tensor:
    return F.cross_entropy(logits, logits.argmax(1).masked_fill(~valid, 255), ignore_index=255)


def shown_to_discriminators(monkeypatch: pytest.MonkeyPatch, config: RunConfig) -> list[Tensor]:
    """What a step shows, in order: to the first, branch 0 and labels; to the second, branch 0; and so on."""
    seen: list[Tensor] = []
    forward = MaskDiscriminator.forward
    monkeypatch.setattr(MaskDiscriminator, "forward", lambda net, shown: seen.append(shown) or forward(net, shown))
    losses_of(config, networks(config))
    return seen


def test_the_terms_are_the_formulas() -> None:
    config = exact_run(ALL)
    nets, batch, at = networks(config), some_batch(), At(0, LATE, STEPS)
    lesson = config.method.lesson(batch, at)
    onehot = torch.stack([(batch.mask == k).float() for k in range(NUM_CLASSES)], 1)
    real = torch.cat([onehot, batch.image], 1)
    expected = dict.fromkeys(ADDED, torch.tensor(0.0))
    for branch, net in zip(nets.branches, nets.discriminators, strict=True):
        logits = branch(lesson.image)
        fake = torch.cat([logits.softmax(1), lesson.image], 1)
        (of_real, phi_real), (of_fake, phi_fake) = net(real), net(fake)
        expected["feature_matching"] = expected["feature_matching"] + (phi_real.mean(0) - phi_fake.mean(0)).abs().mean()
        for name in ("local_selection", "dynamic_region"):
            expected[name] = expected[name] + own_entropy(logits, lesson.valid)
        bce = F.binary_cross_entropy(of_fake.sigmoid(), torch.zeros_like(of_fake))
        bce = bce + F.binary_cross_entropy(of_real.sigmoid(), torch.ones_like(of_real))
        expected["discriminator"] = expected["discriminator"] + bce / 2
    losses = losses_of(config, nets, batch)
    assert_close({name: losses.terms[name] for name in ADDED}, expected)
    assert {name: losses.weights[name] for name in ADDED} == {
        "feature_matching": 0.1,
        "local_selection": 1.0,
        "dynamic_region": 1.0,
        "discriminator": 1.0,
    }


def test_without_its_terms_it_is_cps_bit_by_bit() -> None:
    dropout = {"segmentor.dropout": 0.3}
    trained, cps = train_steps(run_of("rrn", {**NO_TERMS, **dropout})), train_steps(run_of("cps", dropout))
    expected = cps.state_dict()
    assert trained.state_dict().keys() == expected.keys()
    assert all(torch.equal(expected[name], value) for name, value in trained.state_dict().items())


def test_discriminators_that_believe_nothing_change_nothing() -> None:
    """They are trained and draw dropout of their own, and both branches remain those of CPS, bit by bit."""
    dropout = {"segmentor.dropout": 0.3}
    alone = train_steps(run_of("rrn", {**NONE, **dropout, "method.feature_matching_weight": 0}))
    expected = train_steps(run_of("cps", dropout)).state_dict()
    assert all(torch.equal(alone.state_dict()[name], value) for name, value in expected.items())


def test_nobody_trains_an_opponent() -> None:
    config = run_of("rrn", ALL)
    nets = networks(config)
    terms = losses_of(config, nets).terms
    discriminators = {name for name, _ in nets.named_parameters() if name.startswith("discriminators")}
    assert reached(terms["discriminator"], nets) == discriminators
    for name in terms.keys() - {"discriminator"}:
        assert {part.split(".")[0] for part in reached(terms[name], nets)} == {"student", "peer"}


def test_what_nobody_believes_costs_exactly_nothing() -> None:
    config = run_of("rrn", NONE)
    nets = networks(config)
    losses = losses_of(config, nets)
    for name in ("local_selection", "dynamic_region"):
        assert losses.terms[name] == 0
        assert reached(losses.terms[name], nets) == set()
    assert losses.metrics["selected"] == losses.metrics["selected_by_other"] == 0


def test_one_discriminator_selects_its_own_branch_and_the_other_asks_it_too() -> None:
    config = exact_run({})
    nets, batch = rivals(config), some_batch()
    lesson = config.method.lesson(batch, At(0, LATE, STEPS))
    first, second = (own_entropy(branch(lesson.image), lesson.valid) for branch in nets.branches)
    losses = losses_of(config, nets, batch)
    assert not torch.isclose(first, second)
    assert_close(losses.terms["local_selection"], first)  # the first believes its own branch
    assert_close(losses.terms["dynamic_region"], second)  # and the other's
    assert_close(losses.metrics["selected"], lesson.valid.float().mean() / 2)


def test_the_branches_may_be_exchanged_with_their_discriminators() -> None:
    config = exact_run(ALL)
    nets, other = networks(config), networks(config)
    other.student, other.peer = other.peer, other.student
    other.discriminators = nn.ModuleList(reversed(other.discriminators))
    assert_close(losses_of(config, other).total(), losses_of(config, nets).total())


@pytest.mark.parametrize("start", [0.5, 5])
def test_self_training_begins_at_a_share_of_the_run_or_at_a_step(start: float) -> None:
    config = run_of("rrn", {"method.start": start})
    nets = networks(config)
    assert losses_of(config, nets, step=4).terms.keys() == {"supervised", "cps", "feature_matching", "discriminator"}
    assert losses_of(config, nets, step=5).terms.keys() >= ADDED


def test_a_share_above_the_run_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"method.start=1.5: expected a step \(an integer\) or a share"):
        run_of("rrn", {"method.start": 1.5})


def test_a_discriminator_is_shown_probabilities_or_labels_beside_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    config, batch = run_of("rrn"), some_batch()
    image = config.method.lesson(batch, At(0, LATE, STEPS)).image
    fake, real, *_ = shown_to_discriminators(monkeypatch, config)
    assert torch.equal(fake[:, NUM_CLASSES:], image)
    assert_close(fake[:, :NUM_CLASSES].sum(1), torch.ones(4, 32, 40))
    assert torch.equal(real[:, NUM_CLASSES:], batch.image)
    assert torch.equal(real[:, :NUM_CLASSES].sum(1), (batch.mask != 255).float())
    assert torch.equal(real[:, :NUM_CLASSES].argmax(1)[batch.mask != 255], batch.mask[batch.mask != 255])


def test_the_released_image_is_stretched_over_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    fake, real, *_ = shown_to_discriminators(monkeypatch, run_of("rrn", {"method.shown_image": "minmax_batch"}))
    for shown in (fake, real):
        assert (shown[:, NUM_CLASSES:].min(), shown[:, NUM_CLASSES:].max()) == (0, 1)
        assert len(set(shown[:, NUM_CLASSES:].amax((1, 2, 3)).tolist())) > 1


def test_an_image_of_one_color_can_be_shown() -> None:
    config, batch = run_of("rrn", {"method.shown_image": "minmax_batch"}), some_batch()
    batch = replace(batch, image=torch.full_like(batch.image, 0.5))
    assert losses_of(config, networks(config), batch).total().isfinite()


@pytest.mark.parametrize(("mode", "draws"), [("train", True), ("eval", False)])
def test_dropout_while_judging_is_a_choice(mode: str, draws: bool) -> None:
    config = without_normalization(run_of("rrn", {"method.score_mode": mode}))
    nets = networks(config)
    with_dropout = losses_of(config, nets).terms["feature_matching"]
    for module in nets.discriminators.modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0
    without = losses_of(config, nets).terms["feature_matching"]
    assert torch.equal(with_dropout, without) is not draws
    assert all(module.training for module in nets.modules())


def test_regions_are_believed_one_by_one() -> None:
    config = exact_run({"method.granularity": "region", "method.threshold": 0.5})
    nets, batch = networks(config), some_batch()
    lesson = config.method.lesson(batch, At(0, LATE, STEPS))
    expected, shares = torch.tensor(0.0), []
    for branch, net in zip(nets.branches, nets.discriminators, strict=True):
        logits = branch(lesson.image)
        shown = torch.cat([logits.softmax(1), lesson.image], 1)
        with torch.no_grad():
            net.verdict.bias -= net(shown)[0].mean()  # so that it believes some regions and others not
        verdict = net(shown)[0].squeeze(1)
        believed = F.interpolate((verdict > 0).float().unsqueeze(1), (32, 40), mode="nearest-exact").squeeze(1) > 0
        expected = expected + own_entropy(logits, lesson.valid & believed)
        shares.append((lesson.valid & believed).float().mean())
        assert 0 < believed.float().mean() < 1
    losses = losses_of(config, nets, batch)
    assert verdict.shape == (4, 2, 2)
    assert_close(losses.terms["local_selection"], expected)
    assert_close(losses.metrics["selected"], torch.stack(shares).mean())


@pytest.mark.parametrize(("crop", "why"), [((319, 512), "19x32"), ((512, 640), "32x40")])
def test_a_crop_that_the_released_pool_can_not_read_is_refused(crop: tuple[int, int], why: str) -> None:
    changes = {"method.name": "rrn", "method.pool": "released", "augment.crop": list(crop)}
    with pytest.raises(
        ConfigError, match=rf"augment.crop=\[{crop[0]}, {crop[1]}\]: .*{why}.* use method.pool: adaptive"
    ):
        small_run(changes)
    small_run({**changes, **NO_TERMS})
    small_run({**changes, "augment.crop": [320, 639]})


def test_the_result_is_the_mean_of_both_branches() -> None:
    config, nets = run_of("rrn"), networks(run_of("rrn")).eval()
    image = some_batch().image
    assert_close(config.method.predictor(nets)(image), (nets.student(image) + nets.peer(image)) / 2)


def test_each_network_has_an_optimizer_of_its_own() -> None:
    config = run_of("rrn")
    players = config.method.players(networks(config), config.optim)
    assert players.keys() == {"student", "peer", "student_discriminator", "peer_discriminator"}
