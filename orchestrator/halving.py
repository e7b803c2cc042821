"""Memory has run out: the same run from its first step, each batch in micro-batches of half the size.

The run keeps its name, the fingerprint of what was asked for: it answers the same question. It gives what a doubled
`train.accumulate` gives, to the bit, and its record says so. Against the batch as it was, the gradient is the same to
rounding, apart from what each micro-batch settles by itself: the divisor of a loss where pixels are ignored, a partner
that is looked for among its images, and the statistics of BatchNorm. Only the last change the network that is trained,
so `comparison.compare` then pairs the run with none that saw larger micro-batches.
"""

from __future__ import annotations

import logging
from typing import Any

import torch.distributed as dist

from guidedmix_core import RunConfig, sees_batches
from orchestrator.attempts import put_aside
from orchestrator.folder import TrialFolder, read_json, write_json

log = logging.getLogger(__name__)


def trained_as(config: RunConfig, folder: TrialFolder) -> RunConfig:
    """The configuration with `train.accumulate` doubled for each halving that the folder asks for."""
    times = _halvings(folder)
    train = config.train.model_copy(update={"accumulate": config.train.accumulate * 2**times})
    return config.model_copy(update={"train": train}) if times else config


def halve(config: RunConfig, folder: TrialFolder, most: int) -> str | None:
    """Ask for micro-batches of half the size; what keeps it from that, if something does.

    Every worker whose memory runs out may call it: they all ask for the same.
    """
    used, times = trained_as(config, folder), _halvings(folder)
    if times >= most:
        return f"failures.halvings={most}"
    parts, train = 2 * _workers() * used.train.accumulate, config.train
    if train.batch_size % parts or train.unlabeled_batch_size % parts:
        return f"micro-batches of {_sizes(used)} images can't be halved"
    if train.batch_size == parts and sees_batches(config):
        return f"micro-batches of {_sizes(used)} images are not halved: BatchNorm needs two; norm=group does not"
    write_json(folder.halving, {"halvings": times + 1, "has_begun": False})
    log.warning("%s: memory ran out with micro-batches of %s images; again with half", folder.path, _sizes(used))
    return None


def is_asked(folder: TrialFolder) -> bool:
    """Whether the run starts again in smaller micro-batches and has not yet."""
    return folder.halving.exists() and not read_json(folder.halving)["has_begun"]


def begin(folder: TrialFolder) -> None:
    """What larger micro-batches gave is put aside: a run is of one kind from its first step to its last."""
    if is_asked(folder):
        asked = read_json(folder.halving)
        put_aside(folder, goes_on=False)
        write_json(folder.halving, {**asked, "has_begun": True})


def adjustment(config: RunConfig, folder: TrialFolder) -> dict[str, Any] | None:
    """What the record of the run says of it; None if it was trained as it was asked for."""
    if not (times := _halvings(folder)):
        return None
    used = trained_as(config, folder)
    parts = _workers() * used.train.accumulate
    return {
        "reason": "oom",
        "halvings": times,
        "accumulate": used.train.accumulate,
        "micro_batch": used.train.batch_size // parts,
        "unlabeled_micro_batch": used.train.unlabeled_batch_size // parts,
        "sees_batches": sees_batches(config),
    }


def _halvings(folder: TrialFolder) -> int:
    return read_json(folder.halving)["halvings"] if folder.halving.exists() else 0


def _workers() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _sizes(config: RunConfig) -> str:
    parts = _workers() * config.train.accumulate
    return f"{config.train.batch_size // parts} labeled and {config.train.unlabeled_batch_size // parts} unlabeled"
