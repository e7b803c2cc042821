"""How a study stands, read from where it is kept and from nothing else: from any shell, on any machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from orchestrator.attempts import seconds_aside
from orchestrator.chains import current_stage
from orchestrator.clusters import Cluster
from orchestrator.comparison import asked_for
from orchestrator.console import title
from orchestrator.failures import CURES
from orchestrator.folder import StudyFolder, TrialFolder, read_json, read_lines
from orchestrator.resources import Scaling
from orchestrator.results import Records, TrialRecord, best, objectives_of
from orchestrator.spending import spending
from orchestrator.storage import HEAVY, refresh, size_of

UNREAD = (*HEAVY, "panels", "report", "counts.npz", "report.html")
"""What is not fetched from a store to know how a study stands."""
WEIGHED = 60.0
"""Seconds for which the size on disk is believed: a study may have many files."""
CURE = "its `traceback.txt` tells where; `--retry-failed` makes it again"


@dataclass(frozen=True)
class Out:
    """A run that is being made."""

    title: str
    stage: str | None
    """What it is at before its own steps."""
    step: int
    """Of the last report, as is what follows."""
    steps: int
    objective: float | None
    steps_per_second: float | None
    """Evaluations included, between the last two reports."""
    reported: float | None
    """Seconds ago; None before the first time."""


@dataclass(frozen=True)
class Failed:
    """Failures of one reason."""

    reason: str
    runs: tuple[str, ...]
    message: str
    """Of the first one."""
    cure: str


@dataclass(frozen=True)
class Status:
    study: str
    kind: str
    state: Literal["running", "interrupted", "complete"]
    host: str | None
    """Of who runs it, or did."""
    seconds: float
    """Since the last start."""
    metric: str
    planned: int
    complete: int
    running: int
    stopped: int
    failed: int
    waiting: int
    """Not begun, or interrupted."""
    best: tuple[str, float] | None
    """Of a search."""
    out: tuple[Out, ...]
    steps_left: int
    steps_to_come: int
    """What a run that is not handed out yet is taken to need."""
    steps_per_second: float | None
    """Of all that are out, together."""
    seconds_left: float | None
    """If all goes on at this speed; None if nobody works on it, or nothing has reported."""
    unit: Literal["GPU", "core"]
    hours_spent: float
    """GPU-hours or core-hours of training, as the runs have measured it, with attempts that were put aside."""
    hours_left: float | None
    price_spent: float | None
    """None without GPUs, or if the cluster has no price."""
    price_left: float | None
    currency: str
    failures: tuple[Failed, ...]
    disk_bytes: int

    @property
    def ended(self) -> int:
        return self.complete + self.stopped + self.failed


class Watch:
    """Looks at one study as often as one likes; it reads again only what has changed."""

    def __init__(self, folder: StudyFolder, cluster: Cluster | None = None) -> None:
        """The cluster's price, or that of where the study was begun."""
        self._folder, self._cluster, self._records = folder, cluster, Records(folder)
        self._weighed: tuple[float, int] | None = None

    def look(self) -> Status:
        refresh(self._folder.path, UNREAD)
        is_running = self._folder.is_running()
        records = self._records.load()
        return status_of(self._folder, records, self._cluster, datetime.now(UTC), self._disk(), is_running=is_running)

    def _disk(self) -> int:
        if self._weighed is None or time.monotonic() - self._weighed[0] > WEIGHED:
            self._weighed = time.monotonic(), size_of(self._folder.path)
        return self._weighed[1]


def status_of(
    folder: StudyFolder,
    records: Sequence[TrialRecord],
    cluster: Cluster | None,
    at: datetime,
    disk: int,
    *,
    is_running: bool,
) -> Status:
    """At a time; `is_running`: a process holds the study."""
    request, events = folder.request(), folder.events()
    runs = asked_for(request, records)
    counts = {state: sum(run.state == state for run in runs) for state in ("complete", "stopped", "failed")}
    planned = max(int(request["planned"]), len(runs))
    is_over = events[-1]["event"] == "study_ended" if events else sum(counts.values()) == planned
    names = _names_out(events, runs) if is_running and not is_over else set()
    goal = objectives_of(request)[0]
    out = tuple(_out(folder.trial(run.fingerprint), run, goal.metric, at) for run in runs if run.fingerprint in names)

    to_come = _steps_to_come(request, runs)
    begun = sum(run.steps - run.step for run in runs if run.state == "running")
    left = 0 if is_over else begun + to_come * (planned - len(runs))
    each = _seconds_a_step(runs)
    usual = 1 / each if each else 0.0  # of who has not reported yet
    speed = sum(run.steps_per_second or usual for run in out) or None
    paid = spending(folder, request)
    if cluster is not None:
        paid = replace(paid, price_per_gpu_hour=cluster.price_per_gpu_hour, currency=cluster.currency)
    units = paid.gpus or _cores(request)
    spent = sum(_seconds(run) + seconds_aside(folder.trial(run.fingerprint)) for run in runs)
    seconds_left = None if each is None else left * each
    winner = best(runs, goal)
    here = read_json(folder.provenance) if folder.provenance.exists() else {}
    started = next((event["time"] for event in reversed(events) if event["event"] == "study_started"), here.get("time"))
    return Status(
        study=folder.name,
        kind=request["kind"],
        state="complete" if is_over else "running" if is_running else "interrupted",
        host=here.get("host"),
        seconds=_ago(started, at) if started else 0.0,
        metric=goal.metric,
        planned=planned,
        running=len(out),
        **counts,
        waiting=planned - sum(counts.values()) - len(out),
        best=None if winner is None or winner.objective is None else (title(winner), winner.objective),
        out=out,
        steps_left=left,
        steps_to_come=to_come,
        steps_per_second=speed,
        seconds_left=left / speed if speed else None,
        unit="GPU" if paid.gpus else "core",
        hours_spent=units * spent / 3600,
        hours_left=None if seconds_left is None else units * seconds_left / 3600,
        price_spent=paid.price(spent),
        price_left=None if seconds_left is None else paid.price(seconds_left),
        currency=paid.currency,
        failures=_failures(runs),
        disk_bytes=disk,
    )


def _names_out(events: Sequence[Mapping[str, Any]], runs: Iterable[TrialRecord]) -> set[str]:
    """Fingerprints of what was started and has not come back. A single run keeps no journal, and is always out."""
    if not events:
        return {run.fingerprint for run in runs if run.state == "running"}
    out: set[str] = set()
    for event in events:
        if event["event"] == "study_started":
            out = set()
        elif event["event"] == "trial_started":
            out.add(event["fingerprint"])
        elif event["event"] in ("trial_ended", "trial_left"):
            out.discard(event["fingerprint"])
    return out & {run.fingerprint for run in runs if run.state == "running"}


def _out(folder: TrialFolder, run: TrialRecord, metric: str, at: datetime) -> Out:
    rows = read_lines(folder.metrics)
    last = rows[-1] if rows else {}
    return Out(
        title=title(run),
        stage=None if rows else current_stage(folder),
        step=last.get("step", 0),
        steps=run.steps,
        objective=last.get(metric),
        steps_per_second=_speed(rows),
        reported=_ago(last["time"], at) if rows else None,
    )


def _speed(rows: Sequence[Mapping[str, Any]]) -> float | None:
    before, last = [{"step": 0, "time/seconds": 0.0}, *rows][-2:] if rows else ({}, {})
    if (now := last.get("time/seconds")) is None or (then := before.get("time/seconds")) is None or now <= then:
        return None
    return (last["step"] - before["step"]) / (now - then)


def _steps_to_come(request: Mapping[str, Any], runs: Iterable[TrialRecord]) -> int:
    """The mean of those that ended well, stopped ones and stages that they trained included; before there is one, what
    the base run itself has."""
    made = [_steps(run) for run in runs if run.state in ("complete", "stopped")]
    if made:
        return round(statistics.fmean(made))
    return int(request["run"]["train"]["steps"]) if "run" in request else 0


def _seconds_a_step(runs: Sequence[TrialRecord]) -> float | None:
    steps = sum(map(_steps, runs))
    seconds = sum(run.seconds_spent for run in runs)
    return seconds / steps if steps and seconds else None


def _steps(run: TrialRecord) -> int:
    return run.step + sum(stage["steps"] for stage in run.made_stages)


def _seconds(run: TrialRecord) -> float:
    """What the study has paid for: stages that the run made count, what others made does not."""
    return 0.0 if run.reused_from else run.seconds_spent


def _cores(request: Mapping[str, Any]) -> float:
    """Of one run. A single one has no scaling: it takes what it finds, and is counted as one."""
    scaling = Scaling.model_validate(request.get("scaling", {}))
    return scaling.workers * scaling.cpus_per_worker


def _failures(runs: Iterable[TrialRecord]) -> tuple[Failed, ...]:
    """The most frequent reason first."""
    found: dict[str, list[tuple[str, str]]] = {}
    for run in runs:
        if run.failure is not None:
            found.setdefault(run.failure["reason"], []).append((title(run), run.failure["message"]))
    ordered = sorted(found.items(), key=lambda entry: -len(entry[1]))
    return tuple(
        Failed(reason, tuple(name for name, _ in those), those[0][1].partition("\n")[0], CURES.get(reason, CURE))
        for reason, those in ordered
    )


def _ago(time: str, at: datetime) -> float:
    """Seconds; another machine's clock may be ahead of this one's."""
    return max(0.0, (at - datetime.fromisoformat(time)).total_seconds())
