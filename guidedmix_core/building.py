"""From a configuration to the modules of its run, each on its own random stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from guidedmix_core.config import RunConfig
from guidedmix_core.methods import Made
from guidedmix_core.rng import ambient
from guidedmix_core.segmentors import SegmentationNetwork, Segmentor


def build_networks(
    config: RunConfig, num_classes: int, *, pretrained: bool = True, start: Mapping[str, Tensor] | None = None
) -> nn.Module:
    """All modules of a run, each initialized on its own stream. Without pretrained weights where a checkpoint brings
    them. `start` are the weights that the stage before hands on."""
    names = config.data.classes().names
    return config.method.networks(Builder(config.seed, config.segmentor, num_classes, pretrained, names, start))


def sees_batches(config: RunConfig) -> bool:
    """Whether a layer in training takes its statistics over the images that pass together, as BatchNorm does."""
    nets = build_networks(config, len(config.data.classes()), pretrained=False).train()
    return any(isinstance(layer, _BatchNorm) and layer.training for layer in nets.modules())


def synchronized(nets: nn.Module) -> nn.Module:
    """With BatchNorm's statistics over the images of all workers. torch's own conversion would drop the activation that
    timm's layers have in them."""
    from timm.layers.norm_act import convert_sync_batchnorm  # takes a second to load, and only a group needs it

    return convert_sync_batchnorm(nets)


def running_statistics(nets: nn.Module) -> list[Tensor]:
    """What BatchNorm gathers for evaluation, where it was not synchronized: each worker's own."""
    layers = [layer for layer in nets.modules() if isinstance(layer, _BatchNorm)]
    found = [statistic for layer in layers for statistic in (layer.running_mean, layer.running_var)]
    return [statistic for statistic in found if statistic is not None]


@dataclass(frozen=True)
class Builder:
    """Builds each module on the stream of its purpose (see `methods.Build`)."""

    seed: int
    config: Segmentor
    num_classes: int
    pretrained: bool
    class_names: tuple[str, ...]
    start: Mapping[str, Tensor] | None = None

    def segmentor(self, purpose: str, *, fresh: bool = False) -> SegmentationNetwork:
        with ambient(self.seed, "init", purpose):
            network = self.config.build(self.num_classes)
        if self.start is not None and not fresh:
            handed = dict(self.start)
            if purpose != "student":
                handed |= {name: weight for name, weight in network.state_dict().items() if ".backbone." not in name}
            network.load_state_dict(handed)
        elif self.pretrained:
            self.config.backbone.load_weights(network.backbone)
        return network

    def module(self, purpose: str, make: Callable[[], Made]) -> Made:
        with ambient(self.seed, "init", purpose):
            return make()
