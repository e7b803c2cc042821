"""The stages that the runs of a study share, as a tree: alike stages of different blocks stand once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.stage_tree import Need


@dataclass(frozen=True)
class StageGroup:
    """Stages of one method and length that the same cells need, usually one a block."""

    method: str
    steps: int
    """Of each; 0: the pseudo masks that it makes."""
    count: int
    made: int
    """Of them, those that are there."""
    cells: tuple[str, ...]
    runs: int
    """That need them, all together."""
    then: tuple[StageGroup, ...]


def stage_groups(
    users: Mapping[Need, Sequence[str]], parents: Mapping[Need, Need | None], made: set[Need]
) -> tuple[StageGroup, ...]:
    """From the cell of each run that needs a stage, what comes right before it, and which are there."""
    below: dict[Need | None, list[Need]] = {}
    for need, parent in parents.items():
        below.setdefault(parent, []).append(need)
    return _grouped(below.get(None, []), below, users, made)


def _grouped(
    needs: Iterable[Need], below: Mapping[Need | None, list[Need]], users: Mapping[Need, Sequence[str]], made: set[Need]
) -> tuple[StageGroup, ...]:
    alike: dict[tuple[object, ...], list[Need]] = {}
    for need in needs:
        cells = tuple(dict.fromkeys(users[need]))
        alike.setdefault((need.method, need.steps, need.masks, cells), []).append(need)
    return tuple(
        StageGroup(
            same[0].method,
            same[0].steps,
            len(same),
            sum(need in made for need in same),
            tuple(dict.fromkeys(users[same[0]])),
            sum(len(users[need]) for need in same),
            _grouped([inner for need in same for inner in below.get(need, [])], below, users, made),
        )
        for same in alike.values()
    )
