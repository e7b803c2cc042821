"""The tree a run is built from, what lies over it, and a chain of stages written as one list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from guidedmix_core.errors import ConfigError, nearest

DEFAULT = "default"
OWN = {"method": "method", "steps": "train.steps"}
"""What the last stage of a whole chain says of the run, and where a run says it."""


@dataclass(frozen=True)
class Tree:
    """Nested plain values, and where each was given: dotted path to `file:line` or the words of the change.

    Trees share the sections that they have in common, so nobody writes into one.
    """

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
    values = _merge(under.values, over.values, "", origins)
    return Tree(values, {**origins, **over.origins})


def chained(tree: Tree) -> Tree:
    """The tree with the run's own method at the top and those before it in `stages`.

    A tree that names no method but stages is a whole chain: the last of them is the run's own method and steps.
    """
    stages = tree.values.get("stages")
    if tree.values.get("method") is not None or not isinstance(stages, list) or not stages:
        return tree
    return _with_own_method(tree, stages) if isinstance(stages[-1], dict) else tree


def with_whole_stages(tree: Tree) -> Tree:
    """`chained`, and what a stage says of `optim` laid over the run's: `{lr: 0.1}` changes nothing but the rate."""
    return _with_whole_optim(chained(tree))


def _with_own_method(tree: Tree, stages: list[Any]) -> Tree:
    last = f"stages.{len(stages) - 1}"
    *before, own = stages
    for key in sorted(own.keys() - OWN.keys()):
        known = "it stands at the top of the run" if key == "optim" else nearest(key, OWN)
        raise ConfigError(f"{tree.origin(f'{last}.{key}')}: {last}.{key}: unknown key of a chain's last stage; {known}")
    rest = {key: value for key, value in tree.values.items() if key not in ("method", "stages")}
    above = {
        path: origin for path, origin in tree.origins.items() if not _is_in(path, last) and not _is_in(path, "method")
    }
    run = Tree(rest, above)
    for key, path in OWN.items():
        if own.get(key) is not None:
            place = f"{last}.{key}"
            moved = {path + at.removeprefix(place): tree.origins[at] for at in tree.origins if _is_in(at, place)}
            section, _, inner = path.partition(".")
            run = overlay(run, Tree({section: {inner: own[key]} if inner else own[key]}, moved))
    return Tree({**run.values, "stages": before}, run.origins)


def _with_whole_optim(tree: Tree) -> Tree:
    given, run = tree.values.get("stages"), tree.values.get("optim") or {}
    stages, inherited = list(given) if isinstance(given, list) else [], {}
    for i, stage in enumerate(stages):
        own = stage.get("optim") if isinstance(stage, dict) else None
        if isinstance(own, dict):
            stages[i] = {**stage, "optim": {**run, **own}}
            inherited |= {f"stages.{i}.optim.{key}": tree.origin(f"optim.{key}") for key in run if key not in own}
    return Tree({**tree.values, "stages": stages}, {**tree.origins, **inherited}) if stages else tree


def _is_in(path: str, section: str) -> bool:
    return f"{path}.".startswith(f"{section}.")


def _merge(under: Mapping[str, Any], over: Mapping[str, Any], path: str, origins: dict[str, str]) -> dict[str, Any]:
    merged = dict(under)
    if "name" in over and "name" in under and over["name"] != under["name"]:
        merged = {}
        _forget_below(path, origins)
    for key, value in over.items():
        merged[key] = _laid(merged.get(key), value, f"{path}.{key}".lstrip("."), origins)
    return merged


def _laid(old: Any, new: Any, path: str, origins: dict[str, str]) -> Any:
    """`new` over `old` at a path."""
    if isinstance(old, str) and isinstance(new, dict):
        old = {"name": old}  # a component in short
    if isinstance(new, str) and isinstance(old, dict) and "name" in old:
        new = {"name": new}
    if isinstance(old, dict) and isinstance(new, dict):
        return _merge(old, new, path, origins)
    if isinstance(old, list) and isinstance(new, dict):
        old = list(old)
        for number, item in new.items():
            if not str(number).isdecimal() or int(number) >= len(old):
                raise ConfigError(f"{path}.{number}: no such item; {path} has {len(old)}, the first is {path}.0")
            old[int(number)] = _laid(old[int(number)], item, f"{path}.{number}", origins)
        return old
    _forget_below(path, origins)
    return new


def _forget_below(path: str, origins: dict[str, str]) -> None:
    above = f"{path}."
    for place in [place for place in origins if place.startswith(above)]:
        del origins[place]
