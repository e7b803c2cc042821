"""What runs have in common: the stages before them, each made once and by whoever comes first, and which are there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from guidedmix_core import RunConfig, StageFolder, digest, lineage
from orchestrator.folder import YAML_LOADER


@dataclass(frozen=True)
class Need:
    """A stage before a run, or the pseudo masks that one makes for what follows it."""

    lineage: str
    masks: str | None
    """The name of their folder; None: the stage itself."""
    method: str
    steps: int
    """0 of masks."""


def needs_of(config: RunConfig) -> tuple[Need, ...]:
    """In the order in which they are made; each is named by all that comes before it, too."""
    found = []
    for i, stage in enumerate(config.stages):
        run, follower = config.up_to(i), config.up_to(i + 1)
        found.append(Need(name := lineage(run), None, stage.method.name, stage.steps))
        if (ask := follower.method.stored_masks()) is not None:
            found.append(Need(name, StageFolder(Path()).pseudo(ask).name, stage.method.name, 0))
    return tuple(found)


class StageStore:
    """The stages beside a study, by lineage: no data is read, so one that was trained on other data counts, too."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def has(self, need: Need) -> bool:
        folders = (StageFolder(path) for path in self._folders().get(need.lineage, ()))
        if need.masks is None:
            return any(folder.weights.exists() for folder in folders)
        return any((folder.path / need.masks / "index.json").exists() for folder in folders)

    def _folders(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for path in self.root.glob("*/stage.yaml"):
            found.setdefault(_lineage(path), []).append(path.parent)
        return found


@cache
def _lineage(stage_yaml: Path) -> str:
    """Of a file that is never written otherwise: its folder is named by what it says."""
    return digest(yaml.load(stage_yaml.read_text(encoding="utf-8"), YAML_LOADER))


@dataclass(frozen=True)
class Chain:
    """A run as the order of execution sees it."""

    block: int
    is_first: bool
    """The reference's, which every other run of the block is compared with."""
    needs: tuple[Need, ...]
    steps: int
    """Of all its stages and its own."""


def chain_of(config: RunConfig, block: int, is_first: bool) -> Chain:
    return Chain(block, is_first, needs_of(config), config.steps_before + config.train.steps)


def in_order(chains: Sequence[Chain]) -> list[int]:
    """Their places, block by block. In each the reference, then of all that share a stage one that makes it, then the
    others; the longest first, and of equals as given."""
    users: dict[tuple[int, str], list[int]] = {}
    for i, chain in enumerate(chains):
        for root in chain.needs[:1]:
            users.setdefault((chain.block, root.lineage), []).append(i)
    makers = {places[0] for places in users.values() if len(places) > 1}

    def order(i: int) -> tuple[int, bool, bool, int]:
        return chains[i].block, not chains[i].is_first, i not in makers, -chains[i].steps

    return sorted(range(len(chains)), key=order)


def first_free(waiting: Mapping[int, Chain], out: Iterable[Chain], store: StageStore) -> int | None:
    """The first that waits for nothing a run that is out is about to make; None if all do, or there is none."""
    being_made = {need for chain in out for need in chain.needs if not store.has(need)}
    return next((key for key, chain in waiting.items() if being_made.isdisjoint(chain.needs)), None)
