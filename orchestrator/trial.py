"""One trial: a configuration becomes a record. It is never done twice; cut short, it goes on from its checkpoint."""

from __future__ import annotations

import gc
import io
import math
import shutil
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from torch import Tensor

from guidedmix_core import (
    Checkpoints,
    ConfigError,
    Report,
    Result,
    RunConfig,
    StageReport,
    TrialFailed,
    dump,
    fingerprint,
    open_data,
    palette_image,
    train,
)
from orchestrator.chains import note_stage, stages_of
from orchestrator.failures import Failure, classify
from orchestrator.folder import (
    TrialFolder,
    append_line,
    now,
    read_json,
    read_lines,
    write_atomic,
    write_json,
    write_lines,
)
from orchestrator.provenance import environment
from orchestrator.results import Role, TrialRecord, load_trial
from orchestrator.study import Objective

OnReport = Callable[[int, dict[str, float]], bool]
OnStage = Callable[[StageReport], None]
Progress = Callable[[int, int, Mapping[str, Tensor]], None]


def hand_out(
    folder: TrialFolder,
    config: RunConfig,
    *,
    number: int = 0,
    role: Role = "trial",
    label: str | None = None,
    params: Mapping[str, Any] | None = None,
    cell: str | None = None,
    block: int | None = None,
) -> None:
    """Write `trial.json`: from now on the study has this trial."""
    what = {
        "fingerprint": fingerprint(config),
        "number": number,
        "role": role,
        "label": label,
        "params": dict(params or {}),
        "cell": cell,
        "block": block,
    }
    write_json(folder.trial, {**what, "seed": config.seed, "steps": config.train.steps})


def run_trial(
    config: RunConfig,
    folder: TrialFolder,
    objective: Objective,
    *,
    on_report: OnReport = lambda step, metrics: False,
    on_stage: OnStage = lambda stage: None,
    progress: Progress = lambda step, steps, losses: None,
    device: str = "auto",
) -> TrialRecord:
    """The trial's record: the stored one if there is an end, else the end of the run that starts or goes on here.

    Each evaluation is a line of `metrics.jsonl` before `on_report` hears of it; after a crash the last one may be told
    once more. True from `on_report`, or the file `stop`, asks the run to stop there. Whatever the run raises becomes a
    `failed` record; what `on_report` raises, and KeyboardInterrupt, leaves the trial as a killed process would.

    In a group of workers only rank 0 calls this, the others call `follow_trial`.
    """
    if folder.trial.exists() and (found := read_json(folder.trial)["fingerprint"]) != fingerprint(config):
        raise ConfigError(
            f"{folder.path}: holds another run (fingerprint {found}); choose another folder, or remove it"
        )
    with folder.running():
        if not folder.result.exists():
            if not folder.trial.exists():
                hand_out(folder, config)
            end = _run(config, folder, _Reporter(folder, objective, on_report, on_stage, progress), device)
            write_json(folder.result, end)
        _tidy(folder)
    return load_trial(folder)


def follow_trial(config: RunConfig, folder: TrialFolder, *, device: str = "auto") -> None:
    """What the other ranks of a trial do: the same run, without a word. It raises what the run raises."""
    if not folder.result.exists():
        train(config, _Silent(), Checkpoints(folder.checkpoint), device=device, stages=folder.stages)


def lose_trial(config: RunConfig, folder: TrialFolder, error: BaseException) -> TrialRecord:
    """The record of a trial whose process died before it could write one; the driver writes it."""
    with folder.running():
        if not folder.result.exists():
            started = read_json(folder.environment)["time"] if folder.environment.exists() else now()
            end = _failed_end(config, folder, classify(error))
            write_json(folder.result, {"fingerprint": fingerprint(config), **end, "started": started, "ended": now()})
    return load_trial(folder)


class _Silent:
    def staged(self, stage: StageReport) -> None:
        return

    def progress(self, step: int, steps: int, losses: Mapping[str, Tensor]) -> None:
        return

    def evaluated(self, report: Report) -> bool:
        return False


class _Reporter:
    """Writes what the run reports, then passes it on."""

    def __init__(
        self, folder: TrialFolder, objective: Objective, on_report: OnReport, on_stage: OnStage, progress: Progress
    ) -> None:
        self.folder, self.objective, self.on_report, self.passed_on = folder, objective, on_report, progress
        self.on_stage = on_stage
        self.step = 0
        self.stop_asked = False
        self.foreign: Exception | None = None
        """Raised by a listener: not the run's failure."""

    def staged(self, stage: StageReport) -> None:
        self.step = 0
        note_stage(self.folder, stage)
        try:
            self.on_stage(stage)
        except Exception as error:
            self.foreign = error
            raise

    def progress(self, step: int, steps: int, losses: Mapping[str, Tensor]) -> None:
        self.step = step
        self.passed_on(step, steps, losses)

    def evaluated(self, report: Report) -> bool:
        append_line(self.folder.metrics, _line(report))
        self._check_objective(report)
        self.tell(report)
        return self.stop_asked or self.folder.stop.exists()

    def tell(self, report: Report) -> None:
        self.step = report.step
        try:
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


def _run(config: RunConfig, folder: TrialFolder, reporter: _Reporter, device: str) -> dict[str, Any]:
    """Start or go on; the content of `result.json`."""
    checkpoints = Checkpoints(folder.checkpoint)
    started = _begin(config, folder, device)
    try:
        _note_data(config, folder)
        _go_on_from_checkpoint(config, folder, checkpoints, reporter)
        result = train(config, reporter, checkpoints, device=device, stages=folder.stages)
        _write_images(config, folder, result)
        end = _end(result, reporter.objective)
    except Exception as error:  # the run is lost, the study goes on; only who listens may stop it
        if error is reporter.foreign:
            raise
        write_atomic(folder.traceback, traceback.format_exc())
        end = _failed_end(config, folder, classify(error, reporter.step))
    _free_memory()
    end = {**end, "stages": stages_of(folder)}
    return {"fingerprint": fingerprint(config), **end, "started": started, "ended": now()}


def _begin(config: RunConfig, folder: TrialFolder, device: str) -> str:
    """Write down what starts where; the time of the first start."""
    write_atomic(folder.config, yaml.safe_dump(dump(config), sort_keys=False, allow_unicode=True))
    here = environment(device)
    if not folder.environment.exists():
        write_json(folder.environment, {**here, "restarts": []})
        return here["time"]
    first = read_json(folder.environment)
    again = {key: here[key] for key in ("time", "host", "device", "git")}
    write_json(folder.environment, {**first, "restarts": [*first["restarts"], again]})
    return first["time"]


def _note_data(config: RunConfig, folder: TrialFolder) -> None:
    data = open_data(config)
    write_json(folder.environment, {**read_json(folder.environment), "data": data.fingerprint, "skipped": data.skipped})


def _go_on_from_checkpoint(
    config: RunConfig, folder: TrialFolder, checkpoints: Checkpoints, reporter: _Reporter
) -> None:
    """`metrics.jsonl` ends where the checkpoint does: a crash can fall between checkpoint, line and telling."""
    try:
        state = checkpoints.load_last(config, torch.device("cpu"))
    except ConfigError as error:
        raise TrialFailed(str(error), reason="checkpoint") from error
    rows = read_lines(folder.metrics)
    if state is None:
        write_lines(folder.metrics, [])
        return
    report = Report(state["step"], state["metrics"])
    kept = [row for row in rows if row["step"] < report.step]
    at_checkpoint = [row for row in rows if row["step"] == report.step] or [_line(report)]
    write_lines(folder.metrics, [*kept, *at_checkpoint])
    reporter.tell(report)


def _line(report: Report) -> dict[str, Any]:
    return {"step": report.step, "time": now(), **report.metrics}


def _end(result: Result, objective: Objective) -> dict[str, Any]:
    return {
        "state": "stopped" if result.stopped else "complete",
        "objective": result.metrics[objective.metric],
        "step": result.step,
        "steps": result.steps,
        "seconds": result.seconds,
        "metrics": result.metrics,
        "best": {"step": result.best.step, "metrics": result.best.metrics},
        "failure": None,
    }


def _failed_end(config: RunConfig, folder: TrialFolder, failure: Failure) -> dict[str, Any]:
    *_, last = [{"step": 0}, *read_lines(folder.metrics)]
    return {
        "state": "failed",
        "objective": None,
        "step": last["step"] if failure.step is None else failure.step,
        "steps": config.train.steps,
        "seconds": last.get("time/seconds") or 0.0,
        "metrics": {key: value for key, value in last.items() if key not in ("step", "time")},
        "best": None,
        "failure": failure.as_record(),
    }


def _write_images(config: RunConfig, folder: TrialFolder, result: Result) -> None:
    """Counts of every evaluated image, and the panels as PNG: masks in the data set's colors."""
    file = io.BytesIO()
    np.savez_compressed(file, ids=np.array(result.ids), counts=result.counts)
    write_atomic(folder.counts, file.getvalue())
    classes = config.data.classes()
    for panel in result.panels:
        masks = {kind: palette_image(getattr(panel, kind), classes) for kind in ("prediction", "truth")}
        for kind, picture in {"image": Image.fromarray(panel.image), **masks}.items():
            file = io.BytesIO()
            picture.save(file, format="png")
            write_atomic(folder.panels / f"{panel.id.replace('/', '_')}_{kind}.png", file.getvalue())


def _tidy(folder: TrialFolder) -> None:
    """What nobody will go on from is removed: a stopped trial's checkpoints, and what a crash left half written."""
    if read_json(folder.result)["state"] == "stopped":
        shutil.rmtree(folder.checkpoint, ignore_errors=True)
    for leftover in folder.checkpoint.glob("*.part"):
        leftover.unlink()


def _free_memory() -> None:
    """The next trial of this process finds the device as this one did."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
