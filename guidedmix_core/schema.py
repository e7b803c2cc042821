"""From trees to checked configurations and back: build, dump, flatten, fingerprint, JSON Schema."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from guidedmix_core.components import Component, Config, find, inlined
from guidedmix_core.config import RunConfig
from guidedmix_core.errors import ConfigError, nearest
from guidedmix_core.trees import DEFAULT, Tree, with_whole_stages

Model = TypeVar("Model", bound=Config)


def build(tree: Tree, model: type[Model] = RunConfig) -> Model:
    """The checked configuration of a tree. ConfigError lists every problem: place, path, value, what was expected."""
    tree = with_whole_stages(tree) if issubclass(model, RunConfig) else tree
    try:
        return model.model_validate(tree.values)
    except ValidationError as error:
        problems = [_problem(tree, model, dict(problem)) for problem in error.errors(include_url=False)]
        raise ConfigError("\n".join(dict.fromkeys(problems))) from None


def dump(config: Config) -> dict[str, Any]:
    """Nested plain values, components with their name: what `build` takes."""
    return json.loads(config.model_dump_json())


def flatten(config: Config) -> dict[str, Any]:
    """Dotted path to value, for parameters in tables; a list is one value, unless it holds sections."""
    return dict(_leaves(dump(config), ""))


def fingerprint(config: Config) -> str:
    """16 hexadecimal digits that stand for the whole tree, the seed included."""
    return digest(dump(config))


def digest(values: Mapping[str, Any]) -> str:
    """The fingerprint of what `dump` gave."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def explain(tree: Tree, config: Config) -> list[tuple[str, Any, str]]:
    """(path, value, origin) of every leaf of the resolved configuration."""
    tree = with_whole_stages(tree)
    given = tree.origins
    return [
        (path, value, tree.origin(path) if _was_given(path, given) else DEFAULT)
        for path, value in flatten(config).items()
    ]


def json_schema(model: type[BaseModel] = RunConfig) -> dict[str, Any]:
    """For editors. Written to `search_spaces/*.schema.json` by `guidedmix schema`."""
    schema = inlined(model.model_json_schema())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _leaves(value: Any, path: str) -> list[tuple[str, Any]]:
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        value = {str(i): item for i, item in enumerate(value)}
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in _leaves(inner, f"{path}.{key}".lstrip("."))]
    return [(path, value)]


def _was_given(path: str, given: Mapping[str, str]) -> bool:
    is_short = path.endswith(".name") and path.removesuffix(".name") in given  # `method: supervised`
    return path in given or is_short or any(place.startswith(f"{path}.") for place in given)


def _problem(tree: Tree, model: type[BaseModel], problem: dict[str, Any]) -> str:
    path, where = _path_of(problem["loc"], tree.values)
    value, kind, context = problem.get("input"), problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        said = f"unknown key; {nearest(where[-1], _fields(model, where[:-1], tree.values))}"
    elif kind == "missing" and isinstance(problem["loc"][-1], int):
        path = path if where[-1] != str(problem["loc"][-1]) else ".".join(where[:-1])
        return f"{_place(tree, path)}{path}={_written(value)}: expected more items"
    elif kind == "missing":
        said = "required, and not given"
        path = path if where[-1] == problem["loc"][-1] else f"{path}.{problem['loc'][-1]}"  # `data: folder`, in short
    elif kind == "value_error":
        said = str(context.get("error", problem["msg"]))
        place = _places(tree, path, said)
        return f"{place}{path}: {said}" if path and not said.startswith(path) else f"{place}{said}"
    elif kind.startswith("component_"):
        said = problem["msg"]
        path = f"{path}.name"
    else:
        said = f"{_written(value)}: {_expectation(kind, context, problem['msg'])}"
        return f"{_place(tree, path)}{path}={said}"
    return f"{_place(tree, path)}{path}{': ' if path else ''}{said}"


def _places(tree: Tree, path: str, said: str) -> str:
    """Where the values were given that a section's own check names, as `key=value` or by their whole path."""
    named = [name for key in re.findall(r"([a-z_][\w.]*)=", said) for name in (f"{path}.{key}".lstrip("."), key)]
    origins = dict.fromkeys(tree.origins[name] for name in named if name in tree.origins)
    return f"{' and '.join(origins)}: " if origins else _place(tree, path)


def _place(tree: Tree, path: str) -> str:
    """Where the value was given, or what is in it; or what named the component that asks for it."""
    inside = (origin for place, origin in tree.origins.items() if place.startswith(f"{path}."))
    named = tree.origins.get(f"{path.rpartition('.')[0]}.name")
    origin = tree.origins.get(path) or next(inside, None) or named or tree.origin(path)
    return "" if origin == DEFAULT else f"{origin}: "


def _written(value: Any) -> str:
    plain = (str, bool, type(None), list, tuple, dict, int, float)
    return json.dumps(value) if isinstance(value, plain) else repr(value)


def _expectation(kind: str, context: Mapping[str, Any], message: str) -> str:
    bounds = {
        "greater_than": ("more than", "gt"),
        "greater_than_equal": ("at least", "ge"),
        "less_than": ("less than", "lt"),
        "less_than_equal": ("at most", "le"),
    }
    if kind in bounds:
        words, key = bounds[kind]
        return f"expected {words} {context[key]}"
    if kind in ("too_short", "too_long"):
        bound, number = ("least", context["min_length"]) if kind == "too_short" else ("most", context["max_length"])
        return f"expected at {bound} {number} item{'s' * (number > 1)}"
    if kind == "literal_error":
        return f"expected one of {context['expected']}"
    types = {
        "int_type": "an integer",
        "float_type": "a number",
        "bool_type": "true or false",
        "string_type": "a text",
        "tuple_type": "a list",
        "model_type": "a section of keys",
        "dict_type": "a section of keys",
    }
    types |= {
        "model_attributes_type": "a section of keys",
        "finite_number": "a finite number",
        "int_from_float": "an integer",
    }
    if kind in types:
        return f"expected {types[kind]}"
    return message[0].lower() + message[1:]


def _path_of(loc: tuple[int | str, ...], values: Any) -> tuple[str, list[str]]:
    """The dotted path of an error. Pydantic also names the member of a union it tried; those are no keys."""
    parts: list[str] = []
    for i, part in enumerate(loc):
        if isinstance(values, dict) and part not in values and i < len(loc) - 1:
            continue
        if isinstance(values, list) and not isinstance(part, int):
            continue
        if not isinstance(values, (dict, list)) and parts:
            break
        parts.append(str(part))
        try:
            values = values[part]  # pyright: ignore[reportArgumentType] - a key or an index
        except (KeyError, IndexError, TypeError):
            values = None
    return ".".join(parts), parts


def _fields(model: type[BaseModel], path: list[str], values: Any) -> list[str]:
    """The known keys of the section at a path."""
    models = [model]
    for part in path:
        if isinstance(values, list):
            values = values[int(part)]
            continue
        values = values[part] if isinstance(values, dict) and part in values else {}
        if part in model.model_fields:  # else a key of a mapping, whose values these models are
            models = _models(model.model_fields[part].annotation)
        if not models:
            return []
        given = set(values) if isinstance(values, dict) else set()
        model = max(models, key=lambda candidate: len(set(candidate.model_fields) & given))
        if issubclass(model, Component) and "family" in model.__dict__:
            model = find(model.family, values["name"])
            models = [model]
    known = list(model.model_fields)
    return ["name", *known] if path and issubclass(model, Component) else known


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The sections that an annotation allows, however deep inside a union or a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]
