"""Ten steps of every method and variant, as numbers. `python -m tests.golden.trajectories` records them anew.

A refactor leaves these numbers unchanged. A change of behavior changes them, and its commit says why.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch

from guidedmix_core.checkpoint import Checkpoints
from guidedmix_core.components import names
from guidedmix_core.trainer import train
from tests.listening import Listening
from tests.runs import small_run

FILE = Path(__file__).with_name("trajectories.json")

VARIANTS: dict[str, dict[str, object]] = {
    **{name: {"method.name": name} for name in names("methods")},
    "mean_teacher classmix": {"method.name": "mean_teacher", "method.mixer": "classmix", "method.threshold": 0.2},
    "cps without cutmix": {"method.name": "cps", "method.mixer": "none", "method.claim_mode": "eval"},
    "rrn regions": {"method.name": "rrn", "method.granularity": "region", "method.threshold": 0.5},
    "supmix classmix": {
        "method.name": "supmix",
        "method.rule": "half_random",
        "method.mix_unlabeled": "classmix",
        "method.threshold": 0.2,
        "method.feature_view": "weak",
        "method.contest": "hinge",
    },
    "guidedmix depth 2": {"method.name": "guidedmix", "method.mitrans.depth": 2, "method.pseudo.threshold": 0.2},
    "guidedmix no mixing": {"method.name": "guidedmix", "method.mix.level": "none"},
}


def trajectory(changes: dict[str, object]) -> dict[str, object]:
    """The named losses of ten steps, and the mIoU after them."""
    torch.set_num_threads(1)
    listening = Listening()
    config = small_run({**changes, "train.steps": 10, "evaluate.every": 10})
    with tempfile.TemporaryDirectory() as folder:
        result = train(config, listening, Checkpoints(Path(folder)), device="cpu")
    return {"losses": listening.losses, "miou": result.metrics["val/miou"]}


if __name__ == "__main__":
    recorded = {name: trajectory(changes) for name, changes in VARIANTS.items()}
    FILE.write_text(json.dumps(recorded, indent=1) + "\n")
    print(f"{FILE}: {len(recorded)} trajectories")
