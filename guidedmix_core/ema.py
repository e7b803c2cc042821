"""The exponential moving average of a network's weights: the teacher."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

import torch
from torch import nn

Cover = Literal["params", "state"]
Module = TypeVar("Module", bound=nn.Module)


def frozen_copy(module: Module) -> Module:
    """A copy that no optimizer trains."""
    return copy.deepcopy(module).requires_grad_(False)


def ramped(decay: float, step: int) -> float:
    """min(1 - 1/(t+1), decay), as in ClassMix: a copy at step 0, then the plain average until the decay takes over."""
    return min(1 - 1 / (step + 1), decay)


@torch.no_grad()
def update(teacher: nn.Module, student: nn.Module, decay: float, cover: Cover = "state") -> None:
    """`decay` of the teacher and the rest of the student's weights of the same names.

    `params` leaves the buffers to the teacher's own passes; `state` averages them too, and copies those that count.
    """
    weights = dict(student.named_parameters())
    _average([(mean, weights[name]) for name, mean in teacher.named_parameters()], decay)
    if cover == "params":
        return
    buffers = dict(student.named_buffers())
    pairs = [(mean, buffers[name]) for name, mean in teacher.named_buffers()]
    _average([(mean, new) for mean, new in pairs if mean.is_floating_point()], decay)
    for mean, new in pairs:
        if not mean.is_floating_point():
            mean.copy_(new)


@contextmanager
def in_mode(module: nn.Module, *, training: bool) -> Iterator[None]:
    """Training or evaluation mode for a while; each submodule then has its own back."""
    before = [(part, part.training) for part in module.modules()]
    module.train(training)
    try:
        yield
    finally:
        for part, was in before:
            part.training = was


def _average(pairs: list[tuple[torch.Tensor, torch.Tensor]], decay: float) -> None:
    if pairs:
        teacher, student = (list(side) for side in zip(*pairs, strict=True))
        torch._foreach_lerp_(teacher, student, 1 - decay)
