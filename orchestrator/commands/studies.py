"""Verbs that make studies, and look at them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from orchestrator.commands import (
    Changes,
    Device,
    Seeds,
    Studied,
    StudyDir,
    WorkerDevice,
    console,
    default_name,
    errors,
    more_blocks,
    study_folder,
)
from orchestrator.commands.outcomes import print_ablation, print_run, print_search
from orchestrator.commands.plans import keep_budget

if TYPE_CHECKING:
    from guidedmix_core import Tree
    from orchestrator.folder import StudyFolder
    from orchestrator.study import Study
    from orchestrator.tracking import MlflowWindow


Executor = Annotated[
    Literal["ray_tune", "inline"],
    typer.Option(
        help="ray_tune: runs side by side, here or on a cluster. inline: one after another in this process, "
        "for debugging."
    ),
]
RetryFailed = Annotated[
    bool,
    typer.Option("--retry-failed", help="Make failed runs again; what they left is kept in `attempts/`."),
]


def tune(
    file: Annotated[str, typer.Argument(help="A search: `search/demo`, or a YAML file.")],
    changes: Changes = None,
    study: StudyDir = None,
    executor: Executor = "ray_tune",
    device: WorkerDevice = "auto",
    retry_failed: RetryFailed = False,
) -> None:
    """Search a space: sample, train, stop the bad ones early, log every trial, write the report.

    Running the same command again resumes: finished trials are kept, interrupted ones go on from their checkpoint.
    A reference that a study beside this one has finished is taken over from there, unless `reuse=false`.

    Changes go to the run that is searched (`data.name=camvid data.root=DIR`); those under `search.`, `scheduler.`,
    `scaling.`, `failures.`, `tracking.`, `notify.` and `objective.` go to the search itself.
    """
    from orchestrator.folder import StudyFolder
    from orchestrator.study import SearchStudy, load_study

    folder = StudyFolder(study or f"studies/{default_name('tune', file)}")
    _run(*load_study(file, changes or [], SearchStudy), folder, executor, device, retry_failed)
    print_search(folder)
    _exit_by_outcome(folder)


def ablate(
    file: Annotated[str, typer.Argument(help="An ablation: `ablation/demo`, or a YAML file.")],
    changes: Changes = None,
    study: Annotated[
        str | None,
        typer.Option("--study", help="Its folder, or a URI. Default: studies/ablation-NAME.", show_default=False),
    ] = None,
    executor: Executor = "ray_tune",
    device: WorkerDevice = "auto",
    seeds: Seeds = None,
    retry_failed: RetryFailed = False,
) -> None:
    """Compare cells over paired blocks: train every cell in each block, take the differences to the reference inside
    the blocks, write the report.

    Running the same command again resumes, and trains what is new: a cell that was added, a block that was appended.
    A run that a study beside this one has finished is taken over from there, unless `reuse=false`.

    Changes go to the base run (`data.name=camvid data.root=DIR`); `cells.NAME.PATH=VALUE`, `blocks.PATH=[…]` (of
    crossed ones `blocks.0.PATH=[…]`), `design=NAME`, and those under `scaling.`, `failures.`, `tracking.`, `notify.`
    and `objective.` go to the ablation itself.
    """
    from orchestrator.ablation import AblationStudy
    from orchestrator.folder import StudyFolder
    from orchestrator.study import load_study

    folder = StudyFolder(study or f"studies/{default_name('ablate', file)}")
    request, base = load_study(file, changes or [], AblationStudy)
    if seeds is not None:
        request = request.with_more_blocks(more_blocks(seeds))
    _run(request, base, folder, executor, device, retry_failed)
    print_ablation(folder)
    _exit_by_outcome(folder)


def train(
    base: Annotated[str, typer.Argument(help="A run: `base/guidedmix_paper`, or a YAML file.")],
    changes: Changes = None,
    study: StudyDir = None,
    device: Device = "auto",
    mlflow: Annotated[
        str, typer.Option(help="As `tracking.mlflow` of a study: a URI, or auto; empty: no MLflow.")
    ] = "auto",
    retry_failed: RetryFailed = False,
) -> None:
    """Train one run, with live loss and mIoU. Running it again resumes it, or shows its result if it is done."""
    from guidedmix_core import build, fingerprint, override, parse_changes
    from orchestrator.console import RunConsole
    from orchestrator.folder import StudyFolder
    from orchestrator.kinds import read_base
    from orchestrator.single import train_one
    from orchestrator.storage import shown
    from orchestrator.tracking import tracker

    tree = override(read_base(base), parse_changes(changes or []), "command line")
    config = build(tree)
    folder = StudyFolder(study or f"studies/{default_name('train', base)}-{fingerprint(config)[:8]}")
    live, windows = RunConsole(console), tracker(mlflow or None, folder)
    with _reported(folder, windows):
        record = train_one(config, base, folder, [*windows, live], live.progress, device, retry_failed=retry_failed)
    if record.failure:
        errors.print(Text(f"failed ({record.failure['reason']}): {record.failure['message']}"), soft_wrap=True)
        traceback = shown(folder.trial(record.fingerprint).traceback)
        errors.print(Text(f"traceback: {traceback}; --retry-failed makes it again"), soft_wrap=True)
        raise typer.Exit(1)
    print_run(record, folder)


def report(study: Studied) -> None:
    """Write the report anew, from the study's folder alone; also while the study runs.

    report.html, and in `report/` raw numbers as CSV; of an ablation, and of a search's fresh runs, also Markdown, a
    LaTeX table, and figures as SVG and PDF.
    """
    from orchestrator.report import write_report
    from orchestrator.storage import shown

    for path in write_report(study_folder(study)):
        console.print(Text(shown(path)), soft_wrap=True)


def register(
    study: Annotated[str, typer.Argument(help="Of a search, or of a single run: the folder, or its URI.")],
    name: Annotated[
        str | None, typer.Option(help="Of the model in the registry. Default: the study's name.", show_default=False)
    ] = None,
) -> None:
    """Put a study's best checkpoint into MLflow's model registry, with its metrics and data. Once: the same checkpoint
    keeps its version."""
    from orchestrator import tracking

    folder = study_folder(study)
    version = tracking.register(folder, name or folder.name)
    console.print(Text(f"{name or folder.name}, version {version}"), soft_wrap=True)


def ui(
    study: Studied,
    port: Annotated[int, typer.Option(help="Of the local server.")] = 5000,
) -> None:
    """Open MLflow's UI on a study; runs until interrupted."""
    from orchestrator.tracking import start_ui

    start_ui(study_folder(study), port)


def _run(request: Study, base: Tree, folder: StudyFolder, executor: str, device: str, retry_failed: bool) -> None:
    from orchestrator.console import StudyConsole
    from orchestrator.executors import executor_named
    from orchestrator.notifications import notifier
    from orchestrator.tracking import tracker

    keep_budget(request, base, folder, device)
    windows = tracker(request.tracking.mlflow, folder)
    with _reported(folder, windows):
        listeners = [*windows, *notifier(request.notify, folder), StudyConsole(console)]
        executor_named(executor)(request, base, folder, listeners, device, retry_failed=retry_failed)


@contextmanager
def _reported(folder: StudyFolder, windows: list[MlflowWindow]) -> Iterator[None]:
    """An interrupt loses nothing; a study that has ended gets its report, and MLflow gets it, too."""
    from guidedmix_core import Preempted
    from orchestrator.failures import is_disk_full
    from orchestrator.report import write_report

    try:
        yield
        write_report(folder)
    except KeyboardInterrupt:
        errors.print(f"Interrupted. Nothing is lost: the same command goes on with {folder.place}.", soft_wrap=True)
        raise typer.Exit(130) from None
    except Preempted:
        said = f"Asked to leave (SIGTERM). Runs saved where they were: the same command goes on with {folder.place}."
        errors.print(said, soft_wrap=True)
        raise typer.Exit(143) from None
    except OSError as error:
        if not is_disk_full(error):
            raise
        said = (
            f"{error.filename or folder.place}: {error.strerror}. Nothing half-written counts: make room, and the same"
        )
        errors.print(Text(f"{said} command goes on with {folder.place}.", style="red"), soft_wrap=True)
        raise typer.Exit(1) from None
    for window in windows:
        window.catch_up()


def _exit_by_outcome(folder: StudyFolder) -> None:
    """1 if no run of the study came to an end."""
    counts = json.loads(folder.summary.read_text())["counts"]
    if counts["complete"] + counts["stopped"] == 0:
        errors.print("no run ended well; see the failures in the report", style="red")
        raise typer.Exit(1)
