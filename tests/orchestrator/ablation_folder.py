"""A study folder as an ablation leaves it, five cells over four blocks: only its records, nothing is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.orchestrator.study_folder import STEPS, write_request, write_trial

CELLS: dict[str, dict[str, Any]] = {
    "supervised": {"method.name": "supervised"},
    "all_labels": {"method.name": "supervised", "split.labeled": 1.0},
    "mean_teacher": {"method.name": "mean_teacher", "method.threshold": 0.8},
    "guidedmix": {"method.name": "guidedmix"},
    "unstable": {"method.name": "guidedmix", "optim.lr": 1.0},
}
SCORES = {
    "supervised": (0.471, 0.492, 0.460, 0.481),
    "all_labels": (0.601, 0.612, 0.594, 0.606),
    "mean_teacher": (0.512, 0.527, 0.494, 0.525),
    "guidedmix": (0.475, 0.481, 0.472, 0.480),
    "unstable": (0.35, None, 0.37, None),
}
QUALITY = {"mean_teacher": 0.9, "guidedmix": 0.74, "unstable": 0.7}


def write_ablation(
    path: Path, *, blocks: int = 4, scores: Mapping[str, tuple[float | None, ...]] = SCORES, panels: int = 2
) -> Path:
    """The folder at `path`. A score that is None is of a run that failed; a run whose score is missing never began."""
    rng = np.random.default_rng(11)
    write_request(path, "ablate", len(CELLS) * blocks, [{"metric": "val/miou", "mode": "max"}])
    rows: dict[str, list[str]] = {cell: [] for cell in CELLS}
    for number, (block, cell) in enumerate((block, cell) for block in range(blocks) for cell in CELLS):
        if block >= len(scores[cell]):
            rows[cell].append(f"never-{number}")
            continue
        score, params = scores[cell][block], {**CELLS[cell], "seed": block, "split.seed": block}
        state, quality = "failed" if score is None else "complete", QUALITY.get(cell)
        label = f"{cell} · seed {block}"
        trial = write_trial(path, number, "trial", label, params, score or 0.3, state, rng, quality, panels)
        asked = {**json.loads((trial / "trial.json").read_text()), "cell": cell, "block": block, "seed": block}
        (trial / "trial.json").write_text(json.dumps(asked))
        rows[cell].append(trial.name)
    _complete_request(path, blocks, rows)
    return path


def add_stages(path: Path, cell: str, stages: list[tuple[str, int, float]], steps: int) -> None:
    """Before the own steps of each run of the cell: (state, steps, seconds) of each stage. The curves stay."""
    for trial in (path / "trials").iterdir():
        if json.loads((trial / "trial.json").read_text())["cell"] == cell:
            end = json.loads((trial / "result.json").read_text())
            noted = [
                {"index": i, "address": f"{cell}-{i}", "method": "supervised", "metrics": {}}
                | {"state": state, "steps": count, "seconds": seconds}
                for i, (state, count, seconds) in enumerate(stages)
            ]
            metrics = end["metrics"] | {"time/stage_seconds": sum(seconds for _, _, seconds in stages)}
            (trial / "result.json").write_text(
                json.dumps(end | {"stages": noted, "steps": steps, "metrics": metrics, "seconds": 100.0})
            )


def _complete_request(path: Path, blocks: int, rows: dict[str, list[str]]) -> None:
    request = yaml.safe_load((path / "study.yaml").read_text())
    request |= {"base": "shapes", "changes": {"train.steps": 2000}, "reference": "supervised", "ceiling": "all_labels"}
    request |= {"cells": CELLS, "levels": {cell: {} for cell in CELLS}, "runs": rows, "planned": len(CELLS) * blocks}
    request |= {"blocks": {"seed": list(range(blocks)), "split.seed": list(range(blocks))}}
    request |= {"run": {"seed": 0, "train": {"steps": STEPS}, "evaluate": {"part": "val"}}}
    (path / "study.yaml").write_text(yaml.safe_dump(request, sort_keys=False))
