"""Learning rates at their fixed points."""

from __future__ import annotations

import pytest

from guidedmix_core.schedules import lr_factor, ramp
from guidedmix_core.sections import Optim


def test_poly_is_mmcvs_formula() -> None:
    optim = Optim(lr=0.01, schedule="poly", power=0.9, min_lr=1e-4)
    assert lr_factor(optim, 5000, 20000) * 0.01 == pytest.approx((0.01 - 1e-4) * 0.75**0.9 + 1e-4)


@pytest.mark.parametrize("schedule", ["poly", "cosine"])
def test_a_schedule_ends_at_its_floor(schedule: str) -> None:
    assert lr_factor(Optim(lr=0.1, schedule=schedule, min_lr=0.01), 100, 100) == pytest.approx(0.1)


def test_cosine_is_half_way_at_half_time() -> None:
    assert lr_factor(Optim(schedule="cosine"), 50, 100) == pytest.approx(0.5)


def test_the_warm_up_rises_in_equal_steps() -> None:
    optim = Optim(schedule="constant", warmup_steps=3)
    assert [lr_factor(optim, step, 10) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_the_sigmoid_ramp_is_that_of_temporal_ensembling() -> None:
    assert ramp(0.5, "sigmoid") == pytest.approx(0.2865, abs=1e-4)
    assert (ramp(0.0, "sigmoid"), ramp(1.0, "sigmoid")) == (0.0, 1.0)
