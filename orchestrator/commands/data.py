"""Verbs about data on disk. Nothing is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from orchestrator.commands import console, errors, plain_table, print_next

if TYPE_CHECKING:
    from guidedmix_core import Classes
    from orchestrator.inspection import Inspection, PartFacts

SHOWN_PROBLEMS = 20

app = typer.Typer(no_args_is_help=True, help="Look at data sets on disk.")


@app.callback()
def data() -> None:
    """Look at data sets on disk."""


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="A data set (`guidedmix list datasets`), or a run that has one.")],
    fields: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FIELD=VALUE]...", help="Its fields, such as `root=DIR`.", show_default=False),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Where the picture goes. Default: NAME_sheet.png.", show_default=False),
    ] = None,
) -> None:
    """Open every image and mask: counts, sizes, share of each class, what is wrong; and a picture of a few of them.

    Exit code 1 if something is wrong with the data, 2 if the request is wrong.
    """
    from orchestrator.contact_sheet import Row, contact_sheet
    from orchestrator.inspection import inspect, list_parts, named_dataset, shown_images

    dataset = named_dataset(name, fields or [])
    listed, problems = list_parts(dataset)
    with Progress(
        TextColumn("reading"),
        BarColumn(40),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("", total=sum(map(len, listed.values())))
        found = inspect(dataset, listed, problems, lambda: bar.advance(task))
    console.print(_facts(found))
    console.print()
    console.print(_shares(found, dataset.classes()))
    rows = [Row(_title(part, found), _note(part), shown_images(part, 6)) for part in found.parts]
    path = sheet or Path(f"{Path(name).stem}_sheet.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(dataset, f"{name}, {len(dataset.classes())} classes", rows).save(path)
    console.print()
    print_next({"picture": str(path)})
    if found.problems:
        _complain(found.problems)
        raise typer.Exit(1)
    console.print("nothing is wrong", style="green")


def _facts(found: Inspection) -> Table:
    table = plain_table(header=True)
    table.add_column("")
    for part in found.parts:
        table.add_column(_title(part, found), justify="right")
    rows = {
        "images": lambda part: str(len(part.seen)),
        "masks": lambda part: str(len(part.masked)),
        "height x width": _size,
        "ignored": lambda part: _percent(part.pixels[-1] / max(1, part.pixels.sum())),
    }
    for title, show in rows.items():
        table.add_row(title, *(show(part) for part in found.parts))
    return table


def _shares(found: Inspection, classes: Classes) -> Table:
    """Of each class in each part: its share of the pixels that have a class, and how many masks have it."""
    table = plain_table(header=True)
    table.add_column("\nclass")
    for part in found.parts:
        table.add_column(f"{_title(part, found)}\nshare", justify="right")
        table.add_column("\nin masks", justify="right")
    for i, name in enumerate(classes.names):
        cells = []
        for part in found.parts:
            count = int(part.present[:, i].sum())
            style = "" if count else "red"
            cells += [Text(_percent(part.shares[i]), style), Text(str(count), style)]
        swatch = Text("■ ", style="rgb({},{},{})".format(*classes.palette[i]))
        table.add_row(swatch + Text(name), *cells)
    return table


def _title(part: PartFacts, found: Inspection) -> str:
    """`val = test`, where the one is the other."""
    return " = ".join([part.part, *(name for name, other in found.repeats.items() if other == part.part)])


def _size(part: PartFacts) -> str:
    """`360x480`, or the extremes of each side."""
    if not part.sizes:
        return "-"
    heights, widths = zip(*part.sizes, strict=True)
    return "x".join(str(low) if low == high else f"{low}-{high}" for low, high in map(_extremes, (heights, widths)))


def _extremes(values: tuple[int, ...]) -> tuple[int, int]:
    return min(values), max(values)


def _percent(share: float) -> str:
    return "-" if share != share else f"{100 * share:.2f} %"


def _note(part: PartFacts) -> str:
    return f"{len(part.seen)} images, {len(part.masked)} masks, {_size(part)}"


def _complain(problems: list[str]) -> None:
    errors.print(f"{len(problems)} problems", style="red")
    for problem in problems[:SHOWN_PROBLEMS]:
        errors.print(Text(f"  {problem}"), soft_wrap=True)
    if len(problems) > SHOWN_PROBLEMS:
        errors.print(f"  … and {len(problems) - SHOWN_PROBLEMS} more", style="dim")
