"""The tree a run is built from, what lies over it, and a chain of stages written as one list."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from guidedmix_core.errors import ConfigError, nearest

DEFAULT = "default"
STAGE_KEYS = {"method": "method", "steps": "train.steps", "optim": "optim"}
"""What a stage says of itself, and where a run says the same."""


@dataclass(frozen=True)
class Tree:
    """Nested plain values, and where each was given: dotted path to `file:line` or the words of the change."""

    values: dict[str, Any]
    origins: dict[str, str]

    def origin(self, path: str) -> str:
        """Of the value at the path, or of the nearest section above it that was given."""
        while path:
            if path in self.origins:
                return self.origins[path]
            path = path.rpartition(".")[0]
        return DEFAULT


def overlay(under: Tree, over: Tree) -> Tree:
    """`over` laid on `under`, section by section; a list as a whole, or its items by number. Where it names another
    component, the old one's fields go: the new one starts from its defaults."""
    origins = dict(under.origins)
    values = _merge(copy.deepcopy(under.values), over.values, "", origins)
    return Tree(values, {**origins, **over.origins})


def chained(tree: Tree) -> Tree:
    """The tree as a run has it: its own method at the top, the stages before it in `stages`, each stage's `optim` whole.

    A tree that names no method but stages is a whole chain: the last of them is the run's own method, steps and optim.
    """
    stages = tree.values.get("stages")
    if not isinstance(stages, list) or not stages:
        return tree
    if tree.values.get("method") is None and isinstance(stages[-1], dict):
        tree = _with_own_method(tree, len(stages) - 1)
    for i, stage in enumerate(tree.values["stages"]):
        if isinstance(stage, dict) and isinstance(stage.get("optim"), dict):
            tree = _with_whole_optim(tree, i)
    return tree


def _with_own_method(tree: Tree, last: int) -> Tree:
    place = f"stages.{last}"
    *before, own = tree.values["stages"]
    if unknown := own.keys() - STAGE_KEYS.keys():
        key = min(unknown)
        raise ConfigError(f"{tree.origin(f'{place}.{key}')}: {place}.{key}: unknown key; {nearest(key, STAGE_KEYS)}")
    values = {key: value for key, value in tree.values.items() if key not in ("method", "stages")}
    given = {path: origin for path, origin in tree.origins.items() if not f"{path}.".startswith((f"{place}.", "method."))}
    for key, path in STAGE_KEYS.items():
        if own.get(key) is None:
            continue
        section, _, inner = path.partition(".")
        moved = {path + where.removeprefix(f"{place}.{key}"): origin for where, origin in _below(tree, f"{place}.{key}")}
        over = {section: {inner: own[key]} if inner else own[key]}
        given_tree = overlay(Tree(values, given), Tree(over, moved))
        values, given = given_tree.values, given_tree.origins
    return Tree({**values, "stages": before}, given)


def _with_whole_optim(tree: Tree, i: int) -> Tree:
    """A stage's `optim` lies over the run's: `optim: {lr: 0.1}` changes the learning rate and nothing else."""
    place, stages = f"stages.{i}.optim", list(tree.values["stages"])
    run = tree.values.get("optim") or {}
    own = {**run, **stages[i]["optim"]}
    inherited = {
        f"{place}.{key}": tree.origin(f"optim.{key}") for key in run if key not in stages[i]["optim"]
    }
    stages[i] = {**stages[i], "optim": own}
    return Tree({**tree.values, "stages": stages}, {**inherited, **tree.origins})


def _below(tree: Tree, place: str) -> list[tuple[str, str]]:
    return [(path, origin) for path, origin in tree.origins.items() if f"{path}.".startswith(f"{place}.")]


def _merge(under: dict[str, Any], over: Mapping[str, Any], path: str, origins: dict[str, str]) -> dict[str, Any]:
    if "name" in over and "name" in under and over["name"] != under["name"]:
        under = {}
        for place in [place for place in origins if place.startswith(f"{path}.")]:
            del origins[place]
    for key, value in over.items():
        under[key] = _laid(under.get(key), value, f"{path}.{key}".lstrip("."), origins)
    return under


def _laid(old: Any, new: Any, path: str, origins: dict[str, str]) -> Any:
    """`new` over `old` at a path."""
    if isinstance(old, str) and isinstance(new, dict):
        old = {"name": old}  # a component in short
    if isinstance(new, str) and isinstance(old, dict) and "name" in old:
        new = {"name": new}
    if isinstance(old, dict) and isinstance(new, dict):
        return _merge(old, new, path, origins)
    if isinstance(old, list) and isinstance(new, dict):
        for number, item in new.items():
            if not str(number).isdecimal() or int(number) >= len(old):
                raise ConfigError(f"{path}.{number}: no such item; {path} has {len(old)}, the first is {path}.0")
            old[int(number)] = _laid(old[int(number)], item, f"{path}.{number}", origins)
        return old
    for place in [place for place in origins if place.startswith(f"{path}.")]:
        del origins[place]
    return copy.deepcopy(new)
