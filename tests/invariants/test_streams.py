"""Lambda and pairs are functions of the step: the same after a resume, in every arm, and on every worker."""

from __future__ import annotations

import pytest
import torch

from guidedmix_core.batch import Unlabeled
from guidedmix_core.methods import guidedmix
from guidedmix_core.mixing import draw_lambda
from guidedmix_core.pairing import choose_guides
from tests.invariants.steps import RANDOM_PAIRS, losses_of, networks, run_of, some_batch

STEPS = range(2, 7)


def drawn(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], steps: range = STEPS, part: int = 0
) -> list[tuple[float, list[int]]]:
    """Lambda and guides of each step."""
    lambdas, guides = [], []
    monkeypatch.setattr(guidedmix, "draw_lambda", lambda *key: lambdas.append(draw_lambda(*key)) or lambdas[-1])
    monkeypatch.setattr(
        guidedmix,
        "choose_guides",
        lambda *key, one_to_one: guides.append(choose_guides(*key, one_to_one=one_to_one)) or guides[-1],
    )
    config = run_of("guidedmix_paper", {**RANDOM_PAIRS, **changes})
    nets = networks(config)
    for step in steps:
        losses_of(config, nets, step=step, part=part)
    return list(zip(lambdas, [guide.tolist() for guide in guides], strict=True))


def test_a_resumed_run_draws_what_the_unbroken_one_drew(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(monkeypatch, {}, range(5, 7)) == drawn(monkeypatch, {})[3:]


@pytest.mark.parametrize(
    "other",
    [{"method.mitrans.depth": 0}, {"method.student_view": "cutmix"}, {"method.mix.level": "c5"}, {"method.ema": 0.9}],
)
def test_arms_of_an_ablation_draw_alike(monkeypatch: pytest.MonkeyPatch, other: dict[str, object]) -> None:
    assert drawn(monkeypatch, other) == drawn(monkeypatch, {})


def test_the_measure_of_similarity_does_not_change_lambda(monkeypatch: pytest.MonkeyPatch) -> None:
    lambdas = [
        [lam for lam, _ in drawn(monkeypatch, {"method.pairing.mode": mode})] for mode in ("random", "feature_cos")
    ]
    assert lambdas[0] == lambdas[1]
    assert len(set(lambdas[0])) == len(STEPS)


def test_lambda_is_one_for_the_whole_step_and_pairs_are_drawn_in_each_part(monkeypatch: pytest.MonkeyPatch) -> None:
    lambdas, guides = zip(*(drawn(monkeypatch, {}, range(3, 4), part)[0] for part in range(3)), strict=True)
    assert len(set(lambdas)) == 1
    assert len({tuple(guide) for guide in guides}) > 1


def test_an_unlabeled_image_has_no_mask_to_leak() -> None:
    """`pseudo` is what a network said of it, and only there if a method asks for it."""
    assert set(Unlabeled.__dataclass_fields__) == {"weak", "strong", "valid", "pseudo"}
    assert {name for name, value in vars(some_batch()).items() if isinstance(value, torch.Tensor)} == {"image", "mask"}
