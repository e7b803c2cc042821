"""Checkpoints: everything a run needs to go on as if it had never stopped, written atomically."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from guidedmix_core.config import RunConfig
from guidedmix_core.errors import ConfigError
from guidedmix_core.files import write_whole
from guidedmix_core.schema import build, dump, fingerprint
from guidedmix_core.trees import Tree

VERSION = 1


class Checkpoints:
    """The two checkpoints of a run: `last.pt` to go on from, `best.pt` (networks only) to predict with."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.last = self.folder / "last.pt"
        self.best = self.folder / "best.pt"

    def save_last(self, config: RunConfig, state: dict[str, Any]) -> None:
        """`state` holds step, nets, players, best."""
        _write(self.last, {"version": VERSION, "config": dump(config), **state})

    def save_best(self, config: RunConfig, step: int, nets: dict[str, Any]) -> None:
        _write(self.best, {"version": VERSION, "config": dump(config), "step": step, "nets": nets})

    def load_last(self, config: RunConfig, device: torch.device) -> dict[str, Any] | None:
        """The state to go on from, None if there is none. ConfigError if it is damaged or of another configuration."""
        if not self.last.exists():
            return None
        state = read_checkpoint(self.last, device)
        if (differing := _differences(state["config"], dump(config))) != "":
            raise ConfigError(
                f"{self.last}: is of another configuration ({differing}); use another folder, or remove it to "
                f"start again"
            )
        return state


def read_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """A checkpoint's content. ConfigError if there is none, it is damaged, or it is not one of ours."""
    if not Path(path).is_file():
        raise ConfigError(f"{path}: no such checkpoint")
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"{path}: is damaged, or holds more than numbers and names, such as code, which is never run; use another "
            "checkpoint, or remove it to start again"
        ) from error
    except Exception as error:  # torch.load raises half a dozen types for a file that is cut or is no checkpoint
        raise ConfigError(
            f"{path}: is damaged or no checkpoint ({type(error).__name__}); remove it to start again"
        ) from error
    if not isinstance(state, dict) or not {"version", "config", "nets", "step"} <= state.keys():
        raise ConfigError(f"{path}: is not a checkpoint of this project; expected one that `guidedmix train` wrote")
    if state["version"] != VERSION:
        raise ConfigError(f"{path}: has format {state['version']}; this version reads format {VERSION}")
    return state


def config_of(state: dict[str, Any], path: Path) -> Tree:
    """The configuration tree a checkpoint was trained with."""
    return Tree(state["config"], {key: str(path) for key in state["config"]})


def _write(path: Path, state: dict[str, Any]) -> None:
    write_whole(path, lambda file: torch.save(state, file))


def _differences(stored: dict[str, Any], wanted: dict[str, Any]) -> str:
    try:
        if fingerprint(build(Tree(stored, {}))) == fingerprint(build(Tree(wanted, {}))):
            return ""
    except ConfigError as error:
        return f"written by another version: {error}"
    return ", ".join(_paths(stored, wanted, ""))


def _paths(stored: Any, wanted: Any, path: str) -> list[str]:
    if isinstance(stored, dict) and isinstance(wanted, dict):
        keys = sorted(stored.keys() | wanted.keys())
        return [
            found for key in keys for found in _paths(stored.get(key), wanted.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if stored == wanted else [f"{path}={stored!r}, not {wanted!r}"]
