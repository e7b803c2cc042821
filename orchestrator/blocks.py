"""The units of replication: paths that vary together, or several such sections, crossed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from guidedmix_core import ConfigError, Tuple
from orchestrator.space import refuse

Values = Annotated[tuple[Any, ...], Tuple, Field(min_length=1)]
Section = Annotated[dict[str, Values], Field(min_length=1)]
Blocks = Annotated[
    Annotated[Section, Tag("together")] | Annotated[tuple[Section, ...], Tuple, Field(min_length=1), Tag("crossed")],
    Discriminator(lambda given: "together" if isinstance(given, Mapping) else "crossed"),
]


def sections(blocks: Any) -> tuple[dict[str, tuple[Any, ...]], ...]:
    """One, or those that are crossed. Also of what stands in `study.yaml`."""
    return (dict(blocks),) if isinstance(blocks, Mapping) else tuple(blocks)


def paths(blocks: Any) -> list[str]:
    return [path for section in sections(blocks) for path in section]


def rows(blocks: Any) -> list[dict[str, Any]]:
    """Of each block: dotted path to value. The last section changes fastest, so blocks that are appended to the first
    one come last."""
    of_sections = (
        [dict(zip(section, row, strict=True)) for row in zip(*section.values(), strict=True)]
        for section in sections(blocks)
    )
    return [{path: value for part in parts for path, value in part.items()} for parts in product(*of_sections)]


def extended(blocks: Any, more: int) -> Any:
    """With so many more values in the first section: each path goes on from its greatest. ConfigError if it can't."""
    first, *others = sections(blocks)
    longer = {path: (*values, *_next(path, values, more)) for path, values in first.items()}
    return longer if isinstance(blocks, Mapping) else (longer, *others)


def continued(blocks: Sequence[Mapping[str, Any]], count: int) -> list[dict[str, Any]]:
    """So many blocks: those given, then each path's largest number plus one, plus two, …

    ValueError names the first path that is no whole number in every block.
    """
    found = [dict(block) for block in blocks]
    if count <= len(found):
        return found
    for path in found[0]:
        if odd := [block[path] for block in found if type(block[path]) is not int]:
            raise ValueError(path, odd[0])
    largest = {path: max(block[path] for block in found) for path in found[0]}
    return found + [{path: top + i for path, top in largest.items()} for i in range(1, count - len(found) + 1)]


def block_name(values: Mapping[str, Any]) -> str:
    """`seed 0` where all paths have the same value, else `seed 0, split.seed 3`."""
    spelled = {path: value if isinstance(value, str) else json.dumps(value) for path, value in values.items()}
    if len(set(spelled.values())) == 1:
        return " ".join(next(iter(spelled.items())))
    return ", ".join(f"{path} {value}" for path, value in spelled.items())


def check_blocks(blocks: Any) -> None:
    """Refuses lists of unequal length, and a path that two sections vary."""
    for i, section in enumerate(sections(blocks)):
        place = ("blocks",) if isinstance(blocks, Mapping) else ("blocks", i)
        first = next(iter(section))
        for path, values in section.items():
            if len(values) != len(section[first]):
                refuse(
                    f"{len(values)} values, {first} has {len(section[first])}; block i takes value i of each path",
                    *place,
                    path,
                )
            refuse_varied(path, [other for other in paths(blocks) if other != path], "the blocks", *place)
            if paths(blocks).count(path) > 1:
                refuse(f"{path} stands in two sections; crossed ones vary different paths", *place, path)


def refuse_varied(path: str, others: Iterable[str], where: str, *place: str | int) -> None:
    """A block's path that something else changes, too: above it, below it, or itself."""
    for other in others:
        if other == path or other.startswith(f"{path}.") or path.startswith(f"{other}."):
            refuse(f"{path} varies from block to block; {where} can't change {other} as well", *place)


def _next(path: str, values: tuple[Any, ...], more: int) -> range:
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        raise ConfigError(
            f"--seeds +{more}: blocks.{path}={json.dumps(list(values))} has no integers to go on from; append to the "
            f"lists yourself: blocks.{path}=[…]"
        )
    start = max(values) + 1
    return range(start, start + more)
