"""Where a number comes from: code, packages, machine, data. And that our dependencies tell nobody about it."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
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
KEPT = ("*.py", ":!tests")
"""Of uncommitted changes. What YAML says is in the records of study and run, without the passwords that it may hold."""
MOST_KEPT = 2_000_000
"""Bytes of them."""


def quiet_dependencies() -> None:
    """No usage statistics leave this process or its children; what is set stays. Before Ray or MLflow load."""
    for name, value in SILENCE.items():
        os.environ.setdefault(name, value)


def environment(device: str = "auto", data: str | None = None, code: Path | None = None) -> dict[str, Any]:
    """What may explain a number and is not in the configuration; `data` is the fingerprint of what was read.

    Uncommitted changes of the code are kept in the folder `code`.
    """
    import torch  # takes seconds to load, and the command line only wants `quiet_dependencies`

    git = git_state()
    if code is not None:
        keep_changes(code, git)
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
        "git": git,
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
    top = _top(folder)
    digest = hashlib.sha256(diff := _git(top, "diff", "HEAD", "--binary"))
    new = _new_files(top, "*.py", "*.yaml")
    for name, content in new.items():
        digest.update(os.fsencode(name) + b"\0" + content)
    is_dirty = bool(diff or new)
    return {"sha": sha.decode().strip(), "dirty": is_dirty, "diff": digest.hexdigest()[:16] if is_dirty else None}


def keep_changes(code: Path, git: Mapping[str, Any] | None, source: Path = Path(__file__)) -> None:
    """What a `git_state` has changed in the Python of its commit is in `<digest>.patch` then, for `git apply`.

    It is written once. Of changes that are no code nothing is, and of too many their size.
    """
    from orchestrator.folder import write_atomic  # loads torch, too

    if not git or not git["dirty"] or (patch := code / f"{git['diff']}.patch").exists():
        return
    top = _top(source.resolve().parent)
    changes = _git(top, "diff", "HEAD", "--binary", "--no-color", "--no-ext-diff", "--", *KEPT)
    changes += b"".join(_added(os.fsencode(name), content) for name, content in _new_files(top, *KEPT).items())
    if len(changes) > MOST_KEPT:
        changes = f"Left out: {len(changes):,} bytes, more than {MOST_KEPT:,}.\n".encode()
    if changes:
        write_atomic(patch, f"Changes of the Python of commit {git['sha']}.\n".encode() + changes)


def _top(folder: Path) -> Path:
    return Path(os.fsdecode(_git(folder, "rev-parse", "--show-toplevel").rstrip(b"\n")) or folder)


def _new_files(top: Path, *kinds: str) -> dict[str, bytes]:
    """Files that git neither tracks nor ignores, with their contents."""
    listed = _git(top, "ls-files", "-z", "--others", "--exclude-standard", "--", *kinds).split(b"\0")
    found = {}
    for name in sorted(os.fsdecode(name) for name in listed if name):
        with suppress(OSError):  # a link to nowhere, as editors leave them, or gone since
            found[name] = (top / name).read_bytes()
    return found


def _added(name: bytes, content: bytes) -> bytes:
    """A new file, as a patch of git's says it."""
    *lines, rest = content.split(b"\n")
    head = b"diff --git a/%b b/%b\nnew file mode 100644\n" % (name, name)
    if not content:
        return head
    head += b"--- /dev/null\n+++ b/%b\n@@ -0,0 +1,%d @@\n" % (name, len(lines) + bool(rest))
    end = b"+%b\n\\ No newline at end of file\n" % rest if rest else b""
    return head + b"".join(b"+%b\n" % line for line in lines) + end


def _git(folder: Path, *arguments: str) -> bytes:
    """What git prints; nothing if it fails or is not installed."""
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, check=True, timeout=60
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return b""
