"""What sharing stages saves: the same small ablation with it, and with a folder of stages for each run.

    python benchmarks/stages.py [--cells 4] [--stage 60] [--steps 20]

Both are made one run after another in this process. The ratio of wall times depends on how long stage and runs are;
that of steps is exact, and so is the claim that no number differs.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from guidedmix_core import Tree, build
from orchestrator.ablation import AblationStudy
from orchestrator.executors.inline import run
from orchestrator.folder import StudyFolder
from orchestrator.results import TrialRecord, load_trials

BASE: dict[str, Any] = {
    "method": {"name": "supervised"},
    "segmentor": {"name": "unet", "backbone": {"name": "tiny", "width": 8}},
    "data": {"name": "shapes", "image_size": [64, 64], "num_train": 32, "num_val": 8, "num_test": 2},
    "split": {"labeled": 8},
    "augment": {"crop": [64, 64]},
    "train": {"batch_size": 4, "unlabeled_batch_size": 4},
    "evaluate": {"every": 1000, "telemetry_images": 0, "panels": 0},
}


def study_of(cells: dict[str, Any], steps: int) -> tuple[AblationStudy, Tree]:
    request = {"base": "tiny", "reference": next(iter(cells)), "cells": cells, "blocks": {"seed": [0]}}
    return build(Tree(request, {}), AblationStudy), Tree({**BASE, "train": {**BASE["train"], "steps": steps}}, {})


def made(place: Path, cells: dict[str, Any], steps: int) -> list[TrialRecord]:
    folder = StudyFolder(place / "study")
    run(*study_of(cells, steps), folder, [], "cpu")
    return load_trials(folder)


def measured(records: list[TrialRecord]) -> dict[str | None, dict[str, float]]:
    return {
        record.cell: {name: value for name, value in record.metrics.items() if not name.startswith("time/")}
        for record in records
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=4)
    parser.add_argument("--stage", type=int, default=60, help="steps of the stage that all cells share")
    parser.add_argument("--steps", type=int, default=20, help="of each run after it")
    options = parser.parse_args()
    stage = {"method": "supervised", "steps": options.stage, "optim": {"lr": 0.01}}
    cells = {f"rate_{i}": {"optim.lr": 0.01 * (i + 1), "stages": [stage]} for i in range(options.cells)}
    with tempfile.TemporaryDirectory() as place:
        made(Path(place) / "warm", {"warm": {}}, 1)
        began = time.perf_counter()
        shared = made(Path(place) / "shared", cells, options.steps)
        between = time.perf_counter()
        alone = [
            record
            for name, changes in cells.items()
            for record in made(Path(place) / name, {name: changes}, options.steps)
        ]
        ended = time.perf_counter()
    every = options.cells * (options.stage + options.steps)
    left = every - (options.cells - 1) * options.stage
    together, apart = between - began, ended - between
    print(
        f"{options.cells} cells, a stage of {options.stage} steps, then {options.steps}; load {os.getloadavg()[0]:.1f}"
    )
    print(f"steps      {every} alone, {left} shared: {every - left} saved, {every / left:.2f} times less")
    print(f"wall time  {apart:.1f} s alone, {together:.1f} s shared: {apart / together:.2f} times less")
    print(f"metrics    {'identical to the bit' if measured(shared) == measured(alone) else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
