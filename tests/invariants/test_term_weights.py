"""A term of weight 0 is its absence, bit by bit; and what a method adds draws from its own streams."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from guidedmix_core.config import RunConfig
from tests.invariants.steps import (
    RANDOM_PAIRS,
    freeze_norm,
    gradients,
    losses_of,
    networks,
    run_of,
    train_steps,
    without_normalization,
)

WITH_DROPOUT = {"segmentor.dropout": 0.3}
OFF = {
    "mean_teacher": {"method.weight": 0, "method.evaluate": "student"},
    "guidedmix_official": {"method.unlabeled.weight": 0, "method.labeled.normalize": "valid"},
    "guidedmix_paper": {
        "method.unlabeled.weight": 0,
        "method.labeled_mixed_weight": 0,
        "method.mixup_weight": 0,
        "method.pairing.mode": "random",
        "method.pairing.alignment_weight": 0,
    },
}


def assert_same_student(one: nn.Module, other: nn.Module) -> None:
    """Parameters and statistics."""
    expected = other.student.state_dict()
    assert [name for name, tensor in one.student.state_dict().items() if not torch.equal(tensor, expected[name])] == []


def supervised(changes: dict[str, object]) -> RunConfig:
    return run_of("supervised", changes)


@pytest.mark.parametrize("preset", OFF)
def test_without_unlabeled_terms_training_is_supervised_bit_by_bit(preset: str) -> None:
    trained = train_steps(run_of(preset, {**OFF[preset], **WITH_DROPOUT}))
    assert_same_student(trained, train_steps(supervised(WITH_DROPOUT)))


@pytest.mark.parametrize("preset", OFF)
def test_without_unlabeled_terms_no_unlabeled_term_is_computed(preset: str) -> None:
    config = run_of(preset, OFF[preset])
    assert losses_of(config, networks(config)).terms.keys() == {"supervised"}


@pytest.mark.parametrize("normalization", ["frozen", "none"])
@pytest.mark.parametrize("preset", ["guidedmix_official", "guidedmix_paper"])
def test_unlabeled_images_touch_the_supervised_term_only_through_batch_statistics(
    preset: str, normalization: str
) -> None:
    both = []
    for config in (run_of(preset, {"method.labeled.normalize": "valid"}), supervised({})):
        config = without_normalization(config) if normalization == "none" else config
        nets = freeze_norm(networks(config))
        term = losses_of(config, nets).terms["supervised"]
        student = {name: g for name, g in gradients(term, nets).items() if name.startswith("student")}
        both.append((term, {name: g for name, g in student.items() if g is not None}))
    # One pass over eight images rounds like one over four, but need not do so bit by bit.
    torch.testing.assert_close(both[0], both[1], atol=1e-6, rtol=1e-5)


def test_alignment_alone_moves_nothing_of_the_student() -> None:
    changes = {**WITH_DROPOUT, **RANDOM_PAIRS}
    without = train_steps(run_of("guidedmix_paper", changes))
    with_it = train_steps(run_of("guidedmix_paper", {**changes, "method.pairing.alignment_weight": 1.0}))
    assert_same_student(with_it, without)


def test_a_queue_that_is_not_asked_moves_nothing_of_the_student() -> None:
    changes = {**WITH_DROPOUT, **RANDOM_PAIRS, "method.mix.level": "none"}
    batch, queue = (
        train_steps(run_of("guidedmix_paper", {**changes, "method.pairing.scope": scope}))
        for scope in ("batch", "queue")
    )
    assert_same_student(queue, batch)


def test_closed_mitrans_moves_nothing_but_itself() -> None:
    nets = train_steps(
        run_of("guidedmix_paper", {**WITH_DROPOUT, **RANDOM_PAIRS, "method.mitrans.depth": 0}), batches=1
    )
    closed = train_steps(
        run_of("guidedmix_paper", {**WITH_DROPOUT, **RANDOM_PAIRS, "method.mitrans.depth": 1}), batches=1
    )
    assert_same_student(closed, nets)


def test_ramps_begin_without_the_term() -> None:
    config = run_of("guidedmix_paper")
    nets = networks(config)
    assert "unlabeled" not in losses_of(config, nets, step=0).terms
    assert losses_of(config, nets, step=1).weights["unlabeled"] == pytest.approx(1 / 3)
    assert losses_of(config, nets, step=3).weights["unlabeled"] == 1.0


@pytest.mark.parametrize("preset", ["mean_teacher", "guidedmix_official", "guidedmix_paper", "guidedmix"])
def test_a_step_is_a_function_of_its_place(preset: str) -> None:
    config = run_of(preset, WITH_DROPOUT)
    first, again, next_one = (losses_of(config, networks(config), step=step).terms for step in (7, 7, 8))
    assert first == again
    assert first["unlabeled"] != next_one["unlabeled"]
