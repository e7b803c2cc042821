"""What every segmentor keeps, found by itself, and the heads against numbers by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from guidedmix_core.backbones.timm import Timm
from guidedmix_core.backbones.tiny import Tiny
from guidedmix_core.components import find, names
from guidedmix_core.errors import ConfigError
from guidedmix_core.modules.encoder import low_level
from guidedmix_core.optimizers import backbone_and_head
from guidedmix_core.rng import ambient
from guidedmix_core.sections import Optim
from guidedmix_core.segmentors import SegmentationNetwork, Segmentor, resize
from guidedmix_core.segmentors.deeplabv3 import DeepLabV3
from guidedmix_core.segmentors.deeplabv3plus import DeepLabV3Plus
from guidedmix_core.segmentors.unet import UNet

SEGMENTORS = names("segmentors")
NUM_CLASSES = 5
SMALL = {
    "aspp_channels": 8,
    "channels": 8,
    "low_level_channels": 8,
    "context_channels": 16,
    "decoder_channels": 8,
    "dilations": (1, 2),
}


def small(name: str, **fields) -> Segmentor:
    segmentor = find("segmentors", name)
    sizes = {field: value for field, value in SMALL.items() if field in segmentor.model_fields}
    return segmentor.model_validate({"backbone": Tiny(width=4), **sizes, **fields})


def built(segmentor: Segmentor, purpose: str = "student") -> SegmentationNetwork:
    with ambient(0, purpose):
        return segmentor.build(NUM_CLASSES)


def on_meta(segmentor: Segmentor, num_classes: int) -> SegmentationNetwork:
    with torch.device("meta"):
        return segmentor.build(num_classes)


def image(num: int = 2, size: tuple[int, int] = (33, 41)) -> torch.Tensor:
    return torch.rand(num, 3, *size, generator=torch.Generator().manual_seed(1))


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", SEGMENTORS)
def test_the_class_lists_the_taps_of_the_network(name):
    assert built(small(name)).taps == small(name).taps


@pytest.mark.parametrize("name", SEGMENTORS)
def test_stopping_at_a_tap_and_going_on_is_the_whole_run(name):
    network = built(small(name)).eval()
    whole = network.run({"image": image()})["logits"]
    for tap in network.taps:
        maps = network.run({"image": image()}, until=tap)
        assert torch.equal(network.run(maps, after=tap)["logits"], whole)


@pytest.mark.parametrize("name", SEGMENTORS)
def test_each_tap_has_the_width_it_claims(name):
    network = built(small(name))
    for tap in network.taps:
        assert network.run({"image": image()}, until=tap)[tap].shape[1] == network.channels[tap]


@pytest.mark.parametrize("name", SEGMENTORS)
def test_nothing_is_carried_past_its_last_reader(name):
    network = built(small(name))
    assert [set(network.run({"image": image()}, until=tap)) for tap in network.taps[-2:]] == [{"decoder"}, {"logits"}]
    assert "image" not in network.run({"image": image()}, until="c5")
    assert "c5" not in network.run({"image": image()}, until="context")


@pytest.mark.parametrize("name", SEGMENTORS)
def test_a_tail_shares_its_weights_and_gives_the_same_logits(name):
    network = built(small(name)).eval()
    tail = network.tail("context")
    maps = network.run({"image": image()}, until="context")
    assert all(tail.stages[tap] is network.stages[tap] for tap in tail.taps)
    assert torch.equal(tail.run(maps)["logits"], network.run({"image": image()})["logits"])


@pytest.mark.parametrize("size", [(97, 97), (30, 47)])
@pytest.mark.parametrize("name", SEGMENTORS)
def test_logits_have_the_size_of_the_image(name, size):
    assert built(small(name))(image(2, size)).shape == (2, NUM_CLASSES, *size)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("name", SEGMENTORS)
def test_every_map_is_resized_by_the_convention_of_the_segmentor(name, align_corners, monkeypatch):
    network, interpolate, seen = built(small(name, align_corners=align_corners)), F.interpolate, []

    def watching(*args, **settings):
        seen.append(settings["align_corners"])
        return interpolate(*args, **settings)

    monkeypatch.setattr(F, "interpolate", watching)
    network(image())
    network.read(image(), "context")
    network.tail("c5").resize(torch.rand(1, 2, 3, 4), (6, 8))
    assert len(seen) >= 3 and set(seen) == {align_corners}


@pytest.mark.parametrize("name", SEGMENTORS)
def test_logits_are_enlarged_in_full_precision(name):
    network, size = built(small(name)).eval(), (33, 41)
    with torch.autocast("cpu", torch.bfloat16):
        small_logits = network.run({"image": image()})["logits"]
        assert small_logits.dtype == torch.bfloat16
        for logits in (network(image()), network.read(image(), "context")[0]):
            assert torch.equal(logits, resize(small_logits.float(), size, align_corners=False))


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("name", SEGMENTORS)
def test_every_parameter_learns(name, norm):
    network = built(small(name, norm=norm, dropout=0.0))
    network(image(2)).square().sum().backward()
    assert [key for key, parameter in network.named_parameters() if parameter.grad is None] == []
    assert [key for key, parameter in network.named_parameters() if not parameter.grad.any()] == []


@pytest.mark.parametrize("name", SEGMENTORS)
def test_building_leaves_the_global_generator_alone(name):
    before = torch.get_rng_state()
    built(small(name))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", SEGMENTORS)
def test_equal_streams_give_equal_weights(name):
    first, second = built(small(name)).state_dict(), built(small(name)).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", SEGMENTORS)
def test_another_stream_gives_other_weights(name):
    first, second = built(small(name)).state_dict(), built(small(name), "teacher").state_dict()
    key = "stages.logits.module.1.weight"
    assert not torch.equal(first[key], second[key])


@pytest.mark.parametrize("name", SEGMENTORS)
def test_the_backbone_is_found_by_its_name(name):
    network = built(small(name))
    backbone, head = (len(group["params"]) for group in backbone_and_head(network, Optim()))
    assert backbone == len(list(network.stages["c5"].parameters()))
    assert backbone + head == len(list(network.parameters()))


@pytest.mark.parametrize("name", SEGMENTORS)
def test_the_image_is_normalized_by_the_first_stage_and_the_checkpoint_does_not_hold_the_colors(name):
    network = built(small(name)).eval()
    backbone = network.stages["c5"].backbone
    mean, std = torch.tensor(Tiny().mean).view(3, 1, 1), torch.tensor(Tiny().std).view(3, 1, 1)
    assert torch.equal(network.run({"image": image()}, until="c5")["c5"], backbone((image() - mean) / std)[-1])
    assert not any(key.rpartition(".")[2] == "mean" for key in network.state_dict())


@pytest.mark.parametrize("name", SEGMENTORS)
def test_one_image_in_training_is_served_without_batchnorm(name):
    assert built(small(name, norm="group"))(image(1)).shape[0] == 1


@pytest.mark.parametrize("segmentor", ["deeplabv3", "deeplabv3plus"])
def test_one_image_in_training_is_refused_where_its_pooled_map_would_be_normalized(segmentor):
    with pytest.raises(ValueError, match="a batch of 1 image in training"):
        built(small(segmentor))(image(1))


@pytest.mark.parametrize("output_stride", [4, 8, 16])
@pytest.mark.parametrize("name", SEGMENTORS)
def test_c5_has_the_stride_of_the_backbone(name, output_stride):
    network = built(small(name, backbone=Tiny(width=4, output_stride=output_stride)))
    assert network.run({"image": image(2, (64, 32))}, until="c5")["c5"].shape[2:] == (
        64 // output_stride,
        32 // output_stride,
    )


def test_a_backbone_without_a_map_at_stride_4_is_refused():
    backbone = Tiny(width=4).build()
    backbone.strides = (2, 8, 8, 8)
    with pytest.raises(ConfigError, match="stride"):
        low_level(backbone)


def test_the_aspp_map_is_pool_point_dilations_in_this_order():
    network = built(small("deeplabv3")).eval()
    maps = network.run({"image": image()}, until="c5")
    aspp = network.stages["aspp"].module
    pool, point, first, second = network.stages["aspp"](maps)["aspp"].split(8, dim=1)
    assert torch.equal(pool, pool[:, :, :1, :1].expand_as(pool))
    assert torch.equal(point, aspp.point(maps["c5"]))
    assert torch.equal(first, aspp.dilated[0](maps["c5"]))
    assert torch.equal(second, aspp.dilated[1](maps["c5"]))


def test_the_widths_of_the_released_guidedmix_head():
    backbone = Timm(model="resnet50c.gluon_in1k", output_stride=8, weights="none")
    network = on_meta(DeepLabV3(backbone=backbone), 21)
    assert network.channels == {"c5": 2048, "aspp": 2560, "context": 512, "decoder": 512, "logits": 21}


def test_deeplabv3_has_the_parameters_of_mmsegs_head():
    network = on_meta(DeepLabV3(backbone=Timm(output_stride=8, weights="none")), 21)
    branches = 2 * (2048 * 512 + 1024) + 3 * (9 * 2048 * 512 + 1024)  # a BatchNorm has 2 x 512
    bottleneck, classifier = 9 * 2560 * 512 + 1024, 512 * 21 + 21
    assert num_parameters(network.tail("c5")) == branches + bottleneck + classifier
    assert num_parameters(network.stages["c5"]) == 23_508_032  # ResNet-50 without its classifier


def test_deeplabv3plus_has_the_parameters_of_the_published_head():
    network = on_meta(DeepLabV3Plus(backbone=Timm(weights="none")), 21)
    branches = 2 * (2048 * 256 + 512) + 3 * (9 * 2048 * 256 + 512)
    context, reduce = 5 * 256 * 256 + 512, 256 * 48 + 96
    fuse, classifier = 9 * (256 + 48) * 256 + 512 + 9 * 256 * 256 + 512, 256 * 21 + 21
    assert num_parameters(network.tail("c5")) == branches + context + reduce + fuse + classifier


def test_unet_reads_every_map_of_the_backbone():
    network = built(UNet(backbone=Tiny(width=4), context_channels=16, decoder_channels=8))
    assert set(network.run({"image": image()}, until="context")) == {"context", "skip0", "skip1", "skip2"}
    assert network.run({"image": image(2, (32, 32))})["logits"].shape[2:] == (16, 16)
