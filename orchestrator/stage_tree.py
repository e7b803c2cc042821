"""What runs have in common: the stages before them, each made once and by whoever comes first, and which are there."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from guidedmix_core import RunConfig, StageFolder, digest, lineage
from orchestrator.folder import YAML_LOADER
from orchestrator.storage import LOOK_AFAR, home, names_in, refresh


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
    """The stages beside a study, by lineage: no data is read, so one that was trained on other data, or from
    another file of pretrained weights, counts, too.

    In an object store other nodes put them there: it is asked for what is missing, each need at most every LOOK_AFAR.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.found: set[Need] = set()
        self.looked: dict[Need, float] = {}

    def has(self, need: Need) -> bool:
        if need not in self.found and self._is_due(need) and self._look(need):
            self.found.add(need)
        return need in self.found

    def _is_due(self, need: Need) -> bool:
        if home(self.root) is None:
            return True
        now = time.monotonic()
        if now - self.looked.get(need, -math.inf) < LOOK_AFAR:
            return False
        self.looked[need] = now
        return True

    def _look(self, need: Need) -> bool:
        folders = [StageFolder(path) for path in self._folders() if _lineage(path / "stage.yaml") == need.lineage]
        if need.masks is None:
            return any(folder.weights.name in names_in(folder.path) for folder in folders)
        return any("index.json" in names_in(folder.path / need.masks) for folder in folders)

    def _folders(self) -> list[Path]:
        """Of the stages that somebody has begun."""
        paths = [self.root / name for name in names_in(self.root)]
        for path in paths:
            if not (path / "stage.yaml").exists():
                refresh(path / "stage.yaml", without=())
        return [path for path in paths if (path / "stage.yaml").exists()]


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
