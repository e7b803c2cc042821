"""What two studies differ in, of what decides their results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

DECISIVE = (
    *("kind", "objectives", "run", "parameters", "scheduler", "references", "reference_parameters", "search"),
    *("reference", "sequential", "analysis"),
)
"""Keys of `study.yaml`. Others may change from one start to the next, and some of these: they come last."""
MOST_NAMED = 3


def unlike_requests(made: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """`run.optim.lr is 0.01 there and 0.1 here`; the first ones. Empty if nothing that both say differs."""
    there, here = (
        _leaves({key: each[key] for key in DECISIVE if key in made and key in asked}) for each in (made, asked)
    )
    paths = [path for path in dict.fromkeys([*there, *here]) if there.get(path) != here.get(path)]
    paths = [path for path in paths if path != "search.trials"]
    named = [f"{path} is {there.get(path, 'absent')} there and {here.get(path, 'absent')} here" for path in paths]
    left = len(named) - MOST_NAMED
    return "; ".join([*named[:MOST_NAMED], *([f"{left} more"] if left > 0 else [])])


def _leaves(value: Any, path: str = "") -> dict[str, str]:
    """Dotted path to what stands there, as JSON; a list is one value."""
    if not isinstance(value, Mapping) or not value:
        return {path: json.dumps(value)}
    return {
        place: leaf
        for key, inner in value.items()
        for place, leaf in _leaves(inner, f"{path}.{key}".lstrip(".")).items()
    }
