"""A step of a method never asks the device for a value: on a GPU each such question makes the host wait."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from guidedmix_core.rng import At
from tests.invariants.steps import LATE, STEPS, losses_of, networks, run_of, some_batch

CONTEXT = {"pcr": {"method.prototypes.tap": "context"}, "u2pl": {"method.contrast.tap": "context"}}
VARIANTS = [
    ("mean_teacher", {}),
    ("pcr", {}),
    ("pcr", {"method.filter": "entropy", "method.prototypes.update_where": "confident_and_agree"}),
    ("u2pl", {}),
    ("u2pl", {"method.contrast.rule": "released"}),
]


class Questions(TorchDispatchMode):
    """Notes the operations whose result, or its size, the host must know."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        indices = args[1] if name in ("index", "index_put", "index_put_", "_unsafe_index") else []
        if name in ("_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique2") or any(
            isinstance(index, Tensor) and index.dtype == torch.bool for index in indices
        ):
            self.asked.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("preset", "changes"), VARIANTS)
def test_a_step_asks_for_no_value(preset: str, changes: dict[str, object]) -> None:
    config = run_of(preset, {**CONTEXT.get(preset, {}), **changes})
    nets, batch = networks(config), some_batch()
    with Questions() as questions:
        losses_of(config, nets, batch).total().backward()
        with torch.no_grad():
            config.method.after_step(nets, At(config.seed, LATE, STEPS))
    assert questions.asked == []


def test_questions_are_noticed() -> None:
    values = torch.arange(3.0)
    with Questions() as questions:
        float(values.sum())
        values[values > 1]
        bool(values[0] > 1)
        values.nonzero()
    assert len(questions.asked) >= 4
