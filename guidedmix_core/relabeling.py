"""Pseudo masks that the network of a finished stage makes once, of whole unlabeled images; and of which images.

Yang et al., ST++, CVPR 2022, arXiv 2106.05095. Of an image u, with predictions p_1 and p_2 after a third and two thirds
of the stage and p at its end:

    stability(u) = mean over k of mIoU(p_k(u), p(u))
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from guidedmix_core.building import Builder
from guidedmix_core.cache import ArrayCache, store
from guidedmix_core.config import RunConfig
from guidedmix_core.evaluation import Predictor
from guidedmix_core.files import write_text
from guidedmix_core.loaders import RunData
from guidedmix_core.methods import Relabel
from guidedmix_core.metrics import count, mean_iou
from guidedmix_core.place import Place
from guidedmix_core.segmentors import SegmentationNetwork, resize
from guidedmix_core.stage_folder import StageFolder, load_weights

Made = TypeVar("Made")

CHUNK = 64
"""Images of each worker whose masks are in memory at once."""


@torch.no_grad()
def relabel(
    ask: Relabel,
    stage: RunConfig,
    folder: StageFolder,
    data: RunData,
    place: Place,
    earlier: ArrayCache | None,
    alive: Callable[[], None] = lambda: None,
) -> ArrayCache:
    """The stored masks. `earlier` are those that the stage itself was taught. The caller holds the stage's lock, and
    hears of each image by `alive`."""
    began, images = time.perf_counter(), [record.id for record in data.split.unlabeled]
    chosen = list(range(len(images)))
    if ask.share < 1:
        scores = _stabilities(stage, folder, data, place, alive)
        chosen = most_stable([scores[name] for name in images], ask.share)
    kept = {name: i for i, name in enumerate(earlier.ids)} if earlier is not None and ask.keep else {}
    network = _network(stage, folder.weights, place)

    def label(i: int) -> UInt8[np.ndarray, "H W"]:
        alive()
        if earlier is not None and images[i] in kept:
            return earlier[kept[images[i]]]
        with place.autocast(stage.train.precision):
            image, align = data.unlabeled_image(i, place.device), stage.segmentor.align_corners
            return predict_mask(network, image, ask.scales, ask.flip, align_corners=align)

    masks = ((images[i], mask) for i, mask in _shared(chosen, label, place))
    if place.rank == 0:
        store(folder.pseudo(ask), masks)
        folder.write_made(ask, time.perf_counter() - began)
    else:
        for _ in masks:  # takes part in gathering
            pass
    place.agree(None)
    return ArrayCache(folder.pseudo(ask))


def predict_mask(
    network: Predictor, image: Float[Tensor, "1 C H W"], scales: Sequence[float], flip: bool, *, align_corners: bool
) -> UInt8[np.ndarray, "H W"]:
    """The class whose probability, averaged over the image at these scales and their mirror images, is largest."""
    size = (image.shape[-2], image.shape[-1])
    total, resized = torch.zeros((), device=image.device), partial(resize, align_corners=align_corners)
    for scale in scales:
        scaled = (max(1, int(size[0] * scale)), max(1, int(size[1] * scale)))
        view = image if scaled == size else resized(image, scaled)
        total = total + resized(network(view).float().softmax(1), size)
        if flip:
            total = total + resized(network(view.flip(-1)).float().softmax(1).flip(-1), size)
    return total.argmax(1)[0].byte().cpu().numpy()


def stability(before: Sequence[Int[Tensor, "H W"]], final: Int[Tensor, "H W"], num_classes: int) -> float:
    """How much earlier predictions of an image agree with the final one: the mean of their mIoU with it."""
    counts = [count(mask.unsqueeze(0), final.unsqueeze(0), num_classes).cpu().numpy() for mask in before]
    return sum(map(mean_iou, counts)) / len(counts)


def most_stable(scores: Sequence[float], share: float) -> list[int]:
    """The places of the best scores, in order; of equal ones the first. The released code rounds their number down."""
    wanted = max(1, math.floor(round(share * len(scores), 6)))
    return sorted(sorted(range(len(scores)), key=lambda i: -scores[i])[:wanted])


def _stabilities(
    stage: RunConfig, folder: StageFolder, data: RunData, place: Place, alive: Callable[[], None]
) -> dict[str, float]:
    """Of every unlabeled image, by its id. Predicted as it is: the averages are for the masks."""
    if place.agree(folder.stability.exists()):
        return json.loads(folder.stability.read_text())
    paths: list[Path] = [*folder.snapshots(stage.train.steps).values(), folder.weights]
    networks = [_network(stage, path, place) for path in paths]

    def judge(i: int) -> float:
        alive()
        image = data.unlabeled_image(i, place.device)
        with place.autocast(stage.train.precision):
            *before, final = (network(image).argmax(1)[0] for network in networks)
        return stability(before, final, len(data.classes))

    images = data.split.unlabeled
    scores = {images[i].id: score for i, score in _shared(range(len(images)), judge, place)}
    if place.rank == 0:
        write_text(folder.stability, json.dumps(scores, indent=1))
    return scores


def _network(stage: RunConfig, weights: Path, place: Place) -> SegmentationNetwork:
    names = stage.data.classes().names
    builder = Builder(stage.seed, stage.segmentor, len(names), False, names, load_weights(weights))
    return builder.segmentor("student").to(place.device).eval()


def _shared(items: Sequence[int], make: Callable[[int], Made], place: Place) -> Iterator[tuple[int, Made]]:
    """(item, what is made of it) in order, on every worker; each makes its share."""
    for start in range(0, len(items), CHUNK * place.world):
        part = items[start : start + CHUNK * place.world]
        own = {i: make(i) for i in part[place.rank :: place.world]}
        made = {i: value for each in place.gather(own) for i, value in each.items()}
        yield from ((i, made[i]) for i in part)
