"""What a step of a run takes on a device: from runs that are complete, else from a probe."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import yaml

from guidedmix_core import RunConfig, digest, dump, probe
from orchestrator.folder import YAML_LOADER, StudyFolder, TrialFolder, now, read_json, write_json
from orchestrator.provenance import device_name
from orchestrator.storage import refresh

NEUTRAL = ("seed", "split", "stages")
"""Sections that change what is learned and not what a step takes."""
EXACT = ("evaluate", "segmentor")
"""Sections of which every number counts."""
ENOUGH = 3
"""Complete runs of a cell that are asked how long they took."""
PROBES = "costs.json"
"""Beside the studies, which share it."""


@dataclass(frozen=True)
class Rate:
    """Seconds, and where they are from."""

    step: float
    evaluation: float
    """0 where the steps' seconds have it in them."""
    source: str
    """`run` or `probe`."""
    peak_bytes: int | None = None
    device_bytes: int | None = None
    """Memory of the GPU that it was measured on."""

    def seconds(self, steps: int, evaluations: int) -> float:
        return steps * self.step + evaluations * self.evaluation


def cost_class(config: Mapping[str, Any]) -> str:
    """16 hexadecimal digits; runs that have the same take the same time a step. Of the content of `config.yaml`.

    A number with a fraction is a weight, a rate, a probability or a threshold: it counts only whether it is 0, because
    a term of weight 0 is not computed. How many steps a run has does not count either.
    """
    kept = {name: value for name, value in config.items() if name not in NEUTRAL}
    train = {name: value for name, value in config.get("train", {}).items() if name != "steps"}
    rough = {name: value if name in EXACT else _rough(value) for name, value in kept.items()}
    return digest({**rough, "train": train})


def _rough(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rough(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rough(inner) for inner in value]
    return value != 0 if isinstance(value, float) else value


def evaluations(config: RunConfig, since: int = 0) -> int:
    """Of a run that goes on from a step: after each `evaluate.every` steps, and at the end."""
    every, steps = config.evaluate.every, config.train.steps
    return math.ceil(steps / every) - since // every


def past_rates(folders: Iterable[StudyFolder], device: str | None, scaling: Mapping[str, Any]) -> dict[str, Rate]:
    """By cost class, the median over complete runs on this device; None: on any GPU.

    Of each cell, the last `ENOUGH` are asked. A study whose runs shared a device otherwise is left out.
    """
    found: dict[str, list[float]] = {}
    for folder in folders:
        request = folder.request()
        if not _alike(request.get("scaling", {}), scaling):
            continue
        for trial, row in _some_complete(folder):
            if trial.environment.exists() and trial.config.exists() and _is_on(read_json(trial.environment), device):
                config = yaml.load(trial.config.read_text(encoding="utf-8"), YAML_LOADER)
                found.setdefault(cost_class(config), []).append(row["seconds"] / row["steps"])
    return {name: Rate(statistics.median(seconds), 0.0, "run") for name, seconds in found.items()}


def _some_complete(folder: StudyFolder) -> Iterator[tuple[TrialFolder, dict[str, Any]]]:
    rows = read_json(folder.summary)["trials"] if folder.summary.exists() else []
    groups: dict[str | None, list[dict[str, Any]]] = {}
    for row in rows:
        if row["state"] == "complete" and row["seconds"]:
            groups.setdefault(row["cell"] if row["role"] == "trial" else row["label"], []).append(row)
    return ((folder.trial(row["fingerprint"]), row) for group in groups.values() for row in group[-ENOUGH:])


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    usual = {"workers": 1, "gpus_per_worker": 0}
    return all((one.get(key) or usual[key]) == (other.get(key) or usual[key]) for key in usual)


def _is_on(environment: Mapping[str, Any], device: str | None) -> bool:
    found = environment["device"]
    return not found.startswith("cpu") if device is None else found == device


def probed_rates(studies: StudyFolder, device: str | None) -> dict[str, Rate]:
    """By cost class, as `measure` left them."""
    refresh(path := studies.path.parent / PROBES)
    kept = read_json(path) if path.exists() else {}
    rows = [row for name, rows in kept.items() if _is_on({"device": name}, device) for row in rows.items()]
    return {
        name: Rate(row["step_seconds"], row["evaluation_seconds"], "probe", row["peak_bytes"], row.get("device_bytes"))
        for name, row in rows
    }


def measure(config: RunConfig, studies: StudyFolder, device: str, threads: int) -> None:
    """Probe a run, and keep what it cost beside the studies, so that the next plan, and a budget, know it.

    `device` is `cuda`, or `cpu` with so many threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        cost = probe(config, device=device)
    finally:
        torch.set_num_threads(before)
    path = studies.path.parent / PROBES
    kept = read_json(path) if path.exists() else {}
    row = {
        "method": config.method.name,
        "step_seconds": cost.step_seconds,
        "evaluation_seconds": cost.evaluation_seconds,
        "peak_bytes": cost.peak_bytes,
        "device_bytes": cost.device_bytes,
        "time": now(),
    }
    kept.setdefault(device_name(device), {})[cost_class(dump(config))] = row
    write_json(path, kept)
