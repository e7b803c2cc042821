"""What a trial's process does with the news of its run: write them down, pass them on, notice when they stay away."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from guidedmix_core import ConfigError, Report, Reporter, StageReport, TrialFailed
from orchestrator.chains import note_stage
from orchestrator.folder import TrialFolder, append_line, now
from orchestrator.storage import LOOK_AFAR, home, is_there, publish, refresh, remove
from orchestrator.study import Objective
from orchestrator.watchdog import Watchdog

OnReport = Callable[[int, dict[str, float]], bool]
OnStage = Callable[[StageReport], None]
Progress = Callable[[int, int, Mapping[str, Tensor]], None]

Notice = Callable[[], bool]

LOOK = 1.0
"""Seconds between two looks for the file `leave`: the folder may be on a server, or in an object store."""
KEEP = 60.0
"""Seconds between two looks whether a stage that trains here has a new checkpoint for the store."""


def line(report: Report) -> dict[str, Any]:
    """Of `metrics.jsonl`."""
    return {"step": report.step, "time": now(), **report.metrics}


class Reporting:
    """Writes what the run reports, then passes it on."""

    def __init__(
        self, folder: TrialFolder, objective: Objective, on_report: OnReport, on_stage: OnStage, progress: Progress
    ) -> None:
        self.folder, self.objective, self.on_report, self.passed_on = folder, objective, on_report, progress
        self.on_stage = on_stage
        self.watchdog = Watchdog(None, lambda: None)
        self.step = 0
        self.stop_asked = False
        self.look = LOOK if home(folder.path) is None else LOOK_AFAR
        self.looked = self.kept = -math.inf
        self.stage: Path | None = None
        """Of the last stage that was told."""
        self.notice: Notice = lambda: False
        """Whether this machine is about to be taken away."""
        self.foreign: Exception | None = None
        """Raised by a listener: not the run's failure."""

    def staged(self, stage: StageReport) -> None:
        self.step = 0
        self.stage = self.folder.stages / stage.address
        if stage.state != "waits":
            publish(self.stage)
        if stage.state == "trained":
            remove(self.stage / "checkpoint")  # the core has removed it here
        note_stage(self.folder, stage)
        try:
            with self.watchdog.paused():
                self.on_stage(stage)
        except Exception as error:
            self.foreign = error
            raise

    def progress(self, step: int, steps: int, losses: Mapping[str, Tensor]) -> None:
        self.step = step
        self.watchdog.beat()
        self.passed_on(step, steps, losses)

    def alive(self) -> None:
        self.watchdog.beat()

    def leaves(self) -> bool:
        if (now := time.monotonic()) - self.looked < self.look:
            return False
        self.looked = now
        if now - self.kept > KEEP and self.stage is not None:
            self.kept = now
            publish(self.stage)
        return is_there(self.folder.leave) or self.notice()

    def evaluated(self, report: Report) -> bool:
        self.publish_checkpoints()
        append_line(self.folder.metrics, line(report))
        self._check_objective(report)
        self.tell(report)
        return self.stops()

    def stops(self) -> bool:
        return self.stop_asked or is_there(self.folder.stop)

    def publish_checkpoints(self) -> None:
        """The run's own, and of the stage it is in, or came from."""
        publish(self.folder.checkpoint)
        if self.stage is not None:
            publish(self.stage)

    def tell(self, report: Report) -> None:
        self.step = report.step
        try:
            with self.watchdog.paused():  # the driver decides, and may take its time
                self.stop_asked |= self.on_report(report.step, report.metrics)
        except Exception as error:
            self.foreign = error
            raise

    def _check_objective(self, report: Report) -> None:
        metric = self.objective.metric
        if metric not in report.metrics:
            raise ConfigError(f"objective.metric={metric!r}: this run reports only {', '.join(sorted(report.metrics))}")
        if not math.isfinite(value := report.metrics[metric]):
            raise TrialFailed(f"{metric} is {value} at step {report.step}", reason="diverged", step=report.step)


class Following(Reporter):
    """Of the other workers of a group: they say nothing. What the first one has made of a stage they read."""

    def __init__(self, watchdog: Watchdog, stages: Path) -> None:
        self.watchdog, self.stages = watchdog, stages

    def staged(self, stage: StageReport) -> None:
        self.watchdog.beat()
        refresh(self.stages / stage.address, without=())

    def progress(self, step: int, steps: int, losses: Mapping[str, Tensor]) -> None:
        self.watchdog.beat()

    def alive(self) -> None:
        self.watchdog.beat()
