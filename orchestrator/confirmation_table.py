"""What the terminal says below a search's leaderboard: whether references were tuned, and what fresh runs show."""

from __future__ import annotations

from functools import partial

from rich.console import Console
from rich.text import Text

from orchestrator.budgets import TunedRuns, budgets
from orchestrator.cells_table import WIDTH, cells_table, signed
from orchestrator.confirmation import Confirmation, confirmation
from orchestrator.console import duration, show
from orchestrator.folder import StudyFolder
from orchestrator.notes import notes
from orchestrator.results import load_trials, objectives_of


def print_confirmation(folder: StudyFolder, console: Console) -> None:
    """Nothing where a search has neither references nor fresh runs."""
    request, records = folder.request(), load_trials(folder)
    spent, found = budgets(TunedRuns(folder), request, records), confirmation(request, records)
    metric = objectives_of(request)[0].metric
    said = [Text(line) for line in spent.sentences(partial(show, metric), duration)]
    said += [Text(line, style="yellow") for line in spent.warnings]
    if isinstance(found, str):
        said.append(Text(found, style="red"))
    for line in said:
        console.print(line, soft_wrap=True)
    if isinstance(found, Confirmation):
        _print_fresh(found, console)
    if said or found:
        console.print()


def _print_fresh(found: Confirmation, console: Console) -> None:
    metric = found.comparison.objective.metric
    console.print()
    console.print(Text(f"fresh runs: {found.comparison.blocks} blocks of {', '.join(found.paths)}", style="bold"))
    wide = Console(markup=False, emoji=False, highlight=False, width=max(console.width, WIDTH), file=console.file)
    wide.print(cells_table(found.comparison), soft_wrap=True)
    for line in notes(found.comparison):
        console.print(Text(line, style="dim"))
    console.print()
    for line in found.sentences(partial(show, metric), partial(signed, metric)):
        console.print(Text(line), soft_wrap=True)
    for line in found.warnings:
        console.print(Text(line, style="yellow"), soft_wrap=True)
