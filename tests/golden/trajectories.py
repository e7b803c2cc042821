"""Ten steps of every method and variant, as numbers.

`python -m tests.golden.trajectories` records those that are new, `… NAME …` those that are named, too. A refactor
leaves the numbers unchanged. A change of behavior changes them, and its commit says why.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import torch

from guidedmix_core.checkpoint import Checkpoints
from guidedmix_core.components import names
from guidedmix_core.trainer import train
from tests.listening import Listening
from tests.runs import small_run, subject

FILE = Path(__file__).with_name("trajectories.json")

VARIANTS: dict[str, dict[str, object]] = {
    **{name: subject(name) for name in names("methods")},
    "mean_teacher classmix": {"method.name": "mean_teacher", "method.mixer": "classmix", "method.threshold": 0.0},
    "guidedmix depth 2": {"method.name": "guidedmix", "method.mitrans.depth": 2, "method.pseudo.threshold": 0.0},
    "guidedmix no mixing": {**subject("guidedmix"), "method.mix.level": "none"},
    # One prototype a class: where several clusters of an untrained network's features lie, the last bits decide.
    "pcr": {**subject("pcr"), "method.prototypes.num_each": 1},
    "u2pl all anchors": {**subject("u2pl"), "method.contrast.anchor_probability": 0.0},
    "cps without cutmix": {"method.name": "cps", "method.mixer": "none", "method.claim_mode": "eval"},
    "rrn regions": {**subject("rrn"), "method.granularity": "region", "method.threshold": 0.5},
    "supmix classmix": {
        **subject("supmix"),
        "method.rule": "half_random",
        "method.mix_unlabeled": "classmix",
        "method.feature_view": "weak",
        "method.contest": "hinge",
    },
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
    recorded = json.loads(FILE.read_text())
    wanted = [name for name in VARIANTS if name not in recorded or name in sys.argv[1:]]
    recorded = {name: recorded[name] for name in VARIANTS if name in recorded}
    recorded |= {name: trajectory(VARIANTS[name]) for name in wanted}
    FILE.write_text(json.dumps(dict(sorted(recorded.items())), indent=1) + "\n")
    print(f"{FILE}: recorded {', '.join(wanted) or 'nothing'}")
