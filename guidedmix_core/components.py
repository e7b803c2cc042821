"""Components are found by their file's name: `methods/guidedmix.py` holds the one component class `method: {name:
guidedmix}` names.

The folder is the registry. A family is a package whose `__init__` holds the base class; each other file without a
leading underscore holds one subclass of it. Adding a component is adding a file.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic_core import PydanticCustomError, core_schema

from guidedmix_core.errors import ConfigError, nearest


class Config(BaseModel):
    """A frozen, strictly typed section of a run. Fields are the hyperparameters; nothing else decides what is
    trained."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _sections_keep_their_other_defaults(cls, values: Any) -> Any:
        """Of a section whose default is more than its class's, one field can be changed without losing the others."""
        if not isinstance(values, Mapping):
            return values
        filled = dict(values)
        for name, default in _defaults_with_fields(cls):
            if isinstance(given := values.get(name), Mapping):
                filled[name] = {**default, **given}
        return filled


class Component(Config):
    """A section that is chosen by name. The family's base class sets `family` to its package's name: `methods`, or,
    outside the core, with all that is above it."""

    family: ClassVar[str]

    @property
    def name(self) -> str:
        """The file's name, as users type it."""
        return type(self).__module__.rpartition(".")[2]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        if "family" not in cls.__dict__:  # a concrete component validates its own fields
            return handler(source)
        return core_schema.no_info_plain_validator_function(
            lambda value: _build(cls, value), serialization=core_schema.plain_serializer_function_ser_schema(_dump)
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        if "family" not in cls.__dict__:
            return handler(schema)
        in_short = {"enum": list(names(cls.family)), "description": "in short for {name: …}"}
        return {"anyOf": [*(_named_schema(name, find(cls.family, name)) for name in names(cls.family)), in_short]}


@cache
def _defaults_with_fields(config: type[Config]) -> tuple[tuple[str, dict[str, Any]], ...]:
    """Of each section with a default of its own: what that one sets."""
    defaults = ((name, field.default) for name, field in config.model_fields.items())
    given = ((name, default, default.model_fields_set) for name, default in defaults if isinstance(default, Config))
    return tuple((name, {own: getattr(default, own) for own in sorted(fields)}) for name, default, fields in given)


@cache
def names(family: str) -> tuple[str, ...]:
    """The names of a family's components, sorted: `names("methods")`."""
    package = importlib.import_module(_package(family))
    return tuple(
        sorted(found.name for found in pkgutil.iter_modules(package.__path__) if not found.name.startswith("_"))
    )


@cache
def find(family: str, name: str) -> type[Component]:
    """The component class that stands in `family/name.py`. ConfigError names the nearest one if there is none."""
    if name not in names(family):
        raise ConfigError(f"no {_singular(family)} {name!r}; {nearest(name, names(family))}")
    module = importlib.import_module(f"{_package(family)}.{name}")
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Component) and value.__module__ == module.__name__
    ]
    assert len(own) == 1, f"{module.__name__} must define exactly one component, not {[c.__name__ for c in own]}"
    return own[0]


def inlined(schema: Any, definitions: Mapping[str, Any] | None = None) -> Any:
    """A JSON schema without references: each stands where it was referred to."""
    if isinstance(schema, list):
        return [inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    known = {**(definitions or {}), **schema.get("$defs", {})}
    if "$ref" in schema:
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return inlined({**known[schema["$ref"].rpartition("/")[2]], **rest}, known)
    return {key: inlined(value, known) for key, value in schema.items() if key != "$defs"}


def _build(base: type[Component], value: Any) -> Component:
    if isinstance(value, base):
        return value
    value = {"name": value} if isinstance(value, str) else value
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise PydanticCustomError(
            "component_name",
            "expected a name, or a mapping with one; {hint}",
            {"hint": nearest("", names(base.family))},
        )
    fields = dict(value)
    try:
        component = find(base.family, fields.pop("name"))
    except ConfigError as error:
        raise PydanticCustomError("component_unknown", "{problem}", {"problem": str(error)}) from None
    return component.model_validate(fields)  # a ValidationError from here keeps its path under ours


def _dump(value: Component) -> dict[str, Any]:
    return {"name": value.name, **value.model_dump()}


def _named_schema(name: str, component: type[Component]) -> dict[str, Any]:
    schema = inlined(component.model_json_schema())
    schema["properties"] = {
        "name": {"const": name, "description": (component.__doc__ or name).strip()},
        **schema.get("properties", {}),
    }
    schema["required"] = ["name", *schema.get("required", [])]
    return schema


def _package(family: str) -> str:
    return family if "." in family else f"guidedmix_core.{family}"


def _singular(family: str) -> str:
    last = family.rpartition(".")[2]
    return {"datasets": "data set"}.get(last, last.removesuffix("s"))
