"""Verbs about what can be asked for: files, components, values. Nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import indent
from typing import Annotated

import typer
from rich.text import Text

from orchestrator.commands import Changes, console, errors, plain_table

FAMILIES = ("methods", "datasets", "segmentors", "backbones", "designs", "runs", "searches", "ablations")
LONGEST = 36
"""Letters of a path or a value that the columns of `show` are made for; what is longer moves its own line."""
SHELVES = {"runs": "base", "searches": "search", "ablations": "ablation"}


def show(base: Annotated[str, typer.Argument(help="A run, or a YAML file.")], changes: Changes = None) -> None:
    """Print the resolved run: every value and where it came from (default, file:line, command line)."""
    from guidedmix_core import build, explain, fingerprint, override, parse_changes
    from orchestrator.chains import chain_words
    from orchestrator.kinds import read_base

    tree = override(read_base(base), parse_changes(changes or []), "command line")
    config = build(tree)
    rows = [(path, json.dumps(value), _short(origin)) for path, value, origin in explain(tree, config)]
    path_width, value_width = (min(LONGEST, max(len(row[i]) for row in rows)) for i in (0, 1))
    for path, value, origin in [("path", "value", "origin"), *rows]:
        said = f"{path:<{path_width}}  {value:<{value_width}}  {origin}"
        console.print(Text(said, style="dim" if origin in ("origin", "default") else ""), soft_wrap=True)
    if chain := chain_words(config):
        console.print(Text(f"chain       {chain}"), soft_wrap=True)
    console.print(f"fingerprint {fingerprint(config)}")


def _short(origin: str) -> str:
    """Of a file in `search_spaces/`, its place there."""
    from guidedmix_core import search_spaces

    return next((origin.removeprefix(f"{at}/") for at in search_spaces() if origin.startswith(f"{at}/")), origin)


def check(
    files: Annotated[
        list[str] | None, typer.Argument(help="Runs, searches and ablations; default: all.", show_default=False)
    ] = None,
) -> None:
    """Build every run, every corner of every search space and every cell of every ablation, and print what is wrong.
    Nothing is trained, no data is opened."""
    from guidedmix_core import ConfigError
    from orchestrator.checking import check_file, known_files

    wrong = 0
    for name in files or known_files():
        try:
            console.print(Text(f"{name}: {check_file(name)}"), soft_wrap=True)
        except ConfigError as error:
            wrong += 1
            errors.print(Text(f"{name}:\n{indent(str(error), '  ')}", style="red"), soft_wrap=True)
    if wrong:
        raise typer.Exit(2)


def list_(family: Annotated[str, typer.Argument(metavar="FAMILY", help=f"One of {', '.join(FAMILIES)}.")]) -> None:
    """List the components of a family, or the runs, searches and ablations that can be named."""
    from guidedmix_core import ConfigError, find, names, nearest
    from orchestrator.checking import known_files

    if family not in FAMILIES:
        raise ConfigError(f"no family {family!r}; {nearest(family, FAMILIES)}")
    if family in SHELVES:
        for name in known_files():
            if name.startswith(f"{SHELVES[family]}/"):
                console.print(name)
        return
    table = plain_table()
    package = "orchestrator.designs" if family == "designs" else family
    for name in names(package):
        table.add_row(name, Text((find(package, name).__doc__ or "").strip().partition("\n")[0], style="dim"))
    console.print(table)


def schema(
    directory: Annotated[
        Path, typer.Option("--directory", help="Where they go; that of clusters goes to `clusters/` beside it.")
    ] = Path("search_spaces"),
) -> None:
    """Write the JSON Schemas with which editors complete and check the YAML files."""
    from orchestrator.schemas import write_schemas

    for path in write_schemas(directory):
        console.print(str(path))
