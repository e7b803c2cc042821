"""The verbs of the command line, by what they work on; what they share stands here."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from orchestrator.folder import StudyFolder

console = Console(markup=False, emoji=False, highlight=False)
errors = Console(stderr=True, markup=False, emoji=False, highlight=False)

Changes = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PATH=VALUE]...", help="Changes, such as `method.mix.lambda_max=0.3`.", show_default=False),
]
StudyDir = Annotated[
    str | None,
    typer.Option(
        "--study",
        help="The study's folder, or a URI such as s3://BUCKET/studies/NAME. Default: studies/NAME.",
        show_default=False,
    ),
]
Studied = Annotated[str, typer.Argument(metavar="STUDY", help="A study's folder, or its URI.")]
Seeds = Annotated[
    str | None,
    typer.Option(
        metavar="+N",
        help="So many replicates more than the file has: its (first) block section goes on from its greatest values. "
        "+2 twice is +2, and without it the table is the file's again; what was trained is kept.",
        show_default=False,
    ),
]


def check_device(device: str) -> str:
    """Of whoever runs it, here or elsewhere."""
    from guidedmix_core import ConfigError

    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ConfigError(f"--device {device}: expected auto, cpu, cuda, which is a GPU, or cuda:N")
    return device


def check_own_device(device: str) -> str:
    """Of this process."""
    if check_device(device).startswith("cuda"):
        import torch

        from guidedmix_core import ConfigError

        number = torch.cuda.device_count()
        if int(device.partition(":")[2] or 0) >= number:
            raise ConfigError(f"--device {device}: torch sees {number} GPUs here; auto takes one if there is one")
    return device


Device = Annotated[
    str, typer.Option(callback=check_own_device, help="auto, cpu, cuda or cuda:N. auto takes a GPU if there is one.")
]
WorkerDevice = Annotated[
    str,
    typer.Option(
        callback=check_device, help="auto: as `scaling.gpus_per_worker` says, 0 is the CPU. cpu, or cuda: a GPU each."
    ),
]


def study_folder(where: str, without: Collection[str] | None = None) -> StudyFolder:
    """Of a study that was made before, to be read; of one in a store, what is not to be fetched. ConfigError if there
    is none."""
    from orchestrator.folder import StudyFolder
    from orchestrator.storage import HEAVY, refresh

    folder = StudyFolder(where)
    refresh(folder.path, HEAVY if without is None else without)
    folder.request()
    return folder


def default_name(verb: str, file: str) -> str:
    """Of a study, and of its folder in `studies/`; that of a single run goes on with its fingerprint."""
    stem = Path(file).stem
    return {"tune": stem, "ablate": f"ablation-{stem}", "train": f"train-{stem}"}[verb]


def more_blocks(seeds: str) -> int:
    """What `--seeds` asks for."""
    from guidedmix_core import ConfigError

    if not re.fullmatch(r"\+[1-9][0-9]*", seeds):
        raise ConfigError(f"--seeds {seeds}: expected +N, so many more than the file has, such as +2")
    return int(seeds)


def print_next(lines: dict[str, str]) -> None:
    """Where to look, or what to type, next."""
    for name, value in lines.items():
        console.print(Text.assemble((f"{name:<11}", "dim"), value), soft_wrap=True)


def plain_table(*, header: bool = False) -> Table:
    """Columns without lines."""
    return Table(box=None, pad_edge=False, show_header=header, header_style="dim", padding=(0, 2, 0, 0))
