"""Opponents in one backward pass: the judged don't train the judge, and the judge doesn't train the judged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import Parameter

from guidedmix_core.components import Config
from guidedmix_core.fields import Tuple

Contest = Literal["bce", "lsgan", "hinge"]
Real = Float[Tensor, "B 1 h w"]
Fake = Float[Tensor, "U 1 h w"]
"""Verdicts on images or their places, before the sigmoid: the greater, the more real."""
Beta = Annotated[float, Field(ge=0, lt=1)]


class Opponent(Config):
    """How a discriminator is trained: by Adam, at a rate that no schedule scales."""

    lr: float = Field(1e-4, gt=0)
    betas: Annotated[tuple[Beta, Beta], Tuple] = Field((0.9, 0.99), description="of Adam")

    def optimizer(self, discriminator: nn.Module) -> torch.optim.Adam:
        return discriminator_optimizer(discriminator.parameters(), self.lr, self.betas)


def judge(discriminator: nn.Module, *inputs: Tensor) -> Any:
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


def tell_apart(real: Real, fake: Fake, contest: Contest = "bce", real_label: float = 1.0) -> Float[Tensor, ""]:
    """What a discriminator descends: the mean of its losses on the real and on the fake.

    A `real_label` below 1 smooths the target on one side; a hinge has no label.
    """
    if contest == "hinge":
        return (F.relu(1 - real.float()).mean() + F.relu(1 + fake.float()).mean()) / 2
    return (_against(real, real_label, contest) + _against(fake, 0.0, contest)) / 2


def deceive(fake: Fake, contest: Contest = "bce") -> Float[Tensor, ""]:
    """What the judged descend: to be taken for real."""
    return -fake.float().mean() if contest == "hinge" else _against(fake, 1.0, contest)


@torch.no_grad()
def judged_right(real: Real, fake: Fake, contest: Contest = "bce") -> Float[Tensor, ""]:
    """The accuracy of a discriminator, real and fake counting alike. 0.5: it can't tell; 1: it has won."""
    boundary = 0.5 if contest == "lsgan" else 0.0
    return ((real > boundary).float().mean() + (fake <= boundary).float().mean()) / 2


def _against(verdicts: Float[Tensor, "N 1 h w"], label: float, contest: Contest) -> Float[Tensor, ""]:
    verdicts = verdicts.float()
    labels = torch.full_like(verdicts, label)
    if contest == "lsgan":
        return F.mse_loss(verdicts, labels)
    return F.binary_cross_entropy_with_logits(verdicts, labels)
