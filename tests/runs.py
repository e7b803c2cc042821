"""The smallest real run: the embedded data set, the tiny backbone, a few steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from guidedmix_core.config import RunConfig
from guidedmix_core.schema import build, flatten
from guidedmix_core.sources import Tree, override

SMALL: dict[str, Any] = {
    "method": {"name": "supervised"},
    "segmentor": {
        "name": "deeplabv3plus",
        "aspp_channels": 8,
        "low_level_channels": 4,
        "decoder_channels": 8,
        "dilations": [1, 2, 3],
        "backbone": {"name": "tiny", "width": 4},
    },
    "data": {"name": "shapes", "image_size": [32, 32], "num_train": 12, "num_val": 4, "num_test": 2},
    "split": {"labeled": 4},
    "augment": {"crop": [32, 32]},
    "optim": {"optimizer": "adamw", "lr": 0.002},
    "train": {"steps": 4, "batch_size": 4, "unlabeled_batch_size": 4},
    "evaluate": {"every": 2, "telemetry_images": 4, "panels": 1},
}

NEEDS: dict[str, dict[str, Any]] = {
    "st_plus_plus": {"stages": [{"method": "supervised", "steps": 3}]},
}
"""What a method needs to run at all."""


def small_tree(changes: Mapping[str, Any] | None = None) -> Tree:
    """The run as a tree, changed at dotted paths."""
    changes = changes or {}
    return override(Tree(SMALL, {}), {**NEEDS.get(changes.get("method.name", ""), {}), **changes}, "test")


def small_run(changes: Mapping[str, Any] | None = None) -> RunConfig:
    """The run, built and checked."""
    return build(small_tree(changes))


def subject(method: str) -> dict[str, Any]:
    """The changes that make the run one of this method, every pixel taught: fresh networks are not sure."""
    fields = flatten(small_run({"method.name": method}))
    thresholds = [path for path in fields if path in ("method.threshold", "method.pseudo.threshold")]
    return {"method.name": method, **dict.fromkeys(thresholds, 0.0)}
