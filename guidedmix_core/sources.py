"""YAML with the place of every value, and changes by dotted path."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from guidedmix_core.errors import ConfigError, nearest
from guidedmix_core.trees import Tree, chained, overlay


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema: `on`, `off`, `yes`, `no` are words, `1e-3` is a number, a date is a word; a key given
    twice is an error, also by its dotted path and inside of a section."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - the attribute PyYAML reads

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        for key, value in node.value:
            if twice := next((path for path in _paths(key.value, value) if path in seen), None):
                problem = f"{twice} is given twice, also inside of {key.value}"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), [*_first, ""] if _tag == "null" else list(_first)
    )
_Loader.add_constructor(
    "tag:yaml.org,2002:int",
    lambda loader, node: int(node.value, 0) if node.value.lstrip("+-")[:2] in ("0o", "0x") else int(node.value),
)
_Loader.add_constructor(
    "tag:yaml.org,2002:float",
    lambda loader, node: float(
        node.value.replace(".inf", "inf")
        .replace(".Inf", "inf")
        .replace(".INF", "inf")
        .replace(".nan", "nan")
        .replace(".NaN", "nan")
        .replace(".NAN", "nan")
    ),
)


def parse(text: str, name: str) -> Tree:
    """A YAML mapping and its places. ConfigError with `name:line` if it is no YAML, or no mapping."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        values = loader.construct_document(node) if node is not None else {}
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{name}:{line}: not readable as YAML: {error.problem}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{name}:1: expected a mapping of keys to values, not {type(values).__name__}")
    origins: dict[str, str] = {}
    if node is not None:
        _places(node, "", name, origins)
    return Tree(values, origins)


def parse_value(text: str) -> Any:
    """One value as it would stand in a YAML file: `0.1`, `true`, `[96, 96]`, `null`, a word."""
    return yaml.load(text, _Loader)


def read_yaml(path: Path) -> Tree:
    """A YAML file's tree. ConfigError if it can't be read."""
    try:
        return parse(path.read_text(encoding="utf-8"), _shown(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{_shown(path)}: can't be read: {error}") from None


def resolve(name: str, kind: str = "base") -> Path:
    """The file of a name such as `base/guidedmix_paper` or `guidedmix_paper`, or of a path.

    Names are looked up in `search_spaces/` of the working directory, then in the one of the installed project.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise ConfigError(f"{name}: no such file")
    known: dict[str, Path] = {}
    for folder in reversed(search_spaces()):
        for file in sorted(folder.glob("*/*.yaml")):
            known[f"{file.parent.name}/{file.stem}"] = file
    for spelled in (name, f"{kind}/{name}"):
        if spelled in known:
            return known[spelled]
    shelf, _, stem = name.rpartition("/")
    shelves = {each.partition("/")[0] for each in known}
    kind = shelf if shelf in shelves else kind
    names = [each.removeprefix(f"{kind}/") for each in known if each.startswith(f"{kind}/")]
    raise ConfigError(f"no {kind} {name!r}; {nearest(stem, names)}")


def search_spaces() -> list[Path]:
    """The `search_spaces/` folders that exist, the working directory's first."""
    project = Path(__file__).resolve().parent.parent
    folders = (Path("search_spaces"), project / "search_spaces", project / "orchestrator" / "search_spaces")
    return [folder for folder in folders if folder.is_dir()]


def read_run(name: str) -> Tree:
    """The tree of a run file. A file that begins with `base: NAME` lies over that one."""
    return chained(_read_run(resolve(name), ()))


def _read_run(path: Path, above: tuple[Path, ...]) -> Tree:
    if path.resolve() in above:
        raise ConfigError(f"{_shown(path)}: base leads back to this file")
    tree = read_yaml(path)
    if "base" not in tree.values:
        return tree
    values = dict(tree.values)
    name = values.pop("base")
    if not isinstance(name, str):
        raise ConfigError(f"{tree.origin('base')}: base={name!r}: expected the name of a run file")
    origins = {place: origin for place, origin in tree.origins.items() if place != "base"}
    return overlay(_read_run(resolve(name), (*above, path.resolve())), Tree(values, origins))


def parse_changes(assignments: Iterable[str]) -> dict[str, Any]:
    """`["a.b=c"]` as `{"a.b": value}`; the value is read as YAML. Of a path given twice the later value holds, so that
    a script may have its own and pass on others."""
    changes: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", path):
            raise ConfigError(f"{assignment!r}: expected dotted.path=value, such as method.mix.lambda_max=0.2")
        try:
            changes[path] = parse_value(text)
        except yaml.YAMLError as error:
            raise ConfigError(
                f"{assignment!r}: the value is not readable as YAML: {getattr(error, 'problem', error)}"
            ) from None
    return changes


def override(tree: Tree, changes: Mapping[str, Any], origin: str) -> Tree:
    """The tree with values changed at dotted paths; a number is the place in a list. Names first: `data.name` makes
    room for the new component's own fields. A list that other changes go into comes before them."""

    def order(path: str) -> tuple[bool, bool, int]:
        is_entered = isinstance(changes[path], list) and any(other.startswith(f"{path}.") for other in changes)
        return not is_entered, not path.endswith(".name"), path.count(".")

    _check_once(changes, origin)
    for path in sorted(changes, key=order):
        if path.startswith("stages.") and not tree.values.get("stages"):
            raise ConfigError(f"{origin}: {path}: the run has no stages; give stages=[{{method: …, steps: …}}]")
        tree = put(tree, path, changes[path], origin)
    return tree


def _check_once(changes: Mapping[str, Any], origin: str) -> None:
    """ConfigError if a value is given by its path and inside of a section, too."""
    for path in changes:
        if above := next((other for other in changes if _gives(changes[other], other, path)), None):
            raise ConfigError(f"{origin}: {path} is given twice, also inside of {above}; leave one out")


def put(tree: Tree, path: str, value: Any, origin: str) -> Tree:
    """The tree, which may be that of a run or of changes alone, with one value."""
    values: dict[str, Any] = {}
    inner = values
    *sections, last = path.split(".")
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[last] = value
    try:
        return overlay(tree, Tree(values, {path: origin}))
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from None


def _paths(path: str, node: yaml.Node) -> Iterator[str]:
    """Of all that is in a section."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield f"{path}.{key.value}"
            yield from _paths(f"{path}.{key.value}", value)


def _gives(section: Any, place: str, path: str) -> bool:
    """Whether a section that stands at a place has the value at a path below it."""
    if not path.startswith(f"{place}."):
        return False
    for key in path.removeprefix(f"{place}.").split("."):
        if not isinstance(section, dict) or key not in section:
            return False
        section = section[key]
    return not isinstance(section, dict)


def _places(node: yaml.Node, path: str, name: str, origins: dict[str, str]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = f"{path}.{key.value}".lstrip(".")
            origins[place] = f"{name}:{key.start_mark.line + 1}"
            _places(value, place, name, origins)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            origins[f"{path}.{i}"] = f"{name}:{value.start_mark.line + 1}"
            _places(value, f"{path}.{i}", name, origins)


def _shown(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
