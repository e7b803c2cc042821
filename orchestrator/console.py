"""What the terminal shows of a study while it runs: a calm table, or one line an event where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console, Group, JustifyMethod
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from torch import Tensor

from guidedmix_core import StageReport
from orchestrator.chains import current_stage, stage_words
from orchestrator.comparison import asked_for
from orchestrator.failures import adjustment_words
from orchestrator.folder import StudyFolder
from orchestrator.listeners import Listener
from orchestrator.results import TrialRecord, best, load_trials, objectives
from orchestrator.units import show

STYLES = {"running": "cyan", "complete": "green", "stopped": "yellow", "failed": "red"}
SHOWN = 14
"""Rows of the live table: the newest trials; all are in the report."""


class StudyConsole(Listener):
    """Live table on a terminal; on anything else one line at each start, end and report."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live: Live | None = None
        self.records: dict[str, TrialRecord] = {}
        self.values: dict[str, float] = {}
        self.steps: dict[str, int] = {}
        self.begun: dict[str, float] = {}

    def study_started(self, study: Any, folder: StudyFolder) -> None:
        request = folder.request()
        self.folder, self.name, self.planned = folder, folder.name, int(request["planned"])
        self.goal = objectives(folder)[0]
        records = asked_for(request, load_trials(folder))
        self.records = {record.fingerprint: record for record in records if record.state != "running"}
        self.started, self.already = time.monotonic(), len(self.records)
        if self.console.is_terminal:
            self.live = Live(console=self.console, get_renderable=self._render, refresh_per_second=2, transient=True)
            self.live.start()
        elif self.already:
            self.console.print(f"{self.name}: {self.already} of {self.planned} already done")

    def trial_started(self, record: TrialRecord) -> None:
        self.records[record.fingerprint] = record
        self.begun[record.fingerprint] = time.monotonic()
        self._line(record, "started", _params(record))

    def trial_staged(self, record: TrialRecord, stage: StageReport) -> None:
        self._line(record, f"stage {stage.index}", stage_words([asdict(stage)]))

    def trial_reported(self, record: TrialRecord, metrics: Mapping[str, Any]) -> None:
        self.records[record.fingerprint] = record
        value = metrics.get(self.goal.metric)
        if value is not None:
            self.values[record.fingerprint] = value
        self.steps[record.fingerprint] = int(metrics["step"])
        self._line(record, f"step {metrics['step']}/{record.steps}", f"{self._label} {show(self.goal.metric, value)}")

    def trial_ended(self, record: TrialRecord) -> None:
        self.records[record.fingerprint] = record
        end = (
            record.failure["message"] if record.failure else f"{self._label} {show(self.goal.metric, record.objective)}"
        )
        self._line(record, record.state, end)

    def trial_reused(self, record: TrialRecord) -> None:
        self.records[record.fingerprint] = record
        self.already += 1
        end = f"{self._label} {show(self.goal.metric, record.objective)}"
        self._line(record, f"reused from {record.reused_from}", end)

    def study_ended(self) -> None:
        if self.live:
            self.live.stop()
            self.live = None

    @property
    def _label(self) -> str:
        return short(self.goal.metric)

    def _line(self, record: TrialRecord, event: str, rest: str) -> None:
        if self.live is None:
            self.console.print(Text(f"{title(record)}: {event}  {rest}".rstrip()), soft_wrap=True)

    def _render(self) -> Group:
        records = list(self.records.values())
        done = sum(record.state != "running" for record in records)
        winner = best(records, self.goal)
        line = Text(f"{self.name}  {done} of {self.planned} done", style="bold")
        if winner:
            line.append(
                f"  best {title(winner)}: {self._label} {show(self.goal.metric, winner.objective)}", style="green"
            )
        if (left := self._seconds_left(records)) is not None:
            line.append(f"  about {duration(left)} left", style="dim")
        return Group(line, self._table(records))

    def _table(self, records: list[TrialRecord]) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        columns: tuple[tuple[str, JustifyMethod], ...] = (
            ("trial", "left"),
            ("state", "left"),
            ("step", "right"),
            (self._label, "right"),
            ("time", "right"),
            ("parameters" if any(map(_params, records)) else "", "left"),
        )
        for name, justify in columns:
            table.add_column(name, justify=justify, no_wrap=True, overflow="ellipsis")
        for record in records[-SHOWN:]:
            value = record.objective if record.objective is not None else self.values.get(record.fingerprint)
            step = record.step if record.state != "running" else self.steps.get(record.fingerprint, record.step)
            since = time.monotonic() - self.begun.get(record.fingerprint, time.monotonic())
            seconds = record.seconds_in_all if record.state != "running" else since
            state = Text(self._state(record, step), style=STYLES[record.state])
            table.add_row(
                title(record),
                state,
                f"{step}/{record.steps}",
                show(self.goal.metric, value),
                duration(seconds),
                _params(record),
            )
        return table

    def _state(self, record: TrialRecord, step: int) -> str:
        """A run that has not reported may be at a stage; it may run in another process, so its folder is asked."""
        stage = current_stage(self.folder.trial(record.fingerprint)) if record.state == "running" and not step else None
        return stage or record.state

    def _seconds_left(self, records: list[TrialRecord]) -> float | None:
        """From the share of the work done since the start, a stopped trial counting as whole."""
        done = sum(record.state != "running" for record in records) - self.already
        partly = sum(
            self.steps.get(record.fingerprint, 0) / record.steps for record in records if record.state == "running"
        )
        work, passed = done + partly, time.monotonic() - self.started
        return passed * (self.planned - self.already - work) / work if work > 0.5 else None


class RunConsole(Listener):
    """One run: a line with step and losses, and one line each evaluation that stays."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = Progress(
            TextColumn("{task.completed}/{task.total}"),
            BarColumn(40),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}", style="dim"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task: TaskID | None = None
        self.read_at = 0.0

    def trial_started(self, record: TrialRecord) -> None:
        self.console.print(Text(f"{title(record)}  {record.fingerprint}  {record.steps} steps"))
        self.bar.start()

    def progress(self, step: int, steps: int, losses: Mapping[str, Tensor]) -> None:
        """Reads the losses twice a second at most: reading waits for the device."""
        if self.bar.disable or time.monotonic() - self.read_at < 0.5:
            return
        self.read_at = time.monotonic()
        shown = "  ".join(f"{name} {float(loss):.3f}" for name, loss in losses.items())
        if self.task is None:
            self.task = self.bar.add_task("", total=steps, losses=shown)
        self.bar.update(self.task, completed=step, losses=shown)

    def trial_staged(self, record: TrialRecord, stage: StageReport) -> None:
        """Each stage has a bar of its own."""
        self.console.print(Text(f"stage {stage.index}: {stage_words([asdict(stage)])}"), soft_wrap=True)
        if self.task is not None:
            self.bar.remove_task(self.task)
            self.task = None

    def trial_reported(self, record: TrialRecord, metrics: Mapping[str, Any]) -> None:
        parts = [f"step {metrics['step']:>6}/{record.steps}", f"loss {metrics.get('train/loss', float('nan')):.3f}"]
        parts.append(f"mIoU {100 * metrics['val/miou']:5.1f}")
        if metrics.get("pseudo/coverage") is not None:
            precision = metrics.get("pseudo/precision")
            shown = "-" if precision is None or precision != precision else f"{100 * precision:.1f}"
            parts.append(f"pseudo masks: {100 * metrics['pseudo/coverage']:.0f} % kept, {shown} % right")
        self.console.print("  ".join(parts), soft_wrap=True)

    def study_ended(self) -> None:
        self.bar.stop()


def title(record: TrialRecord) -> str:
    """`trial 3`, the reference's name, or that of a cell in its block: `mean_teacher · seed 0`."""
    return record.label or f"trial {record.number}"


def short(path: str) -> str:
    """The last part of a path, mIoU in its usual spelling."""
    last = path.rpartition("/")[2]
    return "mIoU" if last == "miou" else last


def duration(seconds: float) -> str:
    """`42 s`, `3:05 min`, `2:10 h`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60) if seconds >= 3600 else int(seconds // 60)
    return f"{minutes // 60}:{minutes % 60:02d} h" if seconds >= 3600 else f"{minutes}:{int(seconds % 60):02d} min"


def adjusted_lines(records: Iterable[TrialRecord]) -> list[str]:
    """What the † in a table says of each run that has one."""
    return [f"† {title(record)}: {adjustment_words(record.adjusted)}" for record in records if record.adjusted]


def leaderboard(records: list[TrialRecord], folder: StudyFolder) -> Table:
    """Complete trials by objective, then references, stopped and failed ones. Neither fresh runs nor those of a
    reference's own search."""
    goal = objectives(folder)[0]
    records = [record for record in records if record.role in ("trial", "reference")]
    sign = -1 if goal.mode == "max" else 1
    order = {"complete": 0, "stopped": 1, "failed": 2, "running": 3}
    ranked = sorted(
        records,
        key=lambda record: (order[record.state], sign * (record.objective if record.objective is not None else 0.0)),
    )
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    columns: tuple[tuple[str, JustifyMethod], ...] = (
        ("", "right"),
        ("trial", "left"),
        ("state", "left"),
        (short(goal.metric), "right"),
        ("steps", "right"),
        ("time", "right"),
        ("parameters", "left"),
    )
    for name, justify in columns:
        table.add_column(name, justify=justify, overflow="fold")
    rank = 0
    for record in ranked:
        is_ranked = record.role == "trial" and record.state == "complete"
        rank += is_ranked
        style = "bold" if is_ranked and rank == 1 else "dim" if record.state != "complete" else ""
        state = "reference" if record.role == "reference" and record.state == "complete" else record.state
        state += "†" if record.adjusted else ""
        cells = (
            str(rank) if is_ranked else "",
            title(record),
            state,
            show(goal.metric, record.objective),
            str(record.step),
            duration(record.seconds_in_all),
        )
        table.add_row(*cells, record.failure["message"] if record.failure else _params(record), style=style)
    return table


def _params(record: TrialRecord) -> str:
    """None of a cell in a block: its name says it."""
    if record.block is not None:
        return ""
    return "  ".join(f"{path.rpartition('.')[2]}={_short_value(value)}" for path, value in record.params.items())


def _short_value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
