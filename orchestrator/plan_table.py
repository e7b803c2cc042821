"""A plan as the terminal shows it, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from guidedmix_core import dump
from orchestrator.comparison import ENOUGH_HEADROOM
from orchestrator.console import duration
from orchestrator.plan import Plan
from orchestrator.planned_runs import LEFT
from orchestrator.stage_groups import StageGroup
from orchestrator.units import is_share, scale_of

DONE = {"complete": "complete", "stopped": "stopped early", "failed": "failed", "elsewhere": "of other studies"}
"""States that have a column where a run is in them."""
WIDTH = 140
"""What table and tree may need."""
SHOWN = 40
"""Cells; of more, the first."""
SOURCES = {"run": "complete runs", "probe": "probe", None: "not measured"}


def title(plan: Plan) -> str:
    size = "a search" if plan.blocks is None else f"{_so_many(len(plan.cells), 'cell')} over {_blocks(plan)}"
    return f"{plan.study}: {size}"


def runs_table(plan: Plan) -> Table:
    """A row a cell, and their sum."""
    states = [state for state in (*DONE, *LEFT) if plan.states[state] or state == "new"]
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    names = ["runs", *(DONE.get(state, state) for state in states), "steps left", "a run", "left"]
    table.add_column("cell" if plan.blocks else "", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("known from", no_wrap=True)
    for cell in plan.cells[:SHOWN]:
        counts = [str(sum(cell.states.values())), *(_count(cell.states.get(state, 0)) for state in states)]
        times = [_time(cell.run_seconds), _time(cell.seconds_left) if cell.steps_left else ""]
        table.add_row(*map(Text, [cell.name, *counts, f"{cell.steps_left:,}", *times, SOURCES[cell.source]]))
    if len(plan.cells) > SHOWN:
        table.add_row(Text(f"… and {len(plan.cells) - SHOWN} more", style="dim"))
    counts = [str(sum(plan.states.values())), *(_count(plan.states[state]) for state in states)]
    steps = sum(cell.steps_left for cell in plan.cells)
    table.add_row(*map(Text, ["in all", *counts, f"{steps:,}", "", "", ""]), style="bold")
    return table


def stages_tree(plan: Plan) -> Tree | None:
    """None without stages."""
    if not plan.stages:
        return None
    tree = Tree("stages before the runs, each made once", style="", guide_style="dim")
    _grow(tree, plan.stages)
    return tree


def facts(plan: Plan) -> dict[str, str]:
    """What there is to say of the whole, a line each."""
    left = sum(plan.states[state] for state in LEFT)
    most = " at most" if plan.bound else ""
    said = {"left": f"{_so_many(left, 'run')}, {_so_many(plan.steps_left, 'step')}{most}"}
    if plan.steps_saved:
        saved = f"{plan.steps_saved:,} steps" + ("" if plan.seconds_saved is None else f", {_time(plan.seconds_saved)}")
        said["shared"] = f"stages that are trained once save {saved}"
    if left:
        said["cost"] = _cost(plan)
    if plan.needed.gpus and plan.cluster.num_gpus is not None:
        rate = plan.cluster.price_per_gpu_hour
        each = "their price is not known" if rate is None else f"{rate:.2f} {plan.cluster.currency} an hour each"
        said["cluster"] = (
            f"{_so_many(plan.cluster.num_gpus, 'GPU')} at most, {_so_many(plan.at_once, 'run')} at once; {each}"
        )
    if plan.price is not None:
        said["price"] = f"{plan.price:,.2f} {plan.cluster.currency}{most}"
    if plan.peak_bytes is not None:
        fit = "" if plan.fit_a_gpu is None else f"; {plan.fit_a_gpu} of them fit on a GPU"
        said["memory"] = f"{plan.peak_bytes / 1e9:.1f} GB of tensors in the largest run{fit}"
    if plan.states["failed"]:
        said["failed"] = "runs that failed are not made again; remove their folders to repeat them"
    if plan.blocks is not None:
        said["shows"] = _shows(plan)
    return said


def warnings(plan: Plan) -> list[str]:
    """What speaks against beginning."""
    found = []
    if plan.has_headroom is False:
        found.append(
            f"The ceiling is less than {100 * ENOUGH_HEADROOM:.0f} points of mIoU above few labels alone: labels are "
            "hardly what limits this schedule. Fewer of them, longer training or other data would leave more to gain."
        )
    if not plan.at_once:
        found.append(
            f"No run fits: one needs {plan.needed.gpus or plan.needed.cpus:g} {plan.needed.unit}s. --cluster names "
            "another machine."
        )
    return found


def as_json(plan: Plan) -> dict[str, Any]:
    """Fields and what follows from them; of runs that were not measured, their methods."""
    fields = {name: value for name, value in asdict(plan).items() if name != "unmeasured"}
    return {
        **fields,
        "cluster": dump(plan.cluster),
        "unmeasured": [run.method.name for run in plan.unmeasured.values()],
        "states": dict(plan.states),
        "unit": plan.needed.unit,
        "hours": plan.hours,
        "price": plan.price,
        "wall_seconds": plan.wall_seconds,
    }


def _grow(tree: Tree, groups: Sequence[StageGroup]) -> None:
    for group in groups:
        what = f"{group.method} {group.steps:,} steps" if group.steps else f"pseudo masks of {group.method}"
        made = f", {group.made} of them there" if group.made else ""
        times = _so_many(group.count, "time")
        branch = tree.add(Text(f"{what}: {times}{made}, for {_so_many(group.runs, 'run')} of {', '.join(group.cells)}"))
        _grow(branch, group.then)


def _cost(plan: Plan) -> str:
    unit = f"{plan.needed.unit}-hours"
    if plan.hours is None:
        kinds = ", ".join(dict.fromkeys(run.method.name for run in plan.unmeasured.values()))
        return f"not known: no run like these was measured on this device ({kinds}); --probe measures a few steps"
    bound = f" at most, {plan.bound}" if plan.bound else ""
    said = f"{_hours(plan.hours)} {unit}{bound}"
    if plan.wall_seconds is not None:
        said += f"; about {duration(plan.wall_seconds)} with {plan.at_once} at once"
    return f"{said}, start-up left out"


def _shows(plan: Plan) -> str:
    if plan.blocks == 1:
        return "no difference: one block has no spread; two are needed, three or more are better"
    if plan.effect is None:
        return "not known: no spread is measured of this objective; --sd gives one"
    effect, looks = plan.effect, "" if plan.first_look is None else " and a look after each"
    said = f"differences of {_size(plan, effect.alone)} or more with {_blocks(plan)}{looks}, in 4 of 5 such studies"
    if effect.corrected is not None:
        said += f"; at worst {_size(plan, effect.corrected)} after correcting for {effect.comparisons} comparisons"
    return f"{said} (sd {_size(plan, effect.noise.sd)}, {effect.noise.source})"


def _blocks(plan: Plan) -> str:
    blocks = _so_many(plan.blocks or 0, "block")
    return blocks if plan.first_look is None else f"{plan.first_look} to {blocks}"


def _size(plan: Plan, difference: float) -> str:
    value = scale_of(plan.metric) * difference
    return f"{value:.2f} points" if is_share(plan.metric) else f"{value:.4g}"


def _so_many(number: int, noun: str) -> str:
    """`1 run`, `1,200 runs`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _hours(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 1 else f"{hours:.2g}"


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _time(seconds: float | None) -> str:
    return "?" if seconds is None else duration(seconds)
