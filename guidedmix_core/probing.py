"""What a step and an evaluation of a run cost, measured on a few steps and images. Nothing is kept."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from guidedmix_core.checkpoint import Checkpoints
from guidedmix_core.config import RunConfig
from guidedmix_core.errors import TrialFailed
from guidedmix_core.evaluation import predict_scores, pseudo_quality
from guidedmix_core.loaders import RunData, open_data
from guidedmix_core.metrics import count
from guidedmix_core.place import Place, exactness
from guidedmix_core.reports import Reporter
from guidedmix_core.stages import Start, run_stages
from guidedmix_core.trainer import Run, train_stage

WARM_UP = 3
"""Steps that are not counted: the first ones pick kernels and fill caches."""
MEASURED = 7
BATCHES = 3
"""Evaluated to measure one; the first is not counted if there is another."""
STAGE_STEPS = 3
"""Of each stage, where a method can't begin without what they leave: as many as ST++ needs to compare two of them."""


@dataclass(frozen=True)
class Cost:
    """Seconds, and bytes of the device's memory. Starting up, reading the data once and checkpoints are left out."""

    step_seconds: float
    """The median of the measured steps."""
    image_seconds: float
    """Of an evaluated image."""
    num_images: int
    """Evaluated at each evaluation."""
    telemetry_seconds: float
    """Judging the pseudo masks, at each evaluation."""
    peak_bytes: int | None
    """The largest amount of memory that tensors took on the GPU; None on the CPU, where it is not measured."""
    device_bytes: int | None
    """All that the GPU has."""

    @property
    def evaluation_seconds(self) -> float:
        return self.image_seconds * self.num_images + self.telemetry_seconds


def probe(config: RunConfig, *, device: str = "auto") -> Cost:
    """The cost of a run, in one process.

    The run is cut to `WARM_UP + MEASURED` steps, so what begins or ramps up later has begun when it is measured. Stages
    before it are left out unless its method reads pseudo masks from them. ConfigError for wrong data, TrialFailed if
    the memory is too small.
    """
    place, short = Place.here(device), _short(config)
    try:
        with tempfile.TemporaryDirectory() as folder, exactness(short.train.deterministic):
            return _measure(short, place, Path(folder))
    except torch.OutOfMemoryError as error:
        raise TrialFailed(f"out of memory while {config.method.name} was measured", reason="oom") from error


def _short(config: RunConfig) -> RunConfig:
    steps = WARM_UP + MEASURED
    needs_stages = config.method.stored_masks() is not None
    stages = [stage.model_copy(update={"steps": STAGE_STEPS}) for stage in config.stages if needs_stages]
    changes = {
        "train": config.train.model_copy(update={"steps": steps}),
        "evaluate": config.evaluate.model_copy(update={"every": steps, "panels": 0}),
    }
    return config.model_copy(update={**changes, "stages": tuple(stages)})


def _measure(config: RunConfig, place: Place, folder: Path) -> Cost:
    data, start = open_data(config), Start()
    if config.stages:
        start = run_stages(config, data, folder / "stages", place, _Silent(), partial(train_stage, place))
    if is_gpu := place.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(place.device)
    run = Run(config, place, _Silent(), Checkpoints(folder), data.relabeled(start.masks), start)
    run.begin()
    steps = [_seconds(run.train_step, place) for _ in range(config.train.steps)]
    image_seconds = _image_seconds(run, data, place)
    with torch.no_grad(), run.autocast():
        judge = partial(pseudo_quality, run.method, run.nets, run.data, run.at(), place.device)
        telemetry = _seconds(judge, place)
    peak = torch.cuda.max_memory_allocated(place.device) if is_gpu else None
    num_images = len(config.data.records(config.evaluate.part))
    size = torch.cuda.get_device_properties(place.device).total_memory if is_gpu else None
    return Cost(statistics.median(steps[WARM_UP:]), image_seconds, num_images, telemetry, peak, size)


def _image_seconds(run: Run, data: RunData, place: Place) -> float:
    run.nets.eval()
    spent = []
    with torch.no_grad(), run.autocast():
        predictor = run.method.predictor(run.nets)
        for batch in islice(data.evaluation(place.device), BATCHES):

            def judge(image: Tensor = batch.image, mask: Tensor = batch.mask) -> None:
                count(predict_scores(predictor, image, run.config).argmax(1), mask, len(data.classes))

            spent.append(_seconds(judge, place) / len(batch.ids))
    return statistics.median(spent[1:] or spent)


def _seconds(call: Callable[[], object], place: Place) -> float:
    """A GPU works on after the call has returned, so it is waited for."""
    _wait(place)
    began = time.perf_counter()
    call()
    _wait(place)
    return time.perf_counter() - began


def _wait(place: Place) -> None:
    if place.device.type == "cuda":
        torch.cuda.synchronize(place.device)


class _Silent(Reporter):
    """Nobody listens to a probe."""
