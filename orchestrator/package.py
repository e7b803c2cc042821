"""What of a folder goes along with a job, by Ray's own rules: what is listed is what is sent."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ray._private.runtime_env.packaging import _dir_travel, _get_excludes
from rich.filesize import decimal

from guidedmix_core import ConfigError

EXCLUDES = (
    ".git",
    ".venv",
    "venv",
    "__pycache__",
    ".*_cache",
    "*.egg-info",
    ".ipynb_checkpoints",
    "/studies",
    "/mlruns",
    "/mlflow.db",
    "/build",
    "/dist",
    ".env",
    ".netrc",
    "*.pem",
    "*.key",
    "auth_token",
)
"""Left out whatever .gitignore and .rayignore say: history, caches, results, and files that tend to hold secrets."""
LIMIT = 100 * 10**6
"""Bytes: a package is code and YAML, and Ray keeps it in the memory of the head."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Package:
    """The files of a folder that are sent, with their bytes, by their path below it."""

    folder: Path
    files: dict[Path, int]

    @property
    def size(self) -> int:
        return sum(self.files.values())

    @property
    def largest(self) -> list[Path]:
        return sorted(self.files, key=lambda file: (-self.files[file], file))

    def left_out(self) -> Counter[str]:
        """What lies in the folder and is not sent, by name, the uppermost folder of each; a folder ends in `/`."""
        return Counter(
            f"{path.name}/" if path.is_dir() else path.name
            for path in self._left_out(self.folder, self._kept_folders())
        )

    def check(self, needed: Iterable[Path]) -> None:
        """ConfigError if it is too large, or if a file below the folder that the job needs is left out."""
        if self.size > LIMIT:
            largest = ", ".join(f"{file} ({decimal(self.files[file])})" for file in self.largest[:5])
            raise ConfigError(
                f"{self.folder}: {decimal(self.size)} in {len(self.files)} files, expected at most "
                f"{decimal(LIMIT)}; the largest are {largest}. Name what is not needed in .rayignore, or give a "
                "smaller folder by --working-dir; data lies on the cluster"
            )
        for path in needed:
            if path not in self.files:
                raise ConfigError(f"{path}: needed by the job, but left out of the package; see .gitignore, .rayignore")

    def _kept_folders(self) -> set[Path]:
        return {self.folder / folder for file in self.files for folder in file.parents}

    def _left_out(self, folder: Path, kept: set[Path]) -> Iterator[Path]:
        for path in sorted(folder.iterdir()):
            if path in kept:
                yield from self._left_out(path, kept)
            elif path.relative_to(self.folder) not in self.files and (not path.is_dir() or any(path.iterdir())):
                yield path


def pack(folder: Path) -> Package:
    """What would be sent of a folder. Nothing is read but names and sizes."""
    folder = folder.absolute()
    if not folder.is_dir():
        raise ConfigError(f"--working-dir {folder}: no such folder")
    files: dict[Path, int] = {}

    def add(path: Path) -> None:
        if path.is_file():
            files[path.relative_to(folder)] = path.stat().st_size

    _dir_travel(folder, [_get_excludes(folder, list(EXCLUDES))], add, include_gitignore=True, logger=log)
    return Package(folder, files)
