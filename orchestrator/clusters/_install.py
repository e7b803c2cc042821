"""How this project comes onto a machine: the same package and the same pins everywhere."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import PurePosixPath
from shlex import quote
from typing import Annotated

from pydantic import AfterValidator, Field

from orchestrator.object_store import EXTRAS

PYTHON = "3.11"
"""What constraints.txt was made for."""
UV = "0.13.8"
CLIENTS = {"s3": "s3fs", "gcs": "gcsfs"}
"""By extra of this project."""
HOME = "~/guidedmix"
VENV = f"{HOME}/venv"
PINNED = re.compile(r"[\w.-]+(\[[\w,-]+\])? *(==[\w.+!-]+|@ *git\+\S+@[0-9a-f]{7,40})")


def _is_pinned(package: str) -> str:
    if not package.endswith(".whl") and not PINNED.fullmatch(package):
        raise ValueError(
            f"package={package}: expected a wheel's path, NAME==VERSION or NAME @ git+URL@COMMIT, "
            "so that all nodes have what you have tried"
        )
    return package


Package = Annotated[
    str,
    AfterValidator(_is_pinned),
    Field(
        description="this project: a wheel's path (`uv build --wheel` makes it), NAME==VERSION or NAME @ git+URL@COMMIT"
    ),
]
WHEEL = f"dist/guidedmix_orchestrator-{version('guidedmix-orchestrator')}-py3-none-any.whl"
"""What `uv build --wheel` makes of this version."""


def needed_files(package: str, constraints: str) -> dict[str, str]:
    """Where they must lie on a node, and where they are here."""
    files = {f"{HOME}/{PurePosixPath(constraints).name}": constraints}
    return files | ({_installed(package): package} if package.endswith(".whl") else {})


def clients(storage: str | None) -> list[str]:
    """What a node needs to reach an object store; its version follows from the pins."""
    extra = EXTRAS.get((storage or "").partition("://")[0])
    return [CLIENTS[extra]] if extra else []


def install_commands(package: str, constraints: str, storage: str | None) -> list[str]:
    """For a shell on a Linux with curl; run again they change nothing."""
    uv = "~/.local/bin/uv"
    pins = f"{HOME}/{PurePosixPath(constraints).name}"
    return [
        f"test -x {uv} || curl -LsSf https://astral.sh/uv/{UV}/install.sh | sh",
        f"{uv} venv --allow-existing --python {PYTHON} {VENV}",
        f"{uv} pip install --compile-bytecode --python {VENV}/bin/python -c {_quoted(pins)} "
        + " ".join([_quoted(_installed(package)), *clients(storage)]),
    ]


def _quoted(word: str) -> str:
    """`~/` stays the shell's to expand."""
    return f"~/{quote(word[2:])}" if word.startswith("~/") else quote(word)


def _installed(package: str) -> str:
    return f"{HOME}/{PurePosixPath(package).name}" if package.endswith(".whl") else package
