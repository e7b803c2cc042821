"""How a study stands, as the terminal shows it."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.console import STYLES, duration, short
from orchestrator.status import Failed, Out, Status
from orchestrator.units import show

STATES = {"running": "cyan", "interrupted": "yellow", "complete": "green"}
SHOWN = 30
"""Runs that are out; of more, the first."""
BAR = 40


def status_view(status: Status) -> RenderableType:
    """All there is to say, in the order in which one asks."""
    parts: list[RenderableType] = [_title(status), _bar(status), _counts(status), Text()]
    if status.out:
        parts += [_out_table(status), Text()]
    parts.append(_facts(status))
    if status.failures:
        parts += [Text(), _failures(status.failures)]
    return Group(*parts)


def _title(status: Status) -> Text:
    line = Text.assemble((status.study, "bold"), "  ", (status.state, STATES[status.state]))
    on = f" on {status.host}" if status.host else ""
    if status.state == "running":
        line.append(f"{on} for {duration(status.seconds)}", "dim")
    elif status.state == "interrupted":
        line.append(f": nobody works on it; the last start was{on}, {duration(status.seconds)} ago", "dim")
    return line


def _bar(status: Status) -> Table:
    style, line = STATES[status.state], Table.grid()
    line.add_row(ProgressBar(max(1, status.planned), status.ended, BAR, complete_style=style, finished_style=style))
    return line


def _counts(status: Status) -> Text:
    counts = Text(f"{status.ended} of {status.planned} ended", "bold")
    for state in ("complete", "stopped", "failed", "running", "waiting"):
        if number := getattr(status, state):
            counts.append(f"  {number} {state}", f"not bold {STYLES.get(state, 'dim')}")
    return counts


def _out_table(status: Status) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("run", no_wrap=True, overflow="ellipsis")
    for name in ("step", short(status.metric), "steps/s", "last report"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in status.out[:SHOWN]:
        table.add_row(*map(Text, _row(run, status.metric)))
    if len(status.out) > SHOWN:
        table.add_row(Text(f"… and {len(status.out) - SHOWN} more", style="dim"))
    return table


def _row(run: Out, metric: str) -> list[str]:
    speed = "-" if run.steps_per_second is None else f"{run.steps_per_second:.3g}"
    step = run.stage or f"{run.step:,}/{run.steps:,}"
    reported = "none yet" if run.reported is None else f"{duration(run.reported)} ago"
    return [run.title, step, show(metric, run.objective), speed, reported]


def _facts(status: Status) -> Table:
    said: dict[str, str] = {}
    if status.best is not None:
        said["best"] = f"{status.best[0]}: {short(status.metric)} {show(status.metric, status.best[1])}"
    if status.steps_per_second is not None:
        runs = "1 run" if status.running == 1 else f"{status.running} runs"
        said["speed"] = f"{status.steps_per_second:.3g} steps/s in {runs}"
    said["spent"] = _hours(status, status.hours_spent, status.price_spent)
    if status.state != "complete":
        left = f"{status.steps_left:,} steps"
        if status.hours_left is not None:
            left += f", {_hours(status, status.hours_left, status.price_left)}"
        said["left"] = left
    if status.seconds_left is not None:
        said["time left"] = f"about {duration(status.seconds_left)}, {_assumed(status)}"
    said["disk"] = _size(status.disk_bytes)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim", min_width=9)
    table.add_column(overflow="fold")
    for name, words in said.items():
        table.add_row(name, Text(words))
    return table


def _assumed(status: Status) -> str:
    words = "if as many runs go on as now, as fast"
    to_come = status.waiting and status.steps_to_come
    return f"{words}, and those to come take {status.steps_to_come:,} steps each" if to_come else words


def _hours(status: Status, hours: float, price: float | None) -> str:
    words = f"{hours:.3g} {status.unit}-hours"
    return words if price is None else f"{words}, {price:,.2f} {status.currency}"


def _failures(failures: tuple[Failed, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("failed", no_wrap=True)
    table.add_column("why")
    table.add_column("cure")
    for failed in failures:
        first, *others = failed.runs
        why = f"{first}{f' and {len(others)} more' if others else ''}: {failed.message}"
        table.add_row(Text(f"{len(failed.runs)} {failed.reason}", style="red"), Text(why), Text(failed.cure, "dim"))
    return table


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
