"""Opponents in one backward pass: the judged don't train the judge, and the judge doesn't train the judged."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import Parameter


def judge(discriminator: nn.Module, *inputs: Tensor) -> Tensor:
    """What the discriminator says, its weights being constants: gradients lead to the inputs alone.

    To train the discriminator itself, call it with detached inputs. Dropout of its own draws from the global generator;
    put both calls under `At.ambient`, so that they leave the student's draws untouched.
    """
    constants = {name: weight.detach() for name, weight in discriminator.named_parameters()}
    return functional_call(discriminator, constants, inputs)


def discriminator_optimizer(weights: Iterable[Parameter], lr: float, betas: tuple[float, float]) -> torch.optim.Adam:
    """Adam with a constant learning rate: without `initial_lr` no schedule scales it."""
    weights = list(weights)
    return torch.optim.Adam(weights, lr, betas=betas, fused=all(weight.is_cuda for weight in weights))
