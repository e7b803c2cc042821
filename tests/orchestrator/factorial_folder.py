"""A study folder as a full factorial leaves it: three factors at two levels, eight cells. Nothing is trained."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.orchestrator.study_folder import STEPS, write_request, write_trial

FACTORS: dict[str, dict[str, Any]] = {
    "mixing": {"on": {}, "off": {"method.mix": None}},
    "pairing": {"guided": {}, "random": {"method.pairing.mode": "random"}},
    "average": {"on": {}, "off": {"method.ema": None}},
}
EFFECTS = {"mixing": 0.04, "pairing": 0.01, "average": 0.0}
"""What each first level adds to the mIoU; mixing and pairing together add another 0.02."""


def levels_of() -> dict[str, dict[str, str]]:
    """Of each cell, `full` first."""
    made = [dict(zip(FACTORS, levels, strict=True)) for levels in product(*FACTORS.values())]
    return {"full" if i == 0 else "-".join(levels.values()): levels for i, levels in enumerate(made)}


def score_of(levels: dict[str, str], block: int) -> float:
    first = {factor: level == next(iter(FACTORS[factor])) for factor, level in levels.items()}
    gain = sum(EFFECTS[factor] for factor, is_first in first.items() if is_first)
    return 0.5 + 0.01 * block + gain + 0.02 * (first["mixing"] and first["pairing"])


def write_factorial(path: Path, blocks: int = 2) -> Path:
    rng, levels = np.random.default_rng(5), levels_of()
    goal = {"metric": "val/miou", "mode": "max"}
    write_request(path, "ablate", len(levels) * blocks, [goal])
    rows: dict[str, list[str]] = {cell: [] for cell in levels}
    for number, (block, cell) in enumerate(product(range(blocks), levels)):
        params = {"method.cell": cell, "seed": block}
        trial = write_trial(
            path, number, "trial", f"{cell} · seed {block}", params, score_of(levels[cell], block), "complete", rng, 0.9
        )
        asked = {**json.loads((trial / "trial.json").read_text()), "cell": cell, "block": block}
        (trial / "trial.json").write_text(json.dumps(asked))
        config = yaml.safe_load((trial / "config.yaml").read_text())
        (trial / "config.yaml").write_text(yaml.safe_dump({**config, "data": {"name": "shapes"}}))
        rows[cell].append(trial.name)
    request = yaml.safe_load((path / "study.yaml").read_text())
    request |= {"base": "shapes", "changes": {}, "reference": "full", "ceiling": None, "factors": FACTORS}
    request |= {"levels": levels, "runs": rows, "cells": {cell: {"method.cell": cell} for cell in levels}}
    request |= {"blocks": {"seed": list(range(blocks))}}
    request |= {"run": {"train": {"steps": STEPS}, "evaluate": {"part": "val"}, "data": {"name": "shapes"}}}
    (path / "study.yaml").write_text(yaml.safe_dump(request, sort_keys=False))
    return path
