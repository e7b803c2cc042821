"""From a configuration to the modules of its run, each on its own random stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from guidedmix_core.config import RunConfig
from guidedmix_core.methods import Made
from guidedmix_core.rng import ambient
from guidedmix_core.segmentors import SegmentationNetwork, Segmentor


def build_networks(config: RunConfig, num_classes: int, *, pretrained: bool = True) -> nn.Module:
    """All modules of a run, each initialized on its own stream. Without pretrained weights where a checkpoint brings
    them."""
    builder = Builder(config.seed, config.segmentor, num_classes, pretrained, config.data.classes().names)
    return config.method.networks(builder)


@dataclass(frozen=True)
class Builder:
    """Builds each module on the stream of its purpose (see `methods.Build`)."""

    seed: int
    config: Segmentor
    num_classes: int
    pretrained: bool
    class_names: tuple[str, ...]

    def segmentor(self, purpose: str) -> SegmentationNetwork:
        with ambient(self.seed, "init", purpose):
            network = self.config.build(self.num_classes)
        if self.pretrained:
            self.config.backbone.load_weights(network.backbone)
        return network

    def module(self, purpose: str, make: Callable[[], Made]) -> Made:
        with ambient(self.seed, "init", purpose):
            return make()
