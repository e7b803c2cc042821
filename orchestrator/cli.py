"""The command line: `guidedmix VERB …`. Each verb checks its request first; exit code 2 is a wrong request, 1 a run
that failed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from textwrap import indent
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

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
console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

Changes = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PATH=VALUE]...", help="Changes, such as `method.mix.lambda_max=0.3`.", show_default=False),
]
StudyDir = Annotated[
    Path | None, typer.Option("--study", help="The study's folder. Default: studies/NAME.", show_default=False)
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N. auto takes a GPU if there is one.")]
Family = Literal["methods", "datasets", "segmentors", "backbones", "runs", "searches"]


@app.command()
def tune(
    file: Annotated[str, typer.Argument(help="A search: `search/demo`, or a YAML file.")],
    changes: Changes = None,
    study: StudyDir = None,
    executor: Annotated[
        Literal["ray_tune", "inline"],
        typer.Option(
            help="ray_tune: trials side by side, here or on a cluster. inline: one after another in this process, "
            "for debugging."
        ),
    ] = "ray_tune",
    device: Annotated[
        str, typer.Option(help="auto: as `scaling.gpus_per_worker` says, 0 is the CPU. cpu, or cuda: a GPU each.")
    ] = "auto",
) -> None:
    """Search a space: sample, train, stop the bad ones early, log every trial, write the report.

    Running the same command again resumes: finished trials are kept, interrupted ones go on from their checkpoint.

    Changes go to the run that is searched (`data.name=camvid data.root=DIR`); those under `search.`, `scheduler.`,
    `scaling.`, `tracking.` and `objective.` go to the search itself.
    """
    from orchestrator.console import StudyConsole
    from orchestrator.executors import executor_named
    from orchestrator.folder import StudyFolder
    from orchestrator.report import write_report
    from orchestrator.study import load_study
    from orchestrator.tracking import tracker

    request, base = load_study(file, changes or [])
    folder = StudyFolder(study or Path("studies") / Path(file).stem)
    windows = tracker(request.tracking.mlflow, folder)
    try:
        executor_named(executor)(request, base, folder, [*windows, StudyConsole(console)], device)
    except KeyboardInterrupt:
        errors.print(f"Interrupted. Nothing is lost: the same command goes on with {folder.path}.")
        raise typer.Exit(130) from None
    report = write_report(folder)
    for window in windows:
        window.catch_up()  # MLflow gets the report, too
    _print_study(folder, report)
    _exit_by_outcome(folder)


@app.command()
def train(
    base: Annotated[str, typer.Argument(help="A run: `base/guidedmix_paper`, or a YAML file.")],
    changes: Changes = None,
    study: StudyDir = None,
    device: Device = "auto",
    mlflow: Annotated[
        str, typer.Option(help="MLflow's tracking URI. `{study}` is the study's folder; empty: no MLflow.")
    ] = "sqlite:///{study}/mlflow.db",
) -> None:
    """Train one run, with live loss and mIoU. Running it again resumes it, or shows its result if it is done."""
    from guidedmix_core import build, fingerprint, override, parse_changes, read_run
    from orchestrator.console import RunConsole
    from orchestrator.folder import StudyFolder
    from orchestrator.report import write_report
    from orchestrator.single import train_one
    from orchestrator.tracking import tracker

    tree = override(read_run(base), parse_changes(changes or []), "command line")
    config = build(tree)
    folder = StudyFolder(study or Path("studies") / f"train-{Path(base).stem}-{fingerprint(config)[:8]}")
    shown, windows = RunConsole(console), tracker(mlflow or None, folder)
    try:
        record = train_one(config, base, folder, [*windows, shown], shown.progress, device)
    except KeyboardInterrupt:
        errors.print(f"Interrupted. Nothing is lost: the same command goes on with {folder.path}.")
        raise typer.Exit(130) from None
    report = write_report(folder)
    for window in windows:
        window.catch_up()  # MLflow gets the report, too
    if record.failure:
        errors.print(Text(f"failed ({record.failure['reason']}): {record.failure['message']}"), soft_wrap=True)
        trial = folder.trial(record.fingerprint)
        errors.print(Text(f"traceback: {trial.traceback}; remove {trial.path} to run it again"), soft_wrap=True)
        raise typer.Exit(1)
    checkpoint = folder.trial(record.fingerprint).checkpoint / "best.pt"
    _print_next(
        {
            "report": str(report),
            "checkpoint": str(checkpoint),
            "look": f"guidedmix ui {folder.path}",
            "predict": f"guidedmix predict {checkpoint} IMAGES -o DIR",
        }
    )


@app.command()
def show(base: Annotated[str, typer.Argument(help="A run, or a YAML file.")], changes: Changes = None) -> None:
    """Print the resolved run: every value and where it came from (default, file:line, command line)."""
    from guidedmix_core import build, explain, fingerprint, override, parse_changes, read_run

    tree = override(read_run(base), parse_changes(changes or []), "command line")
    config = build(tree)
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name in ("path", "value", "origin"):
        table.add_column(name, overflow="fold")
    for path, value, origin in explain(tree, config):
        style = "dim" if origin == "default" else ""
        table.add_row(Text(path), Text(json.dumps(value)), Text(origin), style=style)
    console.print(table)
    console.print(f"fingerprint {fingerprint(config)}")


@app.command()
def check(
    files: Annotated[
        list[str] | None, typer.Argument(help="Runs and searches; default: all in search_spaces/.", show_default=False)
    ] = None,
) -> None:
    """Build every file, every corner of every search space, and print what is wrong. Nothing is trained, no data is
    opened."""
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


@app.command(name="list")
def list_(family: Annotated[Family, typer.Argument(help="What to list.")]) -> None:
    """List the components of a family, or the runs and searches that can be named."""
    from guidedmix_core import find, names
    from orchestrator.checking import known_files

    if family in ("runs", "searches"):
        prefix = "base/" if family == "runs" else "search/"
        for name in known_files():
            if name.startswith(prefix):
                console.print(name)
        return
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for name in names(family):
        table.add_row(name, Text((find(family, name).__doc__ or "").strip().partition("\n")[0], style="dim"))
    console.print(table)


@app.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A best.pt or last.pt.")],
    changes: Changes = None,
    device: Device = "auto",
) -> None:
    """Judge a checkpoint on its data set: mIoU and the IoU of each class. `evaluate.part=test` judges the test part."""
    from guidedmix_core import evaluate_checkpoint, parse_changes

    metrics, judged = evaluate_checkpoint(checkpoint, parse_changes(changes or []), device)
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    for path, value in metrics.items():
        table.add_row(
            path.removeprefix("val/"),
            "absent" if value != value else f"{100 * value:.1f}",
            style="bold" if path == "val/miou" else "",
        )
    console.print(table)
    console.print(f"{len(judged.ids)} images", style="dim")


@app.command()
def predict(
    checkpoint: Annotated[Path, typer.Argument(help="A best.pt or last.pt.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder for masks and overlays.")],
    device: Device = "auto",
) -> None:
    """Predict masks of images: NAME.png (class ids, in the data set's colors) and NAME_overlay.jpg for each."""
    from orchestrator.predictions import write_predictions

    for path, mask in write_predictions(checkpoint, images, output, device):
        console.print(Text(f"{path} -> {mask}"), soft_wrap=True)


@app.command()
def ui(
    study: Annotated[Path, typer.Argument(help="A study's folder.")],
    port: Annotated[int, typer.Option(help="Of the local server.")] = 5000,
) -> None:
    """Open MLflow's UI on a study; runs until interrupted."""
    from orchestrator.tracking import start_ui

    start_ui(study, port)


@app.command()
def report(study: Annotated[Path, typer.Argument(help="A study's folder.")]) -> None:
    """Write report.html anew, from the study's folder alone; also while the study runs."""
    from orchestrator.folder import StudyFolder
    from orchestrator.report import write_report

    folder = StudyFolder(study)
    folder.request()
    console.print(Text(str(write_report(folder))), soft_wrap=True)


@app.command()
def schema(
    directory: Annotated[Path, typer.Option("--directory", help="Where the schemas go.")] = Path("search_spaces"),
) -> None:
    """Write the JSON Schemas with which editors complete and check the YAML files."""
    from orchestrator.schemas import write_schemas

    for path in write_schemas(directory):
        console.print(str(path))


def main() -> None:
    """The entry point: a wrong request is told in plain words, with exit code 2."""
    quiet_dependencies()
    try:
        app()
    except Exception as error:
        from guidedmix_core import ConfigError  # not before: `--help` need not wait for torch

        if not isinstance(error, ConfigError):
            raise
        errors.print(Text(str(error), style="red"), soft_wrap=True)
        sys.exit(2)


def _print_study(folder, written: Path) -> None:
    from orchestrator.console import leaderboard
    from orchestrator.results import load_trials

    console.print()
    console.print(leaderboard(load_trials(folder), folder))
    console.print()
    own = "guidedmix tune search/guidedmix data.name=folder data.root=DIR …   (see README, Your own data)"
    _print_next({"report": str(written), "MLflow": f"guidedmix ui {folder.path}", "your data": own})


def _print_next(lines: dict[str, str]) -> None:
    for name, value in lines.items():
        console.print(Text.assemble((f"{name:<11}", "dim"), value), soft_wrap=True)


def _exit_by_outcome(folder) -> None:
    """1 if no trial of the study came to an end."""
    counts = json.loads(folder.summary.read_text())["counts"]
    if counts["complete"] + counts["stopped"] == 0:
        errors.print("no trial ended well; see the failures in the report", style="red")
        raise typer.Exit(1)
