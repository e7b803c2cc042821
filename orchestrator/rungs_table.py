"""What `guidedmix rungs` prints: rank agreement by step, whom successive halving would have stopped, other settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from orchestrator.console import short, show
from orchestrator.rungs import CHANCE, MIN_FOR_INTERVAL, Agreement, Replay
from orchestrator.stats import COVERAGE
from orchestrator.stored_curves import StoredCurves


def headline(stored: StoredCurves) -> list[Text]:
    """What is compared, and what can't be."""
    n, goal, steps = len(stored.curves), stored.objective, stored.curves[0].steps
    lines = [Text(f"{n} curves of {short(goal.metric)}, each of one {stored.unit}, over {steps} steps")]
    if stored.stopped:
        were = "trial was" if stored.stopped == 1 else "trials were"
        lines.append(
            Text(
                f"{stored.stopped} {were} stopped early: how they would have ended is not known. The {n} complete ones "
                "are those that the scheduler let pass, so neither agreement nor replay is that of all trials; "
                "scheduler.name=none gives a study that can tell.",
                style="yellow",
            )
        )
    if stored.left_out:
        lines.append(Text(f"left out: {', '.join(f'{count} {reason}' for reason, count in stored.left_out.items())}"))
    return lines


def agreement_table(found: Iterable[Agreement], stored: StoredCurves) -> Table:
    table = _table(
        "step", "share", "Spearman", f"{100 * COVERAGE:.0f} % interval", "Kendall", "place of the final best"
    )
    for row in found:
        interval = "" if row.interval is None else f"{row.interval[0]:.2f} to {row.interval[1]:.2f}"
        share = f"{100 * row.step / stored.curves[0].steps:.0f} %"
        table.add_row(str(row.step), share, _rank(row.spearman), interval, _rank(row.kendall), str(row.place))
    return table


def few_runs(n: int) -> str | None:
    """What so few ranks can show; None if there are enough for an interval."""
    if n >= MIN_FOR_INTERVAL:
        return None
    said = f"{n} runs are too few for an interval. "
    if n not in CHANCE:
        return f"{said}No Spearman of {n} ranks is beyond chance."
    return f"{said}Without any agreement, a Spearman of ±{CHANCE[n]:.2f} or beyond turns up once in twenty times."


def replay_lines(done: Replay, stored: StoredCurves) -> list[Text]:
    metric = stored.objective.metric
    rungs = f"rungs at {', '.join(map(str, done.rungs))}" if done.rungs else "no rung before the end"
    lines = [
        Text(
            f"asha with first_rung {done.first_rung:g} and eta {done.eta} ({rungs}) would have stopped "
            f"{len(done.stopped)} of {len(stored.curves)} and saved {100 * done.saved:.0f} % of the steps"
        )
    ]
    if done.keeps_best:
        lines.append(Text(f"it keeps the best, {done.best}", style="green"))
    else:
        lost = (
            f"it stops the best, {done.best}, at step {done.stopped[done.best]}: regret {_points(metric, done.regret)}"
        )
        lines.append(Text(lost, style="red"))
    kept = sum(name not in done.stopped for name in done.top)
    stopped = ", ".join(f"{name} at {step}" for name, step in done.stopped.items())
    lines.append(Text(f"of the best {len(done.top)} at the end ({', '.join(done.top)}) it keeps {kept}"))
    return [*lines, Text(f"stopped: {stopped}", style="dim")] if stopped else lines


def grid_table(done: Sequence[Replay], stored: StoredCurves) -> Table:
    """In the recorded order; and how many of the random orders lose the best."""
    table = _table("first_rung", "eta", "rungs", "saved", "regret", "the best", "lost in random orders")
    for each in done:
        table.add_row(
            f"{each.first_rung:g}",
            str(each.eta),
            ", ".join(map(str, each.rungs)) or "none",
            f"{100 * each.saved:.0f} %",
            _points(stored.objective.metric, each.regret),
            "kept" if each.keeps_best else f"stopped at {each.stopped[each.best]}",
            f"{100 * each.lost_in_orders:.0f} %",
        )
    return table


def as_json(stored: StoredCurves, found: Sequence[Agreement], asked: Replay, done: Sequence[Replay]) -> dict[str, Any]:
    return {
        "metric": stored.objective.metric,
        "mode": stored.objective.mode,
        "unit": stored.unit,
        "curves": len(stored.curves),
        "stopped": stored.stopped,
        "left_out": stored.left_out,
        "steps": stored.curves[0].steps,
        "agreement": [asdict(row) for row in found],
        "asked": asdict(asked),
        "grid": [asdict(each) for each in done],
    }


def _rank(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _points(metric: str, value: float) -> str:
    return f"{show(metric, value)} points" if "iou" in metric.lower() else show(metric, value)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table
