"""Counts and their ratios, against cases counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from guidedmix_core.metrics import (
    BY_CLASS,
    METRICS,
    PseudoQuality,
    class_iou,
    count,
    evaluation_metrics,
    mean_iou,
    pixel_accuracy,
)

TRUTH = torch.tensor([[[0, 0, 1], [1, 255, 2]]])
GUESS = torch.tensor([[[0, 1, 1], [1, 2, 0]]])


def test_counts_are_those_made_by_hand() -> None:
    counts = count(GUESS, TRUTH, 4)
    assert counts.tolist() == [[[1, 1, 1], [2, 1, 0], [0, 0, 1], [0, 0, 0]]]


def test_miou_is_a_ratio_of_sums_over_images() -> None:
    one = np.array([[[1, 1, 0]], [[3, 0, 4]]])
    assert mean_iou(one) == pytest.approx(4 / 9)


def test_a_class_absent_from_both_is_left_out() -> None:
    counts = count(GUESS, TRUTH, 4).numpy()
    assert math.isnan(class_iou(counts)[3])
    assert mean_iou(counts) == pytest.approx((1 / 3 + 2 / 3 + 0) / 3)


def test_ignored_pixels_count_nowhere() -> None:
    assert count(GUESS, torch.full_like(TRUTH, 255), 4).sum() == 0


def test_accuracy_is_over_judged_pixels() -> None:
    assert pixel_accuracy(count(GUESS, TRUTH, 4).numpy()) == pytest.approx(3 / 5)


def test_the_quality_of_pseudo_masks_is_that_counted_by_hand() -> None:
    quality = PseudoQuality(3, torch.device("cpu"))
    kept = torch.tensor([[[True, True, False], [True, True, False]]])
    quality.add(GUESS, kept, TRUTH.clamp(max=2), TRUTH)
    metrics = quality.metrics(("a", "b", "c"))
    assert metrics["pseudo/coverage"] == pytest.approx(3 / 5)
    assert metrics["pseudo/precision"] == pytest.approx(2 / 3)
    assert metrics["pseudo/recall"] == pytest.approx(2 / 5)
    assert metrics["pseudo/target_accuracy"] == pytest.approx(3 / 5)
    assert metrics["pseudo/plain_accuracy"] == 1.0
    assert metrics["pseudo/precision/b"] == pytest.approx(1 / 2)
    assert metrics["pseudo/recall/b"] == pytest.approx(1 / 2)


def test_the_names_of_metrics_are_those_that_are_reported() -> None:
    names = ("a", "b", "c")
    reported = evaluation_metrics(count(GUESS, TRUTH.clamp(max=2), 3).numpy(), names).keys()
    reported |= PseudoQuality(3, torch.device("cpu")).metrics(names).keys()
    assert reported == {*METRICS, *(family + name for family in BY_CLASS for name in names)}
