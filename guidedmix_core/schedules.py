"""Numbers that change with the step."""

from __future__ import annotations

import math
from typing import Literal

from guidedmix_core.sections import Optim


def ramp(share: float, shape: Literal["linear", "sigmoid"]) -> float:
    """From 0 at share 0 to 1 at share 1, constant after. The sigmoid is exp(-5 (1 - share)^2) (Laine and Aila, ICLR
    2017)."""
    share = min(max(share, 0.0), 1.0)
    if shape == "linear":
        return share
    return math.exp(-5 * (1 - share) ** 2) if share > 0 else 0.0


def lr_factor(optim: Optim, step: int, steps: int) -> float:
    """The learning rate at `step` as a share of `optim.lr`. Poly: (1 - t/T)^power, as mmcv scales it between lr and
    min_lr."""
    if step < optim.warmup_steps:
        return (step + 1) / (optim.warmup_steps + 1)
    share, floor = step / steps, optim.min_lr / optim.lr
    if optim.schedule == "poly":
        return (1 - floor) * (1 - share) ** optim.power + floor
    if optim.schedule == "cosine":
        return (1 - floor) * (1 + math.cos(math.pi * share)) / 2 + floor
    return 1.0
