"""What a finished run is for: judge its checkpoint on other data, predict masks of new images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from guidedmix_core.building import build_networks
from guidedmix_core.checkpoint import config_of, read_checkpoint
from guidedmix_core.config import RunConfig
from guidedmix_core.datasets import Classes
from guidedmix_core.datasets._images import decode_rgb
from guidedmix_core.errors import ConfigError
from guidedmix_core.evaluation import Evaluation, Predictor, evaluate, predict_scores
from guidedmix_core.loaders import open_data
from guidedmix_core.metrics import evaluation_metrics
from guidedmix_core.schema import build
from guidedmix_core.segmentors import resize
from guidedmix_core.sources import override
from guidedmix_core.trainer import Place


@dataclass(frozen=True)
class Prediction:
    """A predicted mask and its image, at the image's own size."""

    path: Path
    image: UInt8[np.ndarray, "H W 3"]
    mask: UInt8[np.ndarray, "H W"]


def load_predictor(
    checkpoint: Path, changes: Mapping[str, Any], device: str = "auto"
) -> tuple[RunConfig, Predictor, torch.device]:
    """The predictor of a checkpoint, in evaluation mode and in the precision of its run. `changes` may move data and
    evaluation (`data.root`, `evaluate.part`), not the networks."""
    place = Place.here(device)
    state = read_checkpoint(checkpoint, place.device)
    foreign = [path for path in changes if path.split(".")[0] not in ("data", "evaluate", "split")]
    if foreign:
        raise ConfigError(
            f"{foreign[0]}: a checkpoint's {foreign[0].split('.')[0]} can't be changed; expected data, split or "
            f"evaluate"
        )
    config = build(override(config_of(state, checkpoint), changes, "command line"))
    nets = build_networks(config, len(config.data.classes()), pretrained=False).to(place.device)
    nets.load_state_dict(state["nets"])
    predictor = config.method.predictor(nets.eval())

    def as_trained(image: Float[Tensor, "N C H W"]) -> Float[Tensor, "N K H W"]:
        with place.autocast(config.train.precision):
            return predictor(image)

    return config, as_trained, place.device


@torch.no_grad()
def evaluate_checkpoint(
    checkpoint: Path, changes: Mapping[str, Any], device: str = "auto"
) -> tuple[dict[str, float], Evaluation]:
    """(metrics, per-image counts) of a checkpoint on the evaluated part of its data set."""
    config, predictor, on = load_predictor(checkpoint, changes, device)
    data = open_data(config)
    judged = evaluate(predictor, config, data, on)
    return evaluation_metrics(judged.counts, data.classes.names), judged


@torch.no_grad()
def predict(
    checkpoint: Path, images: Sequence[Path], changes: Mapping[str, Any], device: str = "auto"
) -> tuple[Classes, Iterator[Prediction]]:
    """The classes, and one prediction an image. Images are resized to `data.size` for the network, masks back."""
    config, predictor, on = load_predictor(checkpoint, changes, device)
    return config.data.classes(), (_predict_one(path, predictor, config, on) for path in images)


def overlay_mask(
    image: UInt8[np.ndarray, "H W 3"], mask: UInt8[np.ndarray, "H W"], classes: Classes, opacity: float = 0.5
) -> UInt8[np.ndarray, "H W 3"]:
    """The image with each class's color over it; ignored pixels stay as they are."""
    palette = np.zeros((256, 3), np.float32)
    palette[: len(classes)] = classes.palette
    colored = (1 - opacity) * image + opacity * palette[mask]
    return np.where((mask < len(classes))[..., None], colored.round(), image).astype(np.uint8)


def palette_image(mask: UInt8[np.ndarray, "H W"], classes: Classes) -> Image.Image:
    """The mask as a palette PNG: ids for programs, the data set's colors for people."""
    picture = Image.fromarray(mask)
    picture.putpalette(
        [channel for color in classes.palette for channel in color] + [0] * 3 * (255 - len(classes)) + [224, 224, 224]
    )
    return picture


@torch.no_grad()
def _predict_one(path: Path, predictor: Predictor, config: RunConfig, device: torch.device) -> Prediction:
    try:
        image = decode_rgb(path)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read as an image: {error}") from None
    tensor = torch.tensor(image).permute(2, 0, 1).unsqueeze(0).to(device).float() / 255
    if config.data.size:
        tensor = F.interpolate(tensor, config.data.size, mode="bilinear", antialias=True)
    scores = predict_scores(predictor, tensor, config)
    # As the image was resized, whatever the network's own convention.
    mask = resize(scores, image.shape[:2], align_corners=False).argmax(1)[0]
    return Prediction(path, image, mask.byte().cpu().numpy())
