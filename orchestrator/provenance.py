"""Where a number comes from: code, packages, machine, data. And that our dependencies tell nobody about it."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import socket
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

SILENCE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "true",  # MLflow knows only this spelling, the hub several
}


def quiet_dependencies() -> None:
    """No usage statistics leave this process or its children; what is set stays. Before Ray or MLflow load."""
    for name, value in SILENCE.items():
        os.environ.setdefault(name, value)


def environment(device: str = "auto", data: str | None = None) -> dict[str, Any]:
    """What may explain a number and is not in the configuration; `data` is the fingerprint of what was read."""
    import torch  # takes seconds to load, and the command line only wants `quiet_dependencies`

    return {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "command": [_without_passwords(word) for word in sys.argv],
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "device": device_name(device),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "git": git_state(),
        "packages": packages(),
        "data": data,
    }


def _without_passwords(word: str) -> str:
    """Of an address, and of the command of `notify`."""
    return re.sub(r"^notify(\.command)?=.*", r"notify\1=***", re.sub(r"://[^/@\s]*@", "://***@", word), flags=re.DOTALL)


def device_name(device: str) -> str:
    """`auto` is CUDA if there is one."""
    import torch

    if device.startswith("cuda") or (device == "auto" and torch.cuda.is_available()):
        return torch.cuda.get_device_name(None if device == "auto" else torch.device(device))
    return f"cpu ({platform.processor() or platform.machine()})"


@cache
def packages() -> dict[str, str]:
    """Every installed distribution and its version."""
    every = [found.metadata for found in distributions()]  # each access parses the file
    return dict(sorted((metadata["Name"], metadata["Version"]) for metadata in every))


def git_state(source: Path = Path(__file__)) -> dict[str, Any] | None:
    """Commit of the running code, and a digest of what differs from it; None if the code is not under version control.

    Only code and YAML count as differing: data and results may lie anywhere.
    """
    folder = source.resolve().parent
    tracked = _git(folder, "ls-files", "--error-unmatch", source.name)
    sha = _git(folder, "rev-parse", "HEAD")
    if not tracked or not sha:
        return None
    top = Path(_git(folder, "rev-parse", "--show-toplevel").decode().strip())
    digest = hashlib.sha256(diff := _git(top, "diff", "HEAD", "--binary"))
    new = _git(top, "ls-files", "-z", "--others", "--exclude-standard", "--", "*.py", "*.yaml").split(b"\0")
    # Editors leave links to nowhere.
    names = sorted(name for name in map(os.fsdecode, new) if name and (top / name).is_file())
    for name in names:
        with suppress(OSError):  # it has vanished since
            digest.update(name.encode() + b"\0" + (top / name).read_bytes())
    is_dirty = bool(diff or names)
    return {"sha": sha.decode().strip(), "dirty": is_dirty, "diff": digest.hexdigest()[:16] if is_dirty else None}


def _git(folder: Path, *arguments: str) -> bytes:
    """What git prints; nothing if it fails or is not installed."""
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, check=True, timeout=60
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return b""
