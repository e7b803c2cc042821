"""PCR: the prototype predictor, how its prototypes move, and that without it nothing of it is left."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from guidedmix_core.batch import IGNORE, Batch
from guidedmix_core.entropy import entropy
from guidedmix_core.errors import ConfigError
from guidedmix_core.methods._cutmix_teacher import taught_loss
from guidedmix_core.mixing import cutmix_boxes
from guidedmix_core.points import draw_points
from guidedmix_core.prototypes import PrototypeBank
from guidedmix_core.rng import At, generator
from guidedmix_core.segmentors import resize
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

HALVES = ("labeled", "unlabeled")
TEMPERATURE = 0.1
SMALL = {"method.prototypes.tap": "context", "method.prototypes.grid": 8, "method.prototypes.init_pixels": 100}
ALL_PIXELS = {"method.prototypes.init_pixels": 5000}
PLAIN = {**SMALL, "method.mixer": "none", "method.threshold": 0.0}
OFF = {**SMALL, "method.prototype_labeled_weight": 0, "method.prototype_unlabeled_weight": 0}


def some_bank(num_each: int = 3) -> PrototypeBank:
    """Of five classes in seven dimensions, of all lengths, all of them taking part."""
    bank = PrototypeBank(NUM_CLASSES, num_each, 7)
    bank.vectors.copy_(4 * torch.randn(bank.vectors.shape, generator=generator("test", "bank")))
    bank.initialized.fill_(True)
    return bank


def some_features(key: str = "features") -> Tensor:
    return torch.randn(2, 7, 6, 5, generator=generator("test", key))


def some_labels() -> Tensor:
    return torch.randint(0, NUM_CLASSES, (2, 6, 5), generator=generator("test", "labels"))


def predicted(bank: PrototypeBank, feature: Tensor) -> Tensor:
    return bank.logits(bank.cosines(feature), TEMPERATURE)


def begun(config, nets, batch: Batch | None = None):
    """The networks with prototypes that began from a batch."""
    batch = batch or some_batch()
    config.method.prepare(nets, iter([Batch(batch.image, batch.mask)]), At(config.seed, 0, STEPS))
    return nets


def test_logits_lie_between_the_inverse_temperatures() -> None:
    logits = predicted(some_bank(), some_features())
    assert logits.abs().max() <= 10 + 1e-5


def test_logits_do_not_know_lengths() -> None:
    bank, feature = some_bank(), some_features()
    logits = predicted(bank, feature)
    bank.vectors.mul_(torch.rand(NUM_CLASSES, 3, 1, generator=generator("test")) + 0.1)
    assert_close(predicted(bank, 5 * feature), logits)


def test_the_order_of_a_classs_prototypes_does_not_matter() -> None:
    bank, feature = some_bank(), some_features()
    logits = predicted(bank, feature)
    bank.vectors.copy_(bank.vectors[:, [2, 0, 1]])
    assert_close(predicted(bank, feature), logits)


def test_one_prototype_a_class_is_a_cosine_classifier() -> None:
    bank, feature = some_bank(num_each=1), some_features()
    expected = [F.cosine_similarity(feature, vector.view(1, -1, 1, 1)) for vector in bank.vectors[:, 0]]
    assert_close(predicted(bank, feature), torch.stack(expected, 1) / TEMPERATURE)


def test_a_feature_that_is_a_prototype_is_of_its_class() -> None:
    bank = some_bank()
    logits = predicted(bank, bank.vectors[3, 1].view(1, 7, 1, 1))
    assert logits.argmax(1) == 3
    assert_close(logits[0, 3, 0, 0], torch.tensor(10.0))


def test_the_gradient_leads_to_the_feature_through_the_nearest_prototype_alone() -> None:
    bank, feature = some_bank(), some_features()[:1, :, :1, :1].requires_grad_()
    cosines = bank.cosines(feature)
    (gradient,) = torch.autograd.grad(bank.logits(cosines, TEMPERATURE).sum(), feature)
    winners = bank.vectors[torch.arange(NUM_CLASSES), cosines[0, :, :, 0, 0].argmax(1)]
    (expected,) = torch.autograd.grad(
        sum(F.cosine_similarity(feature, winner.view(1, -1, 1, 1)).sum() / TEMPERATURE for winner in winners), feature
    )
    assert_close(gradient, expected)
    assert list(bank.parameters()) == []


def test_a_prototype_moves_to_the_mean_of_its_points_and_others_stay() -> None:
    bank, feature, label = some_bank(), some_features(), some_labels()
    counted = torch.rand(2, 6, 5, generator=generator("test", "counted")) < 0.3
    before, cosines = bank.vectors.clone(), bank.cosines(feature)
    bank.assign(feature, cosines, label, counted)
    bank.update(0.99)
    rows, own = feature.permute(0, 2, 3, 1)[counted], label[counted]
    nearest = (F.normalize(rows, dim=1).unsqueeze(1) * F.normalize(before[own], dim=2)).sum(2).argmax(1)
    moved = 0
    for k in range(NUM_CLASSES):
        for m in range(3):
            mine = (own == k) & (nearest == m)
            if mine.any():
                assert_close(bank.vectors[k, m] - before[k, m], 0.01 * (rows[mine].mean(0) - before[k, m]))
                moved += 1
            else:
                assert torch.equal(bank.vectors[k, m], before[k, m])
    assert 0 < moved < NUM_CLASSES * 3


def test_points_that_do_not_count_have_no_influence() -> None:
    label = some_labels()
    counted = label != 2
    banks = [some_bank(), some_bank()]
    for bank, other in zip(banks, (0.0, 100.0), strict=True):
        feature = torch.where(counted.unsqueeze(1), some_features(), other)
        bank.assign(feature, bank.cosines(feature), label, counted)
        bank.update(0.9)
    assert torch.equal(banks[0].vectors, banks[1].vectors)
    assert torch.equal(banks[0].vectors[2], some_bank().vectors[2])


def test_parts_of_a_batch_move_prototypes_as_the_whole_does() -> None:
    feature, label = some_features(), some_labels()
    whole, parts = some_bank(), some_bank()
    for bank, batches in ((whole, [slice(0, 2)]), (parts, [slice(0, 1), slice(1, 2)])):
        for part in batches:
            bank.assign(feature[part], bank.cosines(feature[part]), label[part], label[part] >= 0)
        bank.update(0.9)
    assert_close(parts.vectors, whole.vectors)


def test_a_class_that_never_had_a_feature_takes_no_part_until_it_has_one() -> None:
    bank, feature = some_bank(), some_features()
    bank.initialized[2] = False
    assert predicted(bank, feature).softmax(1)[:, 2].eq(0).all()
    only = torch.zeros(2, 6, 5, dtype=torch.bool)
    only[0, 0, 0] = True
    bank.assign(feature, bank.cosines(feature), torch.full((2, 6, 5), 2), only)
    bank.update(0.99)
    assert bank.initialized.all()
    assert bank.vectors[2].eq(feature[0, :, 0, 0]).all(1).sum() == 1


def test_a_bank_without_any_class_gives_a_loss_of_0_and_no_nan() -> None:
    config = run_of("pcr", PLAIN)
    nets = networks(config)
    terms = losses_of(config, nets).terms
    total = terms["prototype_labeled"] + terms["prototype_unlabeled"]
    total.backward()
    assert total == 0
    assert all(p.grad is None or p.grad.eq(0).all() for p in nets.student.parameters())


@pytest.mark.parametrize("align_corners", [False, True])
def test_the_terms_are_the_formulas(align_corners: bool) -> None:
    changes = {"method.threshold": 0.4, "segmentor.align_corners": align_corners}
    config = without_normalization(run_of("pcr", {**PLAIN, **changes}))
    batch = some_batch()
    nets = begun(config, networks(config), batch)
    points = draw_points(At(0, LATE, STEPS).shared("points"), (32, 40), 8)
    pseudo = nets.teacher(batch.unlabeled.weak).softmax(1)
    label, kept = pseudo.argmax(1), (pseudo.amax(1) >= 0.4) & batch.unlabeled.valid
    expected = {}
    for name, image, target in (
        ("labeled", batch.image, batch.mask),
        ("unlabeled", batch.unlabeled.weak, label.masked_fill(~kept, IGNORE)),
    ):
        feature = nets.student.run({"image": image}, until="context")["context"]
        feature = resize(feature, (32, 40), align_corners=align_corners)[:, :, points.row, points.column]
        target = target[:, points.row, points.column]
        logits = predicted(nets.bank, feature)
        loss = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="sum")
        exist = (target != IGNORE) if name == "labeled" else points.of(batch.unlabeled.valid)
        expected[f"prototype_{name}"] = loss / exist.sum()
    assert 0 < points.of(kept).float().mean() < points.of(batch.unlabeled.valid).float().mean()
    losses = losses_of(config, nets, batch)
    assert_close({name: losses.terms[name] for name in expected}, expected)
    assert losses.weights == {"supervised": 1, "unlabeled": 1, "prototype_labeled": 1, "prototype_unlabeled": 1}


@pytest.mark.parametrize(
    "present",
    [{"prototype_labeled"}, {"prototype_unlabeled"}, {"unlabeled", "prototype_labeled"}, {"unlabeled"}, set()],
)
def test_each_term_can_be_absent(present: set[str]) -> None:
    fields = {"unlabeled": "weight"} | {f"prototype_{half}": f"prototype_{half}_weight" for half in HALVES}
    off = {f"method.{field}": 0 for name, field in fields.items() if name not in present}
    config = run_of("pcr", {**PLAIN, **off})
    losses = losses_of(config, begun(config, networks(config)))
    assert losses.terms.keys() == losses.weights.keys() == {"supervised"} | present
    assert all(term > 0 for term in losses.terms.values())


def test_prototype_terms_shape_features_and_not_the_linear_predictor() -> None:
    config = run_of("pcr", PLAIN)
    nets = begun(config, networks(config))
    for name in ("prototype_labeled", "prototype_unlabeled"):
        found = reached(losses_of(config, nets).terms[name], nets)
        assert any(".c5." in weight for weight in found)
        assert not any(".logits." in weight for weight in found)


def test_without_prototype_terms_training_is_the_mean_teachers_bit_by_bit() -> None:
    shared = {
        "segmentor.dropout": 0.3,
        "method.threshold": 0.4,
        "method.strong": False,
        "method.labeled.ohem": 0.7,
        "method.labeled.ohem_min_kept": 500,
        "method.evaluate": "student",
        "method.cutmix": {"area": [0.5, 0.5], "aspect": [0.5, 2.0], "probability": 0.5, "whole_batch": True},
    }
    pcr = train_steps(run_of("pcr", {**OFF, **shared, "method.decay": 0.98}))
    rival = train_steps(run_of("mean_teacher", {**shared, "method.decay": 0.98}))
    assert pcr.state_dict().keys() == rival.state_dict().keys()
    assert [name for name, value in pcr.state_dict().items() if not torch.equal(value, rival.state_dict()[name])] == []


def test_prototypes_leave_every_other_draw_as_it_was() -> None:
    changes = {**SMALL, "segmentor.dropout": 0.3, "method.threshold": 0.0}
    with_bank, without = run_of("pcr", changes), run_of("pcr", {**changes, **OFF})
    one, other = (losses_of(config, networks(config)).terms for config in (with_bank, without))
    assert {name: one[name] for name in other} == other


def test_pseudo_masks_do_not_depend_on_prototypes() -> None:
    config = run_of("pcr", {**SMALL, "method.threshold": 0.4})
    terms, kept = [], []
    for scale in (1.0, 0.0, -1.0):
        nets = begun(config, networks(config))
        nets.bank.vectors.mul_(scale)
        losses = losses_of(config, nets)
        terms.append((losses.terms["supervised"], losses.terms["unlabeled"]))
        kept.append(losses.metrics["kept"])
    assert terms[0] == terms[1] == terms[2]
    assert kept[0] == kept[1] == kept[2]


def test_prototypes_move_after_the_step_and_not_before() -> None:
    config = run_of("pcr", PLAIN)
    nets = begun(config, networks(config))
    before = nets.bank.vectors.clone()
    losses_of(config, nets)
    assert torch.equal(nets.bank.vectors, before)
    with torch.no_grad():
        config.method.after_step(nets, At(0, LATE, STEPS))
    assert not torch.equal(nets.bank.vectors, before)
    assert nets.bank.counts.eq(0).all()


@pytest.mark.parametrize("where", ["nowhere", "all", "confident", "confident_and_agree"])
def test_prototypes_follow_the_points_they_are_told_to(where: str) -> None:
    changes = {**PLAIN, "method.threshold": 0.4, "method.prototypes.update_where": where}
    config = without_normalization(run_of("pcr", changes))
    batch = some_batch()
    nets = begun(config, networks(config), batch)
    losses_of(config, nets, batch)
    points = draw_points(At(0, LATE, STEPS).shared("points"), (32, 40), 8)
    pseudo = nets.teacher(batch.unlabeled.weak).softmax(1)
    exists, kept = points.of(batch.unlabeled.valid), points.of(pseudo.amax(1) >= 0.4)
    features = [
        nets.student.run({"image": image}, until="context")["context"] for image in (batch.image, batch.unlabeled.weak)
    ]
    truth, label = points.of(batch.mask), points.of(pseudo.argmax(1))
    right, agrees = (
        predicted(nets.bank, points.read(feature, align_corners=False)).argmax(1) == target
        for feature, target in zip(features, (truth, label), strict=True)
    )
    expected = {
        "nowhere": 0,
        "all": (truth != IGNORE).sum() + exists.sum(),
        "confident": (truth != IGNORE).sum() + (exists & kept).sum(),
        "confident_and_agree": right.sum() + (exists & kept & agrees).sum(),
    }
    assert nets.bank.counts.sum() == expected[where]


def test_kmeans_prototypes_are_means_of_their_classs_labeled_features() -> None:
    config, batch = run_of("pcr", {**SMALL, "method.prototypes.num_each": 1, **ALL_PIXELS}), some_batch()
    nets = begun(config, networks(config), batch)
    mean = run_of("pcr", {**SMALL, "method.prototypes.init": "class_mean", **ALL_PIXELS})
    by_mean = begun(mean, networks(mean), batch)
    with torch.no_grad():
        feature = nets.student.eval().run({"image": batch.image}, until="context")["context"]
    rows = resize(feature, (32, 40), align_corners=False).permute(0, 2, 3, 1)
    expected = torch.stack([rows[batch.mask == k].mean(0) for k in range(NUM_CLASSES)])
    assert_close(nets.bank.vectors[:, 0], expected, atol=1e-5, rtol=1e-4)
    assert_close(by_mean.bank.vectors[:, 0], expected, atol=1e-5, rtol=1e-4)


def test_random_prototypes_are_as_long_as_features_are() -> None:
    config = run_of("pcr", {**SMALL, "method.prototypes.init": "random"})
    bank = begun(config, networks(config)).bank
    lengths = bank.vectors.norm(dim=2)
    assert_close(lengths, lengths.mean().expand_as(lengths))
    assert bank.initialized.all()
    assert lengths.mean() > 0


def test_a_class_without_labeled_pixels_begins_at_random_and_takes_no_part() -> None:
    batch = some_batch()
    config = run_of("pcr", PLAIN)
    without = Batch(batch.image, batch.mask.masked_fill(batch.mask == 3, IGNORE), batch.unlabeled)
    bank = begun(config, networks(config), without).bank
    assert bank.initialized.tolist() == [True, True, True, False, True]


def test_a_few_pixels_are_drawn_from_all_images() -> None:
    changes = {**SMALL, "method.prototypes.init_pixels": 7, "method.prototypes.num_each": 7}
    config = run_of("pcr", changes)
    batch = some_batch(labeled=2)
    nets = begun(config, networks(config), batch)
    with torch.no_grad():
        feature = nets.student.eval().run({"image": batch.image}, until="context")["context"]
    rows, owner = (
        resize(feature, (32, 40), align_corners=False).permute(0, 2, 3, 1),
        torch.arange(2).view(2, 1, 1).expand(2, 32, 40),
    )
    mine = batch.mask == 1
    image = owner[mine][torch.cdist(nets.bank.vectors[1], rows[mine]).argmin(1)]
    assert image.unique().tolist() == [0, 1]


def test_preparing_leaves_modes_and_statistics_as_they_were() -> None:
    config = run_of("pcr", SMALL)
    nets = networks(config)
    before = {name: value.clone() for name, value in nets.student.state_dict().items()}
    begun(config, nets)
    assert all(module.training for module in nets.modules())
    assert all(torch.equal(before[name], value) for name, value in nets.student.state_dict().items())


def test_the_entropy_filter_drops_a_share_that_falls_to_0() -> None:
    config = run_of("pcr", {**SMALL, "method.filter": "entropy", "method.mixer": "none"})
    nets = networks(config)
    unlabeled = some_batch().unlabeled
    pseudo = config.method.claim(nets, unlabeled.weak, unlabeled.valid)
    for step, share in ((0, 0.2), (5, 0.1), (9, 0.02)):
        kept = config.method.kept(pseudo, At(0, step, STEPS))
        assert kept.sum() / unlabeled.valid.sum() == pytest.approx(1 - share, abs=2e-3)
        assert entropy(pseudo.probability)[kept].max() < entropy(pseudo.probability)[unlabeled.valid & ~kept].min()


def test_what_teaches_is_divided_as_configured() -> None:
    logits, label = torch.randn(2, NUM_CLASSES, 4, 5, generator=generator("test")), some_labels()[:, :4]
    valid = torch.arange(5).expand(2, 4, 5) < 4
    kept = torch.arange(5).expand(2, 4, 5) < 1
    valid_one, selected, scaled = (
        taught_loss(logits, label, kept, valid, divisor) for divisor in ("valid", "selected", "selected_scaled")
    )
    assert_close(selected, F.cross_entropy(logits, label, reduction="none")[kept].mean())
    assert_close(valid_one, selected * 8 / 32)
    assert_close(scaled, selected * 40 / 8)


def test_half_of_each_image_is_its_neighbors_or_none_is() -> None:
    method = run_of("pcr", SMALL).method
    shares = torch.stack(
        [cutmix_boxes(generator("test", i), 4, (32, 40), method.cutmix).float().mean((1, 2)) for i in range(20)]
    )
    assert_close(shares[shares > 0], torch.full_like(shares[shares > 0], 0.5), atol=0.05, rtol=0)
    assert torch.equal(shares > 0, (shares[:, :1] > 0).expand(-1, 4))


def test_a_change_of_one_field_leaves_its_section_as_it_was() -> None:
    method = small_run(
        {"method.name": "pcr", "method.labeled.normalize": "all", "method.cutmix.probability": 1.0}
    ).method
    assert (method.labeled.ohem, method.cutmix.area) == (0.7, (0.5, 0.5))


def test_an_unknown_tap_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"method.prototypes.tap=joined: segmentor 'deeplabv3' has no such tap"):
        run_of("pcr")
