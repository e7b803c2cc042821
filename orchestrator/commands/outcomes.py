"""What the terminal says of a study when its runs have ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from orchestrator.commands import console, print_next

if TYPE_CHECKING:
    from orchestrator.folder import StudyFolder
    from orchestrator.results import TrialRecord


def print_search(folder: StudyFolder) -> None:
    """The leaderboard, what the search may claim, and where to look."""
    from orchestrator.confirmation_table import print_confirmation
    from orchestrator.console import leaderboard
    from orchestrator.results import load_trials

    console.print()
    console.print(leaderboard(records := load_trials(folder), folder))
    _print_adjusted(records)
    console.print()
    print_confirmation(folder, console)
    _print_reused(records, folder)
    own = "guidedmix tune search/guidedmix data.name=folder data.root=DIR …   (see README, Your own data)"
    print_next({**_where_to_look(folder), "your data": own})


def print_run(record: TrialRecord, folder: StudyFolder) -> None:
    """What a single run came to, and where to look."""
    from orchestrator.console import short
    from orchestrator.results import objectives
    from orchestrator.storage import shown
    from orchestrator.units import show

    metric, checkpoint = objectives(folder)[0].metric, shown(folder.trial(record.fingerprint).checkpoint / "best.pt")
    said = f"{short(metric)} {show(metric, record.objective)} at step {record.step}"
    if record.best is not None and record.best["step"] != record.step:
        said += f", best {show(metric, record.best['metrics'][metric])} at step {record.best['step']}"
    _print_adjusted([record])
    predict = f"guidedmix predict {checkpoint} IMAGES -o DIR"
    print_next({"result": said, **_where_to_look(folder), "checkpoint": checkpoint, "predict": predict})


def print_ablation(folder: StudyFolder) -> None:
    """The cells beside their reference, how they were judged, and where to look."""
    from orchestrator.cells_table import WIDTH, cells_table, headroom_line
    from orchestrator.comparison import asked_for, compare
    from orchestrator.effects_table import effects_table, images_table
    from orchestrator.image_bootstrap import MEANING, image_gaps, without_gaps
    from orchestrator.notes import notes
    from orchestrator.results import load_trials
    from orchestrator.signs import meaning

    request, records = folder.request(), load_trials(folder)
    comparison = compare(request, records)
    console.print()
    wide = Console(markup=False, emoji=False, highlight=False, width=max(console.width, WIDTH))
    wide.print(cells_table(comparison), soft_wrap=True)
    _print_adjusted(run for cell in comparison.cells for run in cell.adjusted)
    for sentence in notes(comparison):
        console.print(Text(sentence, style="dim"))
    if (table := effects_table(comparison)) is not None:
        console.print()
        wide.print(table, soft_wrap=True)
    if comparison.effects is not None and comparison.effects.absent:
        console.print(Text(f"No effects of factors: {comparison.effects.absent}.", style="dim"))
    gaps = image_gaps(folder, comparison, comparison.cells)
    if (table := images_table(comparison, gaps)) is not None:
        console.print()
        wide.print(table, soft_wrap=True)
        console.print(Text(f"{MEANING} {meaning(comparison.cells)}".rstrip(), style="dim"))
    for sentence in without_gaps(gaps):
        console.print(Text(sentence, style="dim"))
    if (line := headroom_line(comparison)) is not None:
        console.print()
        console.print(line, soft_wrap=True)
    console.print()
    _print_reused(asked_for(request, records), folder)
    print_next(_where_to_look(folder))


def _print_reused(records: Iterable[TrialRecord], folder: StudyFolder) -> None:
    from orchestrator.reuse import reused_words

    if (words := reused_words(records, folder)) is not None:
        console.print(Text(words), soft_wrap=True)
        console.print()


def _print_adjusted(records: Iterable[TrialRecord]) -> None:
    from orchestrator.console import adjusted_lines

    for line in dict.fromkeys(adjusted_lines(records)):  # equal cells share their runs
        console.print(Text(line, style="dim"), soft_wrap=True)


def _where_to_look(folder: StudyFolder) -> dict[str, str]:
    from orchestrator.storage import home, shown

    is_tracked = any(trial.mlflow.exists() for trial in folder.trials())
    ui = {"MLflow": f"guidedmix ui {folder.place}"} if is_tracked or home(folder.path) else {}
    return {"report": shown(folder.report), **ui}
