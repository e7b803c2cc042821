"""The space of a search: the points that conditions allow, its corners, and a check that every corner is a run.

A parameter is a dotted path of the run. Where its condition does not hold it is absent, and the base's value stands.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from guidedmix_core import ConfigError, RunConfig, Tree, build, nearest, override
from orchestrator.distributions import Choice, Domain, Parameters

if TYPE_CHECKING:
    from orchestrator.study import SearchStudy

MAX_CORNERS = 4096


def ordered(parameters: Parameters) -> tuple[str, ...]:
    """The paths, each after those its condition names; otherwise as they were given."""
    order: list[str] = []
    while len(order) < len(parameters):
        ready = [
            path for path in parameters if path not in order and all(other in order for other in parameters[path].when)
        ]
        assert ready, "check_conditions lets no circle through"
        order.append(ready[0])
    return tuple(order)


def is_active(parameter: Domain, point: Mapping[str, Any]) -> bool:
    """Whether the parameter's condition holds at a point that has all parameters before it."""
    return all(other in point and point[other] in values for other, values in parameter.when.items())


def grid(parameters: Parameters) -> Iterator[dict[str, Any]]:
    """Every point, the last parameter changing fastest. All parameters must be countable."""
    return _points(parameters, lambda path: parameters[path].values() or ())


def is_countable(parameters: Parameters) -> bool:
    return all(parameter.values() is not None for parameter in parameters.values())


def corners(parameters: Parameters) -> list[dict[str, Any]]:
    """All combinations of extreme values and choices, where conditions let them meet.

    Of 4096 or more: each of these values with all others in the middle, and the same sample of combinations each time.
    """
    levels = {path: _levels(path, parameters) for path in parameters}
    points = list(islice(_points(parameters, levels.__getitem__), MAX_CORNERS))
    return points if len(points) < MAX_CORNERS else _some_corners(parameters, levels)


def data_corners(parameters: Parameters) -> list[dict[str, Any]]:
    """Those that decide what is read."""
    return [point for point in corners(parameters) if any(path.startswith(("data", "split")) for path in point)]


def check_sampler(sampler: str, parameters: Parameters) -> None:
    """For a study's validator: whether the sampler can search such parameters."""
    numbers = [path for path, parameter in parameters.items() if not isinstance(parameter, Choice)]
    spelled = ", ".join(parameters)
    if sampler == "cmaes" and len(numbers) < 2:
        refuse(f"cmaes needs two parameters or more that are numbers; given {spelled}", "search", "sampler")
    if sampler in ("gp", "cmaes", "qmc") and any(parameter.when for parameter in parameters.values()):
        refuse(f"{sampler} has no way to follow a when; tpe, random and grid do", "search", "sampler")
    if sampler == "grid" and not is_countable(parameters):
        refuse(f"a grid needs parameters of int, choice or quantized only; given {spelled}", "search", "sampler")


def check_space(study: SearchStudy, base: Tree) -> str:
    """Builds every corner, start point and reference, and says how many corners these were.

    ConfigError names the first that is no run, and what is wrong with it.
    """
    build(base)
    points = corners(study.parameters)
    for point in points:
        check_run(base, point, f"the corner {_written(point)} of the space", "parameters")
    for i, point in enumerate(study.search.start_from):
        check_run(base, point, f"search.start_from.{i}", f"search.start_from.{i}")
    for label, changes in study.references.items():
        check_run(base, changes, f"the reference {label!r}", f"references.{label}")
    for label, parameters in study.reference_parameters.items():
        for point in corners(parameters):
            name = f"the corner {_written(point)} of the space of {label!r}"
            changes = {**study.references[label], **point}
            check_run(base, changes, name, f"references.{label}", f"reference_parameters.{label}")
    if len(points) == MAX_CORNERS:
        return f"{len(points)} corners of the space are runs: each value alone, and a sample of the combinations"
    return f"all {len(points)} corners of the space are runs"


def check_run(base: Tree, changes: Mapping[str, Any], name: str, *sections: str) -> RunConfig:
    """The changed base, built. ConfigError says where in these sections of the study the wrong value stands."""
    try:
        return build(override(Tree(base.values, {}), changes, name))
    except ConfigError:
        return _check_with_places(base, changes, name, *sections)  # places cost more than the run: a file has thousands


def check_conditions(parameters: dict[str, Any]) -> dict[str, Any]:
    """For a study's field: conditions name other parameters and values they take, in no circle, and can be met."""
    for path, parameter in parameters.items():
        if inside := next((other for other in parameters if other.startswith(f"{path}.")), None):
            refuse(f"holds another parameter, {inside}; give one of them", path)
        for other, values in parameter.when.items():
            if other not in parameters:
                refuse(
                    f"a condition names another parameter; {nearest(other, set(parameters) - {path})}",
                    path,
                    "when",
                    other,
                )
            if parameters[other].values() is None:
                refuse("a condition needs a parameter of int, choice or quantized", path, "when", other)
            if strange := [value for value in values if not parameters[other].has(value)]:
                refuse(f"{other} never takes {strange[0]!r}", path, "when", other)
    for path in parameters:
        _allowed(path, parameters, ())
    return parameters


def check_start(points: Iterable[Mapping[str, Any]], parameters: Parameters) -> None:
    """Each start point names parameters and values they take. It may leave some out: the sampler fills them in."""
    for i, point in enumerate(points):
        for path, value in point.items():
            place = ("search", "start_from", i, path)
            if path not in parameters:
                refuse(f"not a parameter of this search; {nearest(path, parameters)}", *place)
            if not parameters[path].has(value):
                refuse(f"{value!r} is not in the space of this parameter", *place)
            if any(other in point and point[other] not in values for other, values in parameters[path].when.items()):
                refuse("the parameter's condition does not hold at this point", *place)


def refuse(problem: str, *place: str | int) -> NoReturn:
    """A ValidationError at a place below the validator that calls this, so that the message has file and line."""
    error = PydanticCustomError("value_error", "{error}", {"error": problem})
    raise ValidationError.from_exception_data("space", [InitErrorDetails(type=error, loc=place, input=None)])


def _check_with_places(base: Tree, changes: Mapping[str, Any], name: str, *sections: str) -> RunConfig:
    changed = override(base, changes, name)
    places = dict.fromkeys(changes, name)
    for place, origin in base.origins.items():
        for section in sections:
            path = place.removeprefix(f"{section}.")
            if path != place and any(path == own or path.startswith(f"{own}.") for own in changes):
                places[path] = origin
    try:
        return build(Tree(changed.values, {**changed.origins, **places}), RunConfig)
    except ConfigError as error:
        raise ConfigError(f"{name} is no run:\n{error}") from None


def _allowed(path: str, parameters: Parameters, below: tuple[str, ...]) -> dict[str, list[Any]]:
    """What the parameter's condition, and those of the parameters it names, ask of each of them."""
    if path in below:
        refuse(f"the conditions go in a circle: {' <- '.join((*below[below.index(path) :], path))}", path, "when")
    allowed: dict[str, list[Any]] = {}
    for other, values in parameters[path].when.items():
        for place, asked in {**_allowed(other, parameters, (*below, path)), other: values}.items():
            allowed[place] = [value for value in asked if value in allowed.get(place, asked)]
            if not allowed[place]:
                refuse(f"never holds: the conditions together leave no value of {place}", path, "when")
    return allowed


def _some_corners(parameters: Parameters, levels: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    draw = random.Random(0)
    alone = [_point(parameters, path, level) for path in parameters for level in levels[path]]
    distinct = {repr(point): point for point in alone}
    while len(distinct) < MAX_CORNERS:
        point = next(_points(parameters, lambda path: [draw.choice(levels[path])]))
        distinct[repr(point)] = point
    return list(distinct.values())[:MAX_CORNERS]


def _levels(path: str, parameters: Parameters) -> list[Any]:
    """The extreme values, and those that others' conditions ask for."""
    levels = list(parameters[path].extremes())
    for parameter in parameters.values():
        levels += [value for value in parameter.when.get(path, ()) if value not in levels]
    return levels


def _points(parameters: Parameters, levels: Callable[[str], Iterable[Any]]) -> Iterator[dict[str, Any]]:
    order = ordered(parameters)

    def extend(point: dict[str, Any], i: int) -> Iterator[dict[str, Any]]:
        if i == len(order):
            yield point
        elif is_active(parameters[order[i]], point):
            for level in levels(order[i]):
                yield from extend({**point, order[i]: level}, i + 1)
        else:
            yield from extend(point, i + 1)

    return extend({}, 0)


def _point(parameters: Parameters, path: str, level: Any) -> dict[str, Any]:
    """The parameter at this level, those it depends on as it needs them, the others in the middle."""
    needed = {other: values[0] for other, values in _allowed(path, parameters, ()).items()} | {path: level}
    return next(_points(parameters, lambda other: [needed.get(other, parameters[other].middle())]))


def _written(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{path}={value}" for path, value in point.items()) or "(the base)"
