"""Is early stopping safe here? A verb that reads a study's curves and trains nothing."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from orchestrator.commands import console, study_folder

WIDTH = 100
"""What the widest table needs; a narrower terminal breaks its lines."""


def rungs(
    study: Annotated[str, typer.Argument(help="The folder of a search or an ablation, or its URI.")],
    first_rung: Annotated[
        float | None,
        typer.Option(
            help="The share of a run before which nothing is stopped. Default: the study's.", show_default=False
        ),
    ] = None,
    eta: Annotated[
        int | None, typer.Option(help="The best 1/eta at a rung go on. Default: the study's.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Is early stopping safe here? How soon the order of the runs shows, and whom successive halving would have
    stopped, from the curves of complete runs. Of an ablation, a curve is the mean of a cell over its blocks."""
    from guidedmix_core import Tree, build
    from orchestrator import rungs_table as shown
    from orchestrator.rungs import agreements, replay, replays
    from orchestrator.stored_curves import stored_curves
    from orchestrator.study import SchedulerSettings

    folder = study_folder(study)
    own = folder.request().get("scheduler", {})
    given = {"first_rung": first_rung, "eta": eta}
    settings = {key: own[key] for key in given if own.get("name") == "asha"}
    settings |= {key: value for key, value in given.items() if value is not None}
    scheduler = build(Tree(settings, dict.fromkeys(settings, "command line")), SchedulerSettings)
    stored = stored_curves(folder)
    found, asked, grid = agreements(stored.curves), replay(stored.curves, scheduler), replays(stored.curves, scheduler)
    if as_json:
        print(json.dumps(shown.as_json(stored, found, asked, grid), indent=2))
        return
    for line in shown.headline(stored):
        console.print(line, soft_wrap=True)
    console.print("\nrank agreement with the end" if found else "\none evaluation a run: nothing comes before the end")
    if found:
        console.print(shown.agreement_table(found, stored), soft_wrap=True)
        if words := shown.few_runs(len(stored.curves)):
            console.print(Text(words, style="yellow"), soft_wrap=True)
    console.print()
    for line in shown.replay_lines(asked, stored):
        console.print(line, soft_wrap=True)
    console.print("\nother settings, runs in their recorded order")
    wide = Console(markup=False, emoji=False, highlight=False, width=max(console.width, WIDTH))
    wide.print(shown.grid_table(grid, stored), soft_wrap=True)
    truth = f"Final values are taken for the truth, each that of one {stored.unit}: a small regret is within the noise."
    console.print(Text(truth, style="dim"), soft_wrap=True)
