"""Verbs that use what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from orchestrator.commands import Changes, Device, console, plain_table

Checkpoint = Annotated[str, typer.Argument(help="A best.pt or last.pt, or its URI.")]


def evaluate(
    checkpoint: Checkpoint,
    changes: Changes = None,
    device: Device = "auto",
) -> None:
    """Judge a checkpoint on its data set: mIoU and the IoU of each class. `evaluate.part=test` judges the test part."""
    from guidedmix_core import evaluate_checkpoint, parse_changes
    from orchestrator.storage import fetched

    metrics, judged = evaluate_checkpoint(fetched(checkpoint), parse_changes(changes or []), device)
    table = plain_table()
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


def predict(
    checkpoint: Checkpoint,
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder for masks and overlays.")],
    device: Device = "auto",
) -> None:
    """Predict masks of images: NAME.png (class ids, in the data set's colors) and NAME_overlay.jpg for each."""
    from orchestrator.predictions import write_predictions
    from orchestrator.storage import fetched

    for path, mask in write_predictions(fetched(checkpoint), images, output, device):
        console.print(Text(f"{path} -> {mask}"), soft_wrap=True)
