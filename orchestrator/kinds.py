"""What a YAML file is: a run, a search or an ablation; told by its keys."""

from __future__ import annotations

from collections.abc import Collection

from guidedmix_core import ConfigError, RunConfig, Tree, read_run, read_yaml, resolve

MARKS = {
    "search": {"parameters"},
    "ablation": {"reference", "cells", "factors", "design"},
    "base": {*RunConfig.model_fields},
}
"""Keys that only files of a kind have, by the folder in which it lies."""
VERBS = {"search": "tune", "ablation": "ablate", "base": "train"}


def kind_of(keys: Collection[str]) -> str | None:
    """search, ablation or base; None: there are too few keys to tell."""
    return next((kind for kind, marks in MARKS.items() if not marks.isdisjoint(keys)), None)


def check_kind(name: str, keys: Collection[str], expected: str) -> None:
    """ConfigError names the verb that takes the file."""
    if (kind := kind_of(keys)) is not None and kind != expected:
        raise ConfigError(
            f"{name}: the keys are of the kind {kind}, expected {expected}; guidedmix {VERBS[kind]} {name}"
        )


def read_base(name: str) -> Tree:
    """`read_run`. ConfigError also if the file is that of a study."""
    check_kind(name, read_yaml(resolve(name)).values, "base")
    return read_run(name)
