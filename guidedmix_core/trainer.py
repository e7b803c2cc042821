"""The loop, read top to bottom: from a configuration to a result."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from guidedmix_core.batch import Batch, StepLosses
from guidedmix_core.building import build_networks, running_statistics, synchronized
from guidedmix_core.checkpoint import Checkpoints
from guidedmix_core.config import RunConfig
from guidedmix_core.errors import ConfigError, Preempted, TrialFailed
from guidedmix_core.evaluation import Evaluation, Predictor, draw_panels, evaluate, pseudo_quality
from guidedmix_core.loaders import RunData, open_data
from guidedmix_core.methods import Method
from guidedmix_core.metrics import evaluation_metrics
from guidedmix_core.place import Place, exactness
from guidedmix_core.reports import Report, Reporter, Result
from guidedmix_core.rng import At
from guidedmix_core.schedules import lr_factor
from guidedmix_core.segmentors import SegmentationNetwork
from guidedmix_core.stage_folder import save_weights
from guidedmix_core.stages import Passing, Start, run_stages
from guidedmix_core.workers import average_over_workers, gather_from_workers, sum_over_workers


class Step(nn.Module):
    """The method's losses as one module, so that DDP wraps the method whole."""

    def __init__(self, method: Method, nets: nn.Module) -> None:
        super().__init__()
        self.method = method
        self.nets = nets

    def forward(self, batch: Batch, at: At) -> tuple[Tensor, StepLosses]:
        losses = self.method.losses(self.nets, batch, at)
        return losses.total(), losses


def train(
    config: RunConfig,
    reporter: Reporter,
    checkpoints: Checkpoints,
    *,
    device: str = "auto",
    stages: Path | None = None,
) -> Result:
    """Train until the last step, or until the reporter asks to stop; go on from the last checkpoint if there is one.

    `stages` is the folder where the stages of runs are kept and shared; None: beside the checkpoints, for this run.
    ConfigError for wrong data or a foreign checkpoint; TrialFailed when the run diverges; Preempted when the reporter
    leaves.
    """
    place = Place.here(device)
    parts = place.world * config.train.accumulate
    for name in ("batch_size", "unlabeled_batch_size"):
        if (size := getattr(config.train, name)) % parts:
            raise ConfigError(f"train.{name}={size}: expected a multiple of workers x accumulate = {parts}")
    with exactness(config.train.deterministic):
        data, start = open_data(config), Start()
        has_begun = place.agree(checkpoints.last.exists())
        if config.stages and (not has_begun or config.method.stored_masks() is not None):
            root = stages or checkpoints.folder / "stages"
            start = run_stages(config, data, root, place, reporter, partial(train_stage, place))
        return Run(config, place, reporter, checkpoints, data.relabeled(start.masks), start).go()


def train_stage(
    place: Place, config: RunConfig, start: Start, checkpoints: Checkpoints, reporter: Reporter, passing: Passing
) -> tuple[Result, SegmentationNetwork]:
    data = open_data(config).relabeled(start.masks)
    run = Run(config, place, reporter, checkpoints, data, start, passing)
    return run.go(), config.method.result(run.nets)


class Run:
    """The state of a run between its calls."""

    def __init__(
        self,
        config: RunConfig,
        place: Place,
        reporter: Reporter,
        checkpoints: Checkpoints,
        data: RunData,
        start: Start,
        passing: Passing | None = None,
    ) -> None:
        self.config, self.place, self.reporter, self.checkpoints, self.data = config, place, reporter, checkpoints, data
        self.method = config.method
        self.passing = passing or Passing(config.evaluate.every)
        resumes = checkpoints.last.exists()
        nets = build_networks(config, len(data.classes), pretrained=not resumes, start=start.weights)
        self.nets = nets.to(place.device)
        if config.train.precision == "bf16" and place.device.type == "cuda":
            self.nets = self.nets.to(memory_format=torch.channels_last)
        if place.world > 1 and place.device.type == "cuda":
            self.nets = synchronized(self.nets)
        self.statistics = running_statistics(self.nets) if place.world > 1 and place.device.type != "cuda" else []
        self.players = self.method.players(self.nets, config.optim)
        self.stream = data.training(self.method.views(), place.device, place.world)
        self.best = Report(0, {})
        self.step = self.reported = 0
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
        self.stage_seconds = start.seconds

    def go(self) -> Result:
        self.begin()
        steps, every = self.config.train.steps, self.config.evaluate.every
        is_reported = 0 < self.step == self.reported < steps  # a crash may have kept the answer from being heard
        stop, judged, values = self.place.agree(is_reported and self.reporter.stops()), None, {}
        since, started = self.step, time.perf_counter()
        while self.step < steps and not stop:
            self.train_step()
            is_judged = self.step % every == 0 or self.step == steps
            if is_judged or self.step % self.passing.every == 0:
                metrics = self._read_sums(since, time.perf_counter() - started)
                judged, values = self._evaluate() if is_judged else (None, {})
                self.seconds += time.perf_counter() - started
                self.last_metrics = {**metrics, **values, **self._times()}
                stop = self._report(Report(self.step, self.last_metrics))
                since, started = self.step, time.perf_counter()
            if self.step < steps and not stop and self.reporter.leaves():
                self._leave(time.perf_counter() - started)
        if judged is None:  # gone on from the checkpoint of the last step, or of a stop: nothing left but the result
            judged, values = self._evaluate()
        with torch.no_grad():
            self.nets.eval()
            panels = draw_panels(self._predictor(), self.data.panels(self.place.device), self.config)
        metrics, stopped = {**self.last_metrics, **values}, self.step < steps
        end = (judged.ids, judged.counts, panels)
        return Result(self.step, steps, metrics, self.best, stopped, self.seconds, *end)

    def begin(self) -> None:
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
        self.stage_seconds = self.last_metrics.get("time/stage_seconds", 0.0)
        self.best, self.reported = Report(**state["best"]), self.step
        if unreported := state.get("unreported"):
            self.reported, self.sums, self.first_bad = (unreported[key] for key in ("since", "sums", "first_bad"))

    def train_step(self) -> None:
        config, place, accumulate = self.config, self.place, self.config.train.accumulate
        self.nets.train()
        self._set_lr()
        for player in self.players.values():
            player.zero_grad(set_to_none=True)
        for micro in range(accumulate):
            part = place.rank * accumulate + micro
            at = self.at(part)
            batch = self.stream.batch(at.before + at.step, part)
            with self._gradients_stay_here(micro < accumulate - 1):
                with at.ambient("dropout", place.device), self.autocast():
                    total, losses = self.step_module(batch, at)
                (total / accumulate).backward()
            self._add_to_sums(total, losses)
        for player in self.players.values():
            if config.optim.clip_norm is not None:
                trained = [parameter for group in player.param_groups for parameter in group["params"]]
                nn.utils.clip_grad_norm_(trained, config.optim.clip_norm)
            player.step()
        with torch.no_grad():
            average_over_workers(self.statistics)
            self.method.after_step(self.nets, self.at(place.rank * accumulate))
        self.step += 1
        if place.rank == 0 and (snapshot := self.passing.snapshots.get(self.step)):
            save_weights(snapshot, self.method.result(self.nets))
        self.reporter.progress(self.step, config.train.steps, self.last_losses)

    def at(self, part: int = 0) -> At:
        return At(self.config.seed, self.step, self.config.train.steps, part, self.config.steps_before)

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

    def autocast(self) -> torch.autocast:
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
        """Means over all workers since the last report. The one place that waits for the device."""
        first = gather_from_workers(self.first_bad.unsqueeze(0)).min().item()
        if np.isfinite(first):
            raise TrialFailed(f"the loss is not finite from step {int(first)} on", reason="diverged", step=int(first))
        values, numbers = sum_over_workers(torch.stack(list(self.sums.values()))).unbind(1)
        means = {f"train/{name}": mean for name, mean in zip(self.sums, (values / numbers).tolist(), strict=True)}
        self.sums = {}
        images = self.config.train.batch_size + self.config.train.unlabeled_batch_size * self.method.views().unlabeled
        lr = self.config.optim.lr * lr_factor(self.config.optim, self.step - 1, self.config.train.steps)
        return {**means, "train/lr": lr, "time/images_per_second": (self.step - since) * images / seconds}

    def _evaluate(self) -> tuple[Evaluation, dict[str, float]]:
        place = self.place
        self.nets.eval()
        with torch.no_grad(), self.autocast():
            judged = evaluate(self._predictor(), self.config, self.data, place.device, place.rank, place.world)
            self.reporter.alive()
            pseudo = pseudo_quality(self.method, self.nets, self.data, self.at(), place.device)
        return judged, {**evaluation_metrics(judged.counts, self.data.classes.names), **pseudo}

    def _predictor(self) -> Predictor:
        """Each prediction is heard of: between two steps, judging takes longest."""
        predict = self.method.predictor(self.nets)

        def heard(image: Tensor) -> Tensor:
            self.reporter.alive()
            return predict(image)

        return heard

    def _times(self) -> dict[str, float]:
        """The run's own seconds, and what its stages took, here or elsewhere."""
        own = {"time/seconds": self.seconds}
        return {**own, "time/stage_seconds": self.stage_seconds} if self.config.stages else own

    def _report(self, report: Report) -> bool:
        """Checkpoint first, then tell; all workers follow the first one's answer."""
        stop, self.reported = False, report.step
        is_best = "val/miou" in report.metrics and (
            not self.best.metrics or not report.metrics["val/miou"] <= self.best.metrics["val/miou"]
        )
        if is_best:
            self.best = report
        if self.place.rank == 0:
            if is_best:
                self.checkpoints.save_best(self.config, self.step, self.nets.state_dict())
            self.checkpoints.save_last(self.config, self._state(report))
            stop = self.reporter.evaluated(report)
        return self.place.agree(stop) and self.step < self.config.train.steps

    def _leave(self, seconds: float) -> None:
        """Alone: the first worker writes the checkpoint, and the others end with it. The next report will be that of a
        run which never left; of a group's, `train/*` has the first worker's sums twice instead of everybody's."""
        self.seconds += seconds
        unreported = {"since": self.reported, "sums": self.sums, "first_bad": self.first_bad}
        state = self._state(Report(self.step, {**self.last_metrics, **self._times()}))
        self.checkpoints.save_last(self.config, {**state, "unreported": unreported})
        raise Preempted(f"left at step {self.step} of {self.config.train.steps}")

    def _state(self, report: Report) -> dict[str, Any]:
        players = {name: player.state_dict() for name, player in self.players.items()}
        rest = {"seconds": self.seconds, "metrics": report.metrics, "best": asdict(self.best)}
        return {"step": self.step, "nets": self.nets.state_dict(), "players": players, **rest}
