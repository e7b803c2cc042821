"""The folder of a stage: what it leaves to all who share it, and what it needs while it is trained.

stages/<address>/
    stage.yaml  metrics.jsonl  result.json  weights.pt  weights-<step>.pt  stability.json  pseudo-<digest>/
    checkpoint/    while it is trained
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from guidedmix_core.errors import ConfigError
from guidedmix_core.files import write_text, write_whole
from guidedmix_core.methods import Relabel

VERSION = 1


class StageFolder:
    """Its paths. Making one touches nothing. The stage is there when `weights` is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.address = path.name
        self.config = path / "stage.yaml"
        self.metrics = path / "metrics.jsonl"
        self.result = path / "result.json"
        self.weights = path / "weights.pt"
        self.stability = path / "stability.json"
        self.checkpoint = path / "checkpoint"
        self.lock = path / ".lock"

    def snapshots(self, steps: int) -> dict[int, Path]:
        """The steps at which a stage of this length leaves its weights: a third and two thirds, as ST++ compares."""
        return {step: self.path / f"weights-{step}.pt" for step in (max(1, k * steps // 3) for k in (1, 2))}

    def pseudo(self, ask: Relabel) -> Path:
        """The stored pseudo masks of one way to make them."""
        return self.path / f"pseudo-{hashlib.sha256(repr(ask).encode()).hexdigest()[:16]}"

    def write_made(self, ask: Relabel, seconds: float) -> None:
        """What the masks were made by, in words, and what that took."""
        made = self.pseudo(ask) / "made.json"
        write_text(made, json.dumps({**asdict(ask), "seconds": seconds}, indent=1) + "\n")

    def mask_seconds(self, ask: Relabel | None) -> float:
        """What making these masks took; 0 if none are asked for."""
        made = self.pseudo(ask) / "made.json" if ask else None
        return json.loads(made.read_text())["seconds"] if made and made.exists() else 0.0

    def read_result(self) -> dict[str, Any]:
        """What it took and how good it is; nothing if the stage is not there."""
        return json.loads(self.result.read_text()) if self.result.exists() else {}

    def note(self, step: int, metrics: Mapping[str, float]) -> None:
        """A line of `metrics.jsonl`; those of this step and later ones, which a resumed run repeats, go."""
        lines = self.metrics.read_text().splitlines() if self.metrics.exists() else []
        kept = [line for line in lines if json.loads(line)["step"] < step]
        kept.append(json.dumps({"step": step, **finite(metrics)}))
        write_text(self.metrics, "".join(f"{line}\n" for line in kept))


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Without what JSON has no number for, such as the IoU of a class that does not occur."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def save_weights(path: Path, network: nn.Module) -> None:
    weights = {name: weight.detach().cpu() for name, weight in network.state_dict().items()}
    write_whole(path, lambda file: torch.save({"version": VERSION, "weights": weights}, file))


def load_weights(path: Path) -> dict[str, Tensor]:
    """ConfigError if the file is damaged, or another version's."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["version"] == VERSION:
            return state["weights"]
        problem = f"has format {state['version']}; this version reads format {VERSION}"
    except Exception as error:  # torch.load raises half a dozen types for a file that is cut
        problem = f"is damaged ({type(error).__name__})"
    raise ConfigError(f"{path}: {problem}; remove {path.parent} to train the stage again")
