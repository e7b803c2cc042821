"""The loop, read top to bottom: from a configuration to a result."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from guidedmix_core.batch import Batch, StepLosses
from guidedmix_core.building import build_networks
from guidedmix_core.checkpoint import Checkpoints
from guidedmix_core.config import RunConfig
from guidedmix_core.errors import ConfigError, TrialFailed
from guidedmix_core.evaluation import Evaluation, Panel, draw_panels, evaluate, pseudo_quality
from guidedmix_core.loaders import RunData, open_data
from guidedmix_core.methods import Method
from guidedmix_core.metrics import evaluation_metrics
from guidedmix_core.rng import At, ambient
from guidedmix_core.schedules import lr_factor


@dataclass(frozen=True)
class Report:
    """One evaluation: the number of steps done, and every metric by its path (`val/miou`, `train/loss`,
    `pseudo/coverage`, …)."""

    step: int
    metrics: dict[str, float]


@runtime_checkable
class Reporter(Protocol):
    """Who listens to a run."""

    def progress(self, step: int, steps: int, losses: Mapping[str, Tensor]) -> None:
        """After every step; the losses stay on the device unless they are read."""
        ...

    def evaluated(self, report: Report) -> bool:
        """After every evaluation, when its checkpoint is written. True asks the run to stop here."""
        ...


@dataclass(frozen=True)
class Result:
    """A run's end: `stopped` if it was asked to stop before its last step. Counts are those of the last evaluation."""

    step: int
    steps: int
    metrics: dict[str, float]
    best: Report
    stopped: bool
    seconds: float
    ids: tuple[str, ...]
    counts: Int64[np.ndarray, "N K 3"]
    panels: list[Panel] = field(repr=False)


@dataclass(frozen=True)
class Place:
    """Where this process computes, and which of the workers it is."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @classmethod
    def here(cls, device: str) -> Place:
        """`auto` takes CUDA if there is one. Workers are those of torch.distributed, if it is initialized."""
        rank, world = (
            (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)
        )
        if device == "auto":
            device = f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
        return cls(torch.device(device), rank, world)


class Step(nn.Module):
    """The method's losses as one module, so that DDP wraps the method whole."""

    def __init__(self, method: Method, nets: nn.Module) -> None:
        super().__init__()
        self.method = method
        self.nets = nets

    def forward(self, batch: Batch, at: At) -> tuple[Tensor, StepLosses]:
        losses = self.method.losses(self.nets, batch, at)
        return losses.total(), losses


def train(config: RunConfig, reporter: Reporter, checkpoints: Checkpoints, *, device: str = "auto") -> Result:
    """Train until the last step, or until the reporter asks to stop; go on from the last checkpoint if there is one.

    ConfigError for wrong data or a foreign checkpoint; TrialFailed when the run diverges.
    """
    place = Place.here(device)
    parts = place.world * config.train.accumulate
    for name in ("batch_size", "unlabeled_batch_size"):
        if (size := getattr(config.train, name)) % parts:
            raise ConfigError(f"train.{name}={size}: expected a multiple of workers x accumulate = {parts}")
    with _exactness(config, place):
        return _Run(config, place, reporter, checkpoints, open_data(config)).go()


class _Run:
    """The state of a run between its calls."""

    def __init__(
        self, config: RunConfig, place: Place, reporter: Reporter, checkpoints: Checkpoints, data: RunData
    ) -> None:
        self.config, self.place, self.reporter, self.checkpoints, self.data = config, place, reporter, checkpoints, data
        self.method = config.method
        resumes = checkpoints.last.exists()
        self.nets = build_networks(config, len(data.classes), pretrained=not resumes).to(place.device)
        if config.train.precision == "bf16" and place.device.type == "cuda":
            self.nets = self.nets.to(memory_format=torch.channels_last)
        if place.world > 1 and place.device.type == "cuda":
            self.nets = nn.SyncBatchNorm.convert_sync_batchnorm(self.nets)
        self.players = self.method.players(self.nets, config.optim)
        self.stream = data.training(self.method.views(), place.device, place.world)
        self.best = Report(0, {})
        self.step = 0
        self.step_module: nn.Module = Step(self.method, self.nets)
        if place.world > 1:  # buffers are the method's own; weights are equal because gradients are
            self.step_module = DistributedDataParallel(
                self.step_module, find_unused_parameters=True, broadcast_buffers=False
            )
        self.sums: dict[str, Tensor] = {}
        self.last_losses: dict[str, Tensor] = {}
        self.first_bad = torch.tensor(torch.inf, device=place.device)  # the first step whose loss is not finite
        self.last_metrics: dict[str, float] = {}
        self.seconds = 0.0

    def go(self) -> Result:
        self._begin()
        steps, every = self.config.train.steps, self.config.evaluate.every
        stop, judged, values = False, None, {}
        since, started = self.step, time.perf_counter()
        while self.step < steps and not stop:
            self._train_step()
            if self.step % every == 0 or self.step == steps:
                metrics = self._read_sums(since, time.perf_counter() - started)
                judged, values = self._evaluate()
                self.seconds += time.perf_counter() - started
                self.last_metrics = {**metrics, **values, "time/seconds": self.seconds}
                stop = self._report(Report(self.step, self.last_metrics))
                since, started = self.step, time.perf_counter()
        if judged is None:  # gone on from the checkpoint of the last step: nothing left but the result
            judged, values = self._evaluate()
        with torch.no_grad():
            predictor = self.method.predictor(self.nets.eval())
            panels = draw_panels(predictor, self.data.panels(self.place.device), self.config)
        metrics, stopped = {**self.last_metrics, **values}, self.step < steps
        end = (judged.ids, judged.counts, panels)
        return Result(self.step, steps, metrics, self.best, stopped, self.seconds, *end)

    def _begin(self) -> None:
        state = self.checkpoints.load_last(self.config, self.place.device)
        if state is None:
            self.nets.train()
            at = At(self.config.seed, 0, self.config.train.steps)
            self.method.prepare(self.nets, self.data.labeled(self.place.device), at)
            return
        self.nets.load_state_dict(state["nets"])
        for name, player in self.players.items():
            player.load_state_dict(state["players"][name])
        self.step, self.seconds, self.last_metrics = state["step"], state["seconds"], state["metrics"]
        self.best = Report(**state["best"])

    def _train_step(self) -> None:
        config, place, accumulate = self.config, self.place, self.config.train.accumulate
        self.nets.train()
        self._set_lr()
        for player in self.players.values():
            player.zero_grad(set_to_none=True)
        for micro in range(accumulate):
            part = place.rank * accumulate + micro
            at = At(config.seed, self.step, config.train.steps, part)
            batch = self.stream.batch(self.step, part)
            with self._gradients_stay_here(micro < accumulate - 1):
                with ambient(config.seed, "dropout", self.step, part, device=place.device), self._autocast():
                    total, losses = self.step_module(batch, at)
                (total / accumulate).backward()
            self._add_to_sums(total, losses)
        for player in self.players.values():
            if config.optim.clip_norm is not None:
                trained = [parameter for group in player.param_groups for parameter in group["params"]]
                nn.utils.clip_grad_norm_(trained, config.optim.clip_norm)
            player.step()
        with torch.no_grad():
            self.method.after_step(self.nets, At(config.seed, self.step, config.train.steps, place.rank * accumulate))
        self.step += 1
        self.reporter.progress(self.step, config.train.steps, self.last_losses)

    def _gradients_stay_here(self, until_later: bool) -> AbstractContextManager[None]:
        """Workers exchange gradients once a step, with the last micro-batch."""
        is_group = isinstance(self.step_module, DistributedDataParallel)
        return self.step_module.no_sync() if is_group and until_later else nullcontext()

    def _set_lr(self) -> None:
        factor = lr_factor(self.config.optim, self.step, self.config.train.steps)
        for player in self.players.values():
            for group in player.param_groups:
                if "initial_lr" in group:
                    group["lr"] = group["initial_lr"] * factor

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.place.device.type, torch.bfloat16, enabled=self.config.train.precision == "bf16")

    def _add_to_sums(self, total: Tensor, losses: StepLosses) -> None:
        """On the device: reading a loss each step would wait for it each step."""
        self.last_losses = {name: term.detach() for name, term in losses.terms.items()}
        values = {"loss": total.detach(), **self.last_losses, **losses.metrics}
        for name, value in values.items():
            pair = torch.stack([value.float(), torch.ones_like(value, dtype=torch.float)])
            self.sums[name] = self.sums[name] + pair if name in self.sums else pair
        bad = torch.where(total.detach().isfinite(), torch.inf, self.step)
        self.first_bad = torch.minimum(self.first_bad, bad)

    def _read_sums(self, since: int, seconds: float) -> dict[str, float]:
        """Means since the last report. The one place that waits for the device."""
        if np.isfinite(first := float(self.first_bad)):
            raise TrialFailed(f"the loss is not finite from step {int(first)} on", reason="diverged", step=int(first))
        means = {f"train/{name}": float(value / number) for name, (value, number) in self.sums.items()}
        self.sums = {}
        images = self.config.train.batch_size + self.config.train.unlabeled_batch_size * self.method.views().unlabeled
        lr = self.config.optim.lr * lr_factor(self.config.optim, self.step - 1, self.config.train.steps)
        return {**means, "train/lr": lr, "time/images_per_second": (self.step - since) * images / seconds}

    def _evaluate(self) -> tuple[Evaluation, dict[str, float]]:
        place = self.place
        self.nets.eval()
        with torch.no_grad(), self._autocast():
            judged = evaluate(
                self.method.predictor(self.nets), self.config, self.data, place.device, place.rank, place.world
            )
            at = At(self.config.seed, self.step, self.config.train.steps)
            pseudo = pseudo_quality(self.method, self.nets, self.data, at, place.device)
        return judged, {**evaluation_metrics(judged.counts, self.data.classes.names), **pseudo}

    def _report(self, report: Report) -> bool:
        """Checkpoint first, then tell; all workers follow the first one's answer."""
        stop = False
        is_best = not self.best.metrics or not report.metrics["val/miou"] <= self.best.metrics["val/miou"]
        if is_best:
            self.best = report
        if self.place.rank == 0:
            if is_best:
                self.checkpoints.save_best(self.config, self.step, self.nets.state_dict())
            self.checkpoints.save_last(self.config, self._state(report))
            stop = self.reporter.evaluated(report)
        if self.place.world > 1:
            answer = [stop]
            dist.broadcast_object_list(answer)
            stop = answer[0]
        return stop and self.step < self.config.train.steps

    def _state(self, report: Report) -> dict[str, Any]:
        players = {name: player.state_dict() for name, player in self.players.items()}
        rest = {"seconds": self.seconds, "metrics": report.metrics, "best": asdict(self.best)}
        return {"step": self.step, "nets": self.nets.state_dict(), "players": players, **rest}


@contextmanager
def _exactness(config: RunConfig, place: Place) -> Iterator[None]:
    """Deterministic kernels while the run lasts, if it asks for them."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    exact = config.train.deterministic
    torch.use_deterministic_algorithms(exact, warn_only=True)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = exact, not exact
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
