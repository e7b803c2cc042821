"""Parameter groups and the optimizers over them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from guidedmix_core.sections import Optim


def backbone_and_head(nets: nn.Module, optim: Optim) -> list[dict[str, Any]]:
    """The trained parameters in two groups; a backbone is whatever lies under a module named `backbone`."""
    trained = [(name, parameter) for name, parameter in nets.named_parameters() if parameter.requires_grad]
    backbone = [parameter for name, parameter in trained if ".backbone." in f".{name}"]
    head = [parameter for name, parameter in trained if ".backbone." not in f".{name}"]
    groups = ((backbone, optim.lr * optim.backbone_lr_factor), (head, optim.lr))
    return [{"params": parameters, "lr": lr, "initial_lr": lr} for parameters, lr in groups if parameters]


def make_optimizer(optim: Optim, groups: list[dict[str, Any]]) -> Optimizer:
    """The configured optimizer, fused on CUDA. Each group carries its `initial_lr`, which the schedule scales."""
    fused = all(parameter.is_cuda for group in groups for parameter in group["params"])
    if optim.optimizer == "sgd":
        return torch.optim.SGD(groups, optim.lr, momentum=optim.momentum, weight_decay=optim.weight_decay, fused=fused)
    return torch.optim.AdamW(
        groups, optim.lr, betas=(optim.momentum, 0.999), weight_decay=optim.weight_decay, fused=fused
    )
