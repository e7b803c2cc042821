"""Verbs about where runs are made. Nothing is started."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from orchestrator.commands import console, errors, plain_table, print_next

if TYPE_CHECKING:
    from orchestrator.clusters import Cluster

app = typer.Typer(no_args_is_help=True, help="Look at clusters, and render the files that make them.")


@app.callback()
def cluster() -> None:
    """Look at clusters, and render the files that make them."""


@app.command("list")
def list_() -> None:
    """List the clusters that can be named: the files in `clusters/` here, and those of the project."""
    from guidedmix_core import ConfigError
    from orchestrator.clusters import known_clusters, read_cluster

    table = plain_table(header=True)
    for title in ("cluster", "kind", "GPUs", "GPU-hour", "studies"):
        table.add_column(title, justify="right" if title.startswith("GPU") else "left", no_wrap=True)
    wrong = []
    for name in sorted(known_clusters()):
        try:
            found = read_cluster(name)
        except ConfigError as error:
            wrong.append(str(error))
        else:
            table.add_row(*map(Text, (name, *_row(found))))
    console.print(table, soft_wrap=True)
    if wrong:
        errors.print(Text("\n".join(wrong), style="red"), soft_wrap=True)
        raise typer.Exit(2)


@app.command()
def render(
    name: Annotated[str, typer.Argument(help="A file of clusters/, or a path.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FIELD=VALUE]... [-- COMMAND]",
            help="Changes such as `max_workers=8`, and what is to run there.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder to write to. Default: print.", show_default=False)
    ] = None,
) -> None:
    """Render the files of the tool that makes a cluster: `ray up`, `kubectl apply`, `sbatch` or `sky launch`.

    Each begins with the commands that use it and clean up after it. No secret is in them.
    """
    from guidedmix_core import ConfigError, find, names
    from orchestrator.clusters import Cluster, filled_cluster, read_cluster
    from orchestrator.folder import no_place

    changes, command = _split(words or [])
    kinds = {kind: find(Cluster.family, kind) for kind in names(Cluster.family)}
    made = [kind for kind, found in kinds.items() if vars(Cluster)["render"] is not getattr(found, "render", None)]
    if (kind := read_cluster(name, changes).name) not in made:
        raise ConfigError(f"{name}: kind: {kind} has no files to render; those that have: {', '.join(made)}")
    files = filled_cluster(name, changes).render(command)
    if output is None:
        for file, text in files.items():
            console.print(Text((f"# ==== {file}\n" if len(files) > 1 else "") + text), soft_wrap=True)
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            (output / file).write_text(text)
            print_next({"written": str(output / file)})
    except OSError as error:
        raise no_place(output, error) from None


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Changes and command: typer leaves no trace of the `--` between them."""
    from guidedmix_core import ConfigError

    changes = list(takewhile(lambda word: re.match(r"[\w.]+=", word), words))
    command = words[len(changes) :]
    if command and command[0] != "guidedmix":
        raise ConfigError(f"{command[0]!r}: expected FIELD=VALUE, or a command that begins with guidedmix")
    return changes, command


def _row(cluster: Cluster) -> tuple[str, str, str, str]:
    """Kind, GPUs, price, storage."""
    gpus = "all" if cluster.num_gpus is None else str(cluster.num_gpus)
    rate = cluster.price_per_gpu_hour
    return cluster.name, gpus, "" if rate is None else f"{rate:.2f} {cluster.currency}", cluster.storage or "studies/"
