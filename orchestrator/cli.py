"""The command line: `guidedmix VERB …`. Each verb checks its request first; exit code 2 is a wrong request, 1 a run
that failed, 3 a study above its budget."""

from __future__ import annotations

import sys

import typer
from rich.text import Text

from orchestrator.arrival import check_arrival
from orchestrator.commands import (
    checkpoints,
    clusters,
    compare,
    data,
    doctor,
    errors,
    jobs,
    plans,
    requests,
    rungs,
    status,
    studies,
)
from orchestrator.provenance import quiet_dependencies

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Search, ablate and compare semi-supervised segmentation methods around a GuidedMix-Net core.\n\n"
    "Start with `guidedmix tune search/demo`. A change is spelled `dotted.path=value` everywhere: on the command "
    "line, in YAML, in reports.",
)
app.command()(plans.plan)
app.command()(studies.tune)
app.command()(studies.ablate)
app.command()(studies.train)
app.command()(jobs.submit)
app.command("jobs")(jobs.list_jobs)
app.command()(jobs.logs)
app.command()(jobs.stop)
app.command()(requests.show)
app.command()(requests.check)
app.command("list")(requests.list_)
app.command()(checkpoints.evaluate)
app.command()(checkpoints.predict)
app.command()(studies.ui)
app.command()(status.status)
app.command()(studies.report)
app.command()(rungs.rungs)
app.command()(compare.compare)
app.command()(studies.register)
app.command()(doctor.doctor)
app.command()(requests.schema)
app.add_typer(clusters.app, name="cluster")
app.add_typer(data.app, name="data")


def main() -> None:
    """The entry point: a wrong request is told in plain words, with exit code 2."""
    quiet_dependencies()
    try:
        check_arrival()
        app()
    except Exception as error:
        from guidedmix_core import ConfigError  # not before: `--help` need not wait for torch

        if not isinstance(error, ConfigError):
            raise
        errors.print(Text(str(error), style="red"), soft_wrap=True)
        sys.exit(2)
