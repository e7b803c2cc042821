"""Judging a predictor on a part of the data: whole images or sliding windows, counts per image."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from guidedmix_core.config import RunConfig
from guidedmix_core.loaders import EvalBatch, RunData
from guidedmix_core.methods import Method
from guidedmix_core.metrics import PseudoQuality, count
from guidedmix_core.rng import At

Predictor = Callable[[Float[Tensor, "N C H W"]], Float[Tensor, "N K H W"]]


@dataclass(frozen=True)
class Panel:
    """One fixed validation image, what was predicted and what is true."""

    id: str
    image: UInt8[np.ndarray, "H W 3"]
    prediction: UInt8[np.ndarray, "H W"]
    truth: UInt8[np.ndarray, "H W"]


@dataclass(frozen=True)
class Evaluation:
    """Per-image counts: only these allow a paired bootstrap over images."""

    ids: tuple[str, ...]
    counts: Int64[np.ndarray, "N K 3"]


def evaluate(
    predictor: Predictor, config: RunConfig, data: RunData, device: torch.device, rank: int = 0, world: int = 1
) -> Evaluation:
    """Every image of the evaluated part, shared out among the workers and gathered on all of them."""
    ids: list[str] = []
    counts: list[Tensor] = []
    for batch in data.evaluation(device, rank, world):
        prediction = predict_scores(predictor, batch.image, config).argmax(1)
        ids += batch.ids
        counts.append(count(prediction, batch.mask, len(data.classes)))
    own = torch.cat(counts).cpu().numpy() if counts else np.zeros((0, len(data.classes), 3), np.int64)
    if world > 1:
        gathered: list[tuple[list[str], np.ndarray]] = [([], own)] * world
        dist.all_gather_object(gathered, (ids, own))
        ids = [name for names, _ in gathered for name in names]
        own = np.concatenate([part for _, part in gathered])
    order = np.argsort(np.array(ids, dtype=object), kind="stable")
    return Evaluation(tuple(ids[i] for i in order), own[order])


def predict_scores(
    predictor: Predictor, image: Float[Tensor, "N C H W"], config: RunConfig
) -> Float[Tensor, "N K H W"]:
    """Of each class, by the run's evaluation protocol: mode, stride, flip.

    Logits of whole images. Where several predictions of a pixel are averaged, they are probabilities: of windows as in
    UniMatch (mmseg and CPS add up logits), and of mirrored images.
    """
    settings = config.evaluate

    def once(view: Float[Tensor, "N C H W"]) -> Float[Tensor, "N K H W"]:
        if settings.mode == "sliding":
            return _sliding(predictor, view, settings.stride, config.augment.crop)
        logits = predictor(view).float()
        return logits.softmax(1) if settings.flip else logits

    return once(image) + once(image.flip(-1)).flip(-1) if settings.flip else once(image)


def draw_panels(predictor: Predictor, batches: Iterable[EvalBatch], config: RunConfig) -> list[Panel]:
    """The fixed validation images as pictures."""
    panels = []
    for batch in batches:
        prediction = predict_scores(predictor, batch.image, config).argmax(1)
        image = (batch.image * 255).round().byte().permute(0, 2, 3, 1)
        arrays = (image.cpu().numpy(), prediction.byte().cpu().numpy(), batch.mask.byte().cpu().numpy())
        panels += [Panel(*parts) for parts in zip(batch.ids, *arrays, strict=True)]
    return panels


def pseudo_quality(method: Method, nets: nn.Module, data: RunData, at: At, device: torch.device) -> dict[str, float]:
    """The pseudo masks the method would teach now, against the withheld truth; empty if either does not exist."""
    quality: PseudoQuality | None = None
    for batch, truth in data.telemetry(device):
        taught = method.taught(nets, batch, at)
        if taught is None:
            return {}
        quality = quality or PseudoQuality(len(data.classes), device)
        quality.add(taught.pseudo.label, taught.kept, taught.plain, truth)
    return quality.metrics(data.classes.names) if quality else {}


def _sliding(
    predictor: Predictor, image: Float[Tensor, "N C H W"], stride: float, crop: tuple[int, int]
) -> Float[Tensor, "N K H W"]:
    height, width = image.shape[-2:]
    total: Tensor | None = None
    hits = image.new_zeros(1, 1, height, width)
    for top in _starts(height, crop[0], stride):
        for left in _starts(width, crop[1], stride):
            window = (..., slice(top, top + crop[0]), slice(left, left + crop[1]))
            probability = predictor(image[window]).float().softmax(1)
            total = probability.new_zeros(len(image), probability.shape[1], height, width) if total is None else total
            total[window] += probability
            hits[window] += 1
    assert total is not None
    return total / hits


def _starts(length: int, window: int, stride: float) -> list[int]:
    if length <= window:
        return [0]
    step = max(1, int(window * stride))
    return [*range(0, length - window, step), length - window]
