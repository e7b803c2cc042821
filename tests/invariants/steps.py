"""One step of a method on a fixed batch, outside the loop: its networks, its losses, its gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from guidedmix_core.batch import Batch, StepLosses, Unlabeled
from guidedmix_core.building import build_networks
from guidedmix_core.config import RunConfig
from guidedmix_core.rng import At, ambient, generator
from guidedmix_core.schema import build, dump
from guidedmix_core.sources import Tree, overlay, override, read_run
from tests.runs import SMALL

NUM_CLASSES = 5
STEPS = 10
LATE = 9
"""A step after every ramp."""

RANDOM_PAIRS = {
    "method.pairing.mode": "random",
    "method.pairing.scope": "batch",
    "method.pairing.alignment_weight": 0,
}


def run_of(preset: str, changes: Mapping[str, Any] | None = None) -> RunConfig:
    """A preset's method in a small run: DeepLabV3 on the tiny backbone."""
    small = override(Tree(SMALL, {}), {"segmentor.name": "deeplabv3"}, "test")
    segmentor = {"name": "deeplabv3", "channels": 8, "dilations": [1, 2], "dropout": 0.0}
    segmentor["backbone"] = {"name": "tiny", "width": 4}
    method = {"method": read_run(preset).values["method"]}
    tree = overlay(overlay(small, Tree({"segmentor": segmentor}, {})), Tree(method, {}))
    return build(override(tree, changes or {}, "test"))


def without_normalization(config: RunConfig) -> RunConfig:
    """Then images of a batch do not influence each other, and neither does the batch."""
    changes = {"segmentor.norm": "none", "segmentor.backbone.norm": "none"}
    return build(override(Tree(dump(config), {}), changes, "test"))


def some_batch(labeled: int = 4, unlabeled: int = 4, size: tuple[int, int] = (32, 40), key: str = "batch") -> Batch:
    """Noise, with some ignored pixels and some padding; two strong views, and a second draw."""
    stream = generator("test", key)
    image, weak, strong = (torch.rand(n, 3, *size, generator=stream) for n in (labeled, unlabeled, unlabeled))
    mask = torch.randint(0, NUM_CLASSES, (labeled, *size), generator=stream)
    mask[:, :3] = 255
    valid = torch.ones(unlabeled, *size, dtype=torch.bool)
    valid[..., -5:] = False
    second, *others = (torch.rand(unlabeled, 3, *size, generator=stream) for _ in range(4))
    there = valid.flip(-1)
    partner = Unlabeled(others[0], (others[1], others[2]), there)
    return Batch(image, mask, Unlabeled(weak, (strong, second), valid), partner)


def networks(config: RunConfig) -> nn.Module:
    """New networks in training mode, with decided classifiers: fresh ones give every class the same probability."""
    nets = build_networks(config, NUM_CLASSES).train()
    with torch.no_grad():
        for name, weight in nets.named_parameters():
            if "stages.logits" in name:
                weight.mul_(100)
    return nets


def freeze_norm(nets: nn.Module) -> nn.Module:
    """BatchNorm as a fixed affine map."""
    for module in nets.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return nets


def losses_of(
    config: RunConfig, nets: nn.Module, batch: Batch | None = None, step: int = LATE, part: int = 0
) -> StepLosses:
    batch = seen_by(config, batch or some_batch())
    with ambient(config.seed, "dropout", step, part):
        return config.method.losses(nets, batch, At(config.seed, step, STEPS, part))


def seen_by(config: RunConfig, batch: Batch) -> Batch:
    """The batch with the views that the method asks for and no others."""
    views = config.method.views()
    strong = [part and replace(part, strong=part.strong[: views.strong]) for part in (batch.unlabeled, batch.partner)]
    return replace(batch, unlabeled=strong[0], partner=strong[1] if views.partner else None)


def gradients(loss: Tensor, nets: nn.Module) -> dict[str, Tensor | None]:
    """Of every parameter that is trained; None where no path leads."""
    trained = {name: p for name, p in nets.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(trained.values()), allow_unused=True, retain_graph=True)
    return dict(zip(trained, found, strict=True))


def reached(loss: Tensor, nets: nn.Module) -> set[str]:
    """The parameters with a gradient that is not zero."""
    return {name for name, grad in gradients(loss, nets).items() if grad is not None and grad.abs().max() > 0}


def train_steps(config: RunConfig, batches: int = 3) -> nn.Module:
    """A few steps of SGD, one batch each."""
    nets = networks(config)
    players = config.method.players(nets, config.optim)
    for step in range(batches):
        for player in players.values():
            player.zero_grad()
        batch = some_batch(key=f"batch {step}")
        losses_of(config, nets, batch, step + STEPS - batches).total().backward()
        for player in players.values():
            player.step()
        with torch.no_grad():
            config.method.after_step(nets, At(config.seed, step + STEPS - batches, STEPS))
    return nets
