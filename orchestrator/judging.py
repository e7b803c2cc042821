"""Which settings of a run decide what its numbers mean, and not only how good they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

SECTIONS = ("data", "split", "augment.crop", "evaluate")
NOT_OF_IT = (
    "data.root",  # where the files lie; what is in them is compared
    "data.unreadable_tolerance",
    "split.seed",  # varies from run to run
    "split.zip_streams",
    "evaluate.every",
    "evaluate.batch_size",
    "evaluate.telemetry_images",
    "evaluate.panels",
)


def is_part(path: str) -> bool:
    """Whether a change of this path changes what the numbers mean, and not only how good they are."""
    if path in NOT_OF_IT:
        return False
    return any(path == section or path.startswith(f"{section}.") for section in SECTIONS)


def otherwise_judged(cells: Mapping[str, Mapping[str, Any]], reference: str) -> list[str]:
    """Of an ablation's cells and their changes: a sentence for each that is judged on other images, or in another way,
    than the reference."""
    judged = {name: {path: each for path, each in own.items() if _judges(path)} for name, own in cells.items()}
    usual, said = judged[reference], []
    for name, own in judged.items():
        differing = [path for path in {**usual, **own} if own.get(path) != usual.get(path)]
        words = (f"{path}={json.dumps(own[path])}" if path in own else f"{path} of the base" for path in differing)
        if differing:
            said.append(
                f"{name} is judged otherwise than {reference}: {', '.join(words)}; the difference shows that, too."
            )
    return said


def _judges(path: str) -> bool:
    return is_part(path) and path.startswith(("data.", "evaluate."))
