"""One trial: a configuration becomes a record. It is never done twice; cut short, it goes on from its checkpoint."""

from __future__ import annotations

import gc
import io
import traceback
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
import yaml
from PIL import Image

from guidedmix_core import (
    Checkpoints,
    ConfigError,
    Preempted,
    Report,
    Result,
    RunConfig,
    TrialFailed,
    dump,
    fingerprint,
    open_data,
    palette_image,
    train,
)
from orchestrator import halving
from orchestrator.chains import stage_folders
from orchestrator.ends import failed_end, good_end, whole_end
from orchestrator.failures import USUAL, Failure, Failures, classify, is_disk_full
from orchestrator.folder import TrialFolder, now, read_json, read_lines, write_atomic, write_json, write_lines
from orchestrator.image_counts import write_counts
from orchestrator.provenance import environment
from orchestrator.reporting import Following, Notice, OnReport, OnStage, Progress, Reporting, line
from orchestrator.results import Role, TrialRecord, load_trial
from orchestrator.storage import drop, refresh, remove
from orchestrator.study import Objective
from orchestrator.watchdog import Watchdog, end_process, write_tracebacks


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
    notice: Notice = lambda: False,
    device: str = "auto",
    failures: Failures = USUAL,
) -> TrialRecord:
    """The trial's record: the stored one if there is an end, else the end of the run that starts or goes on here.

    Each evaluation is a line of `metrics.jsonl` before `on_report` hears of it; after a crash the last one may be told
    once more. True from `on_report`, or the file `stop`, asks the run to stop there. Whatever the run raises becomes a
    `failed` record, unless the memory has run out and `failures` has it start again with less; what `on_report` raises,
    KeyboardInterrupt, and a disk that is full leave the trial as a killed process would. The file `leave`, or True from
    `notice`, has the run save where it is and raise Preempted. A run that hangs is recorded, and this process ends.

    In a group of workers only rank 0 calls this, the others call `follow_trial`.
    """
    if folder.trial.exists() and (found := read_json(folder.trial)["fingerprint"]) != fingerprint(config):
        raise ConfigError(
            f"{folder.path}: holds another run (fingerprint {found}); choose another folder, or remove it"
        )
    refresh(folder.path, without=())
    with folder.running():
        if not folder.result.exists():
            if folder.leave.exists():
                raise Preempted("asked to leave before it began")
            if not folder.trial.exists():
                hand_out(folder, config)
            reporter = Reporting(folder, objective, on_report, on_stage, progress)
            reporter.notice = notice
            try:
                write_json(folder.result, _run(config, folder, reporter, device, failures))
            except Preempted:
                reporter.publish_checkpoints()
                raise
        tidy(folder)
    return load_trial(folder)


def follow_trial(config: RunConfig, folder: TrialFolder, *, device: str = "auto", failures: Failures = USUAL) -> None:
    """What the other ranks of a trial do: the same run, without a word. It raises what the run raises.

    Of a run that hangs each tells where it is; the first one ends it."""
    refresh(folder.path, without=())
    if folder.result.exists():
        return
    used = halving.trained_as(config, folder)
    place = folder.path / f"traceback-{dist.get_rank()}.txt"
    with Watchdog(failures.hang_minutes, partial(write_tracebacks, place)) as watchdog:
        try:
            train(
                used,
                Following(watchdog, folder.stages),
                Checkpoints(folder.checkpoint),
                device=device,
                stages=folder.stages,
            )
        except Exception as error:
            if classify(error).reason == "oom":
                halving.halve(config, folder, failures.halvings)
            raise


def lose_trial(config: RunConfig, folder: TrialFolder, error: BaseException, known: str) -> TrialRecord:
    """The record of a trial whose process died before it could write one; the driver writes it.

    `known`: all that is known of its processes, for who reads the traceback, too."""
    with folder.running():
        if not folder.result.exists():
            own = folder.traceback.read_text(encoding="utf-8") if folder.traceback.exists() else ""
            write_atomic(folder.traceback, "\n".join(filter(None, (own, known))) or f"{error}\n")
            started = read_json(folder.environment)["time"] if folder.environment.exists() else now()
            write_json(folder.result, whole_end(config, folder, failed_end(config, folder, classify(error)), started))
        tidy(folder)
    return load_trial(folder)


def tidy(folder: TrialFolder) -> None:
    """Of a run that has ended, what nobody will go on from is removed: a stopped one's checkpoints, and what a crash
    left half written."""
    if read_json(folder.result)["state"] == "stopped":
        remove(folder.checkpoint)
    drop(folder.checkpoint)
    for leftover in folder.checkpoint.glob("*.part"):
        leftover.unlink(missing_ok=True)


def _run(
    config: RunConfig, folder: TrialFolder, reporter: Reporting, device: str, failures: Failures
) -> dict[str, Any]:
    """Start or go on; the content of `result.json`."""
    while True:
        halving.begin(folder)
        started = _begin(config, folder, device)
        end = _attempt(config, folder, reporter, device, failures, started)
        _free_memory()
        if end is not None:
            return whole_end(config, folder, end, started)


def _attempt(
    config: RunConfig, folder: TrialFolder, reporter: Reporting, device: str, failures: Failures, started: str
) -> dict[str, Any] | None:
    """None if the run is to start again in smaller micro-batches. A group does so in new processes: it raises."""
    used, checkpoints = halving.trained_as(config, folder), Checkpoints(folder.checkpoint)
    in_group = dist.is_available() and dist.is_initialized()
    when_silent = partial(_end_silent, config, folder, reporter, failures, started)
    try:
        _note_data(config, folder, checkpoints)
        _go_on_from_checkpoint(used, folder, checkpoints, reporter)
        with Watchdog(failures.hang_minutes, when_silent) as reporter.watchdog:
            result = train(used, reporter, checkpoints, device=device, stages=folder.stages)
        _write_images(config, folder, result)
        return good_end(result, reporter.objective)
    except Exception as error:  # the run is lost, the study goes on; only who listens may stop it
        if error is reporter.foreign or is_disk_full(error):
            raise
        write_atomic(folder.traceback, traceback.format_exc())
        failure = classify(error, reporter.step)
        if in_group and failure.reason == "infrastructure":  # another worker died: Ray Train starts the group again
            raise
        if failure.reason != "oom":
            return failed_end(config, folder, failure)
        if (obstacle := halving.halve(config, folder, failures.halvings)) is not None:
            return failed_end(config, folder, Failure("oom", f"{failure.message} ({obstacle})", failure.step))
        if in_group:
            raise
        return None


def _end_silent(config: RunConfig, folder: TrialFolder, reporter: Reporting, failures: Failures, started: str) -> None:
    """By the watchdog, in its own thread: the record of a run that hangs, and the end of this process."""
    words = f"no sign of life for {failures.hang_minutes:g} minutes after step {reporter.step}"
    failure = Failure("hang", f"{words}; {folder.traceback} tells where each thread was", reporter.step)

    def record() -> None:
        write_tracebacks(folder.traceback)
        write_json(folder.result, whole_end(config, folder, failed_end(config, folder, failure), started))

    end_process(record, f"{folder.path}: {words}; recorded as failed (hang). The same command goes on without it.")


def _begin(config: RunConfig, folder: TrialFolder, device: str) -> str:
    """Write down what starts where; the time of the first start."""
    write_atomic(folder.config, yaml.safe_dump(dump(config), sort_keys=False, allow_unicode=True))
    here = environment(device, code=folder.code)
    if not folder.environment.exists():
        write_json(folder.environment, {**here, "restarts": []})
        return here["time"]
    first = read_json(folder.environment)
    again = {key: here[key] for key in ("time", "host", "device", "git")}
    write_json(folder.environment, {**first, "restarts": [*first["restarts"], again]})
    return first["time"]


def _note_data(config: RunConfig, folder: TrialFolder, checkpoints: Checkpoints) -> None:
    """TrialFailed if the run has begun with other data: trained on some of each it would be a run of neither.

    One that has begun needs pretrained weights no more; those it began with stay noted.
    """
    data, noted, has_begun = open_data(config), read_json(folder.environment), checkpoints.last.exists()
    if has_begun and noted["data"] not in (None, data.fingerprint):
        raise TrialFailed(
            f"the data has changed since the run began (fingerprint {noted['data']}, now {data.fingerprint}); restore "
            "it, or have the run begin anew: --retry-failed, or for a single run another --study",
            reason="data",
        )
    if not has_begun:
        noted["weights"] = config.segmentor.backbone.weights_digest()
    if not has_begun or config.method.stored_masks() is not None:
        for stage in stage_folders(config, data, folder):
            refresh(stage, without=())
    write_json(folder.environment, {**noted, "data": data.fingerprint, "skipped": data.skipped})


def _note_step(folder: TrialFolder, step: int) -> None:
    """From where the last of the restarts, if there was one, goes on."""
    noted = read_json(folder.environment)
    if noted["restarts"]:
        noted["restarts"][-1]["step"] = step
        write_json(folder.environment, noted)


def _go_on_from_checkpoint(
    config: RunConfig, folder: TrialFolder, checkpoints: Checkpoints, reporter: Reporting
) -> None:
    """`metrics.jsonl` ends where the checkpoint does: a crash can fall between checkpoint, line and telling."""
    try:
        state = checkpoints.load_last(config, torch.device("cpu"))
    except ConfigError as error:
        raise TrialFailed(str(error), reason="checkpoint") from error
    _note_step(folder, 0 if state is None else state["step"])
    rows = read_lines(folder.metrics)
    if state is None:
        write_lines(folder.metrics, [])
        return
    report = Report(state.get("unreported", {}).get("since", state["step"]), state["metrics"])
    kept = [row for row in rows if row["step"] < report.step]
    if not report.step:  # it left before its first report
        write_lines(folder.metrics, [])
        return
    at_checkpoint = [row for row in rows if row["step"] == report.step] or [line(report)]
    write_lines(folder.metrics, [*kept, *at_checkpoint])
    reporter.tell(report)


def _write_images(config: RunConfig, folder: TrialFolder, result: Result) -> None:
    """Counts of every evaluated image, and the panels as PNG: masks in the data set's colors."""
    write_counts(folder.counts, result.ids, result.counts)
    classes = config.data.classes()
    for panel in result.panels:
        masks = {kind: palette_image(getattr(panel, kind), classes) for kind in ("prediction", "truth")}
        for kind, picture in {"image": Image.fromarray(panel.image), **masks}.items():
            file = io.BytesIO()
            picture.save(file, format="png")
            write_atomic(folder.panels / f"{panel.id.replace('/', '_')}_{kind}.png", file.getvalue())


def _free_memory() -> None:
    """The next trial of this process finds the device as this one did."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
