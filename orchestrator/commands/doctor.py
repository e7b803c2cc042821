"""A verb that looks for what is inconsistent in a study, and mends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from orchestrator.commands import Studied, console

if TYPE_CHECKING:
    from orchestrator.doctor import Finding
    from orchestrator.folder import StudyFolder

STYLES = {"blocks": "bold red", "wrong": "red", "untidy": "yellow", "note": "dim"}


def doctor(
    study: Studied,
    fix: Annotated[
        bool, typer.Option("--fix", help="Mend what can be mended. Nobody may be running the study.")
    ] = False,
) -> None:
    """Is a study's folder consistent: journal, results, checkpoints, stages, summary, MLflow? Reads only; with --fix it
    mends what it finds.

    No result, metric or checkpoint is deleted: what is replaced lies under `aside/` in the study's folder, and what a
    run made that begins anew in the run's `attempts/`. Exit code 0: nothing found, or all mended; 1: something is left.

    *blocks*: the study can't go on with it; *wrong*: something is missing, or not to be trusted; *untidy*: it only
    takes room or is out of date; *note*: nothing is wrong with it.
    """
    from orchestrator.doctor import examine, mend
    from orchestrator.folder import StudyFolder

    folder = StudyFolder(study)
    if not fix and folder.is_running():
        console.print(Text(f"{study} is being run: what is found may be right in a moment.", style="yellow"))
    repaired, found = mend(folder) if fix else ([], examine(folder))
    left = [finding for finding in found if finding.level != "note"]
    _print(repaired, folder, is_done=True)
    _print([*left, *(finding for finding in found if finding.level == "note")], folder)
    console.print(_verdict(repaired, left, study), soft_wrap=True)
    raise typer.Exit(1 if left else 0)


def _print(found: Sequence[Finding], folder: StudyFolder, *, is_done: bool = False) -> None:
    """A finding in two lines: what it is, and what is, or was, done about it."""
    for finding in found:
        place = finding.place.absolute()
        inside = place.is_relative_to(folder.path.absolute())
        shown = place.relative_to(folder.path.absolute() if inside else folder.path.absolute().parent)
        head = Text.assemble((f"{finding.level:<8}", STYLES[finding.level]), str(shown), ": ", finding.problem)
        console.print(head, soft_wrap=True)
        mark = "done: " if is_done else "→ " if finding.repair or finding.level == "note" else "by hand: "
        console.print(Text(f"        {mark}{finding.cure}", style="dim"), soft_wrap=True)


def _verdict(repaired: Sequence[Finding], left: Sequence[Finding], study: str) -> Text:
    said = [f"{len(repaired)} mended."] if repaired else []
    if not left:
        return Text(" ".join(said) or f"Nothing is wrong with {study}.", style="green")
    curable = sum(finding.repair is not None for finding in left)
    said.append(f"{len(left)} found." if not repaired else f"{len(left)} left.")
    if curable:
        which = "it" if curable == len(left) == 1 else "them" if curable == len(left) else f"{curable} of them"
        said.append(f"`guidedmix doctor {study} --fix` mends {which}.")
    if any(finding.level == "blocks" for finding in left):
        said.append("What can't be read may hide more.")
    return Text(" ".join(said), style="red")
