"""The verb that puts studies side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from orchestrator.commands import console, study_folder

if TYPE_CHECKING:
    from orchestrator.standings import Entry

FOREIGN = "mlflow:"


def compare(
    studies: Annotated[
        list[str],
        typer.Argument(metavar="STUDY...", help="Folders of studies, their URIs, and `mlflow:EXPERIMENT` of any tool."),
    ],
    metric: Annotated[
        str | None, typer.Option(help="Of the last evaluation. Default: the studies' objective.", show_default=False)
    ] = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Show studies of unlike protocols too, marked with what differs.")
    ] = False,
    csv: Annotated[Path | None, typer.Option(help="Also write the rows to this file.", show_default=False)] = None,
    mlflow: Annotated[
        str | None,
        typer.Option(envvar="MLFLOW_TRACKING_URI", help="Tracking URI of `mlflow:EXPERIMENT`.", show_default=False),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(help="A parameter of `mlflow:EXPERIMENT` that decides nothing, such as an output folder."),
    ] = None,
) -> None:
    """Put studies side by side: a row a cell, a reference, the winner of a search, or a run, with n and interval.

    Refuses studies that were judged on other data, splits, classes, crops or parts, and names what differs. Of an
    experiment that another tool logged to MLflow, runs of equal parameters but for seeds are one row. A search enters
    with the fresh runs of its winners, if it has any.
    """
    from orchestrator.report.sheets import written
    from orchestrator.standings import judged
    from orchestrator.standings_table import footnotes, sheet, standings_table

    chosen, entries = _read(studies, metric, mlflow, ignore or [])
    found = judged(entries, anyway=anyway)
    wide = Console(markup=False, emoji=False, highlight=False, width=max(console.width, 120))
    wide.print(standings_table(found, chosen), soft_wrap=True)
    for line in footnotes(found):
        console.print(Text(line, style="dim"), soft_wrap=True)
    if csv is not None:
        from orchestrator.folder import write_atomic

        write_atomic(csv, written(sheet(found, chosen)))
        console.print(Text(str(csv)), soft_wrap=True)


def _read(names: list[str], metric: str | None, mlflow: str | None, ignored: list[str]) -> tuple[str, list[Entry]]:
    """The metric, and the entries in the order they were asked for. ConfigError says what can't be compared."""
    from guidedmix_core import ConfigError
    from orchestrator.foreign import entry_of
    from orchestrator.standings import metric_of, mode_of, read_entry

    if len(set(names)) < 2:
        raise ConfigError(f"compare {' '.join(names)}: one study; give two or more (one is shown by guidedmix report)")
    folders = {name: study_folder(name) for name in names if not name.startswith(FOREIGN)}
    metrics = {metric_of(folder): name for name, folder in folders.items()}
    if metric is None and len(metrics) != 1:
        found = "; ".join(f"{name} by {each}" for each, name in metrics.items()) or "MLflow does not say by which"
        raise ConfigError(f"--metric: which one? The studies are judged by different ones: {found}")
    chosen = metric or next(iter(metrics))
    mode, entries = mode_of(folders.values(), chosen), []
    for name in dict.fromkeys(names):
        if name in folders:
            entries.append(read_entry(folders[name], chosen))
            continue
        from orchestrator.tracking import read_experiment

        if not mlflow:
            raise ConfigError(f"{name}: where is MLflow? Set MLFLOW_TRACKING_URI, or give --mlflow URI")
        experiment = name.removeprefix(FOREIGN)
        entries.append(entry_of(experiment, read_experiment(mlflow, experiment), chosen, mode, ignored))
    if len({entry.name for entry in entries}) < len(entries):
        entries = [replace(entry, name=name) for name, entry in zip(dict.fromkeys(names), entries, strict=True)]
    return chosen, entries
