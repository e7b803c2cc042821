"""The verb that says how a study stands."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.commands import Studied, console, study_folder

if TYPE_CHECKING:
    from orchestrator.status import Watch

REFRESH = 3.0
"""Seconds between two looks."""


def status(
    study: Studied,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every few seconds, until it is complete.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="A file of clusters/, or a path: the price. Default: that of where the study was begun.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Say how a study stands: who works on it, what runs and how fast, hours and price spent and left, failures.

    It reads the folder, or the store, and nothing else: from any shell or machine that sees it.
    """
    from guidedmix_core import ConfigError
    from orchestrator.clusters import read_cluster
    from orchestrator.status import UNREAD, Watch
    from orchestrator.status_table import status_view

    if watch and (as_json or not console.is_terminal):
        raise ConfigError("--watch: needs a terminal; call `guidedmix status STUDY --json` again and again instead")
    looker = Watch(study_folder(study, UNREAD), None if cluster is None else read_cluster(cluster))
    if watch:
        _watch(looker)
        return
    found = looker.look()
    if as_json:
        print(json.dumps(asdict(found), ensure_ascii=False))
    else:
        console.print(status_view(found))


def _watch(looker: Watch) -> None:
    """Until the study is complete, or Ctrl-C. One that is interrupted may be gone on with."""
    from rich.live import Live

    from orchestrator.status_table import status_view

    try:
        with Live(status_view(found := looker.look()), console=console, auto_refresh=False) as live:
            while found.state != "complete":
                time.sleep(REFRESH)
                live.update(status_view(found := looker.look()), refresh=True)
    except KeyboardInterrupt:
        return
