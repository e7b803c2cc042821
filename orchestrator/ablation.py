"""The request of an ablation: cells, each a change of the base run, over blocks that every cell sees.

A block is the unit of replication, usually a seed and a labeled split. Inside it all cells share their random streams,
so differences between cells are taken there, in pairs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from guidedmix_core import ConfigError, RunConfig, Tree, Tuple, dump, fingerprint, nearest, override
from orchestrator.analysis import Analysis, Sequential
from orchestrator.sequential import extended
from orchestrator.space import check_run, refuse
from orchestrator.study import COMMAND_LINE, Objective, Study
from orchestrator.units import is_share

SMALLEST_MARGIN = 0.01
"""Points of a share. Who asks for less has written a share: 0.003."""
Values = Annotated[tuple[Any, ...], Tuple, Field(min_length=1)]


@dataclass(frozen=True)
class CellRun:
    """A cell in a block: what it changes of the base, dotted path to value, and the run that it is."""

    cell: str
    block: int
    params: dict[str, Any]
    label: str
    config: RunConfig


class AblationStudy(Study):
    """Cells over paired blocks. Changes, cells and blocks are dotted paths of the run."""

    kind = "ablate"
    shelf = "ablation"
    of_paths = ("changes", "blocks")
    of_labels = ("cells",)

    reference: str = Field(description="the cell that every other one's difference is taken to")
    ceiling: str | None = Field(
        None, description="the cell that shows what there is to gain, such as all labels; null: not shown"
    )
    cells: dict[str, dict[str, Any]] = Field(
        min_length=1, description="what is compared: a name, and what it changes of the base"
    )
    blocks: Annotated[dict[str, Values], Field(min_length=1)] = Field(
        description="paths that vary together: block i takes value i of each, in every cell"
    )
    objective: Objective = Objective()
    analysis: Analysis = Analysis()
    sequential: Sequential | None = Field(None, description="null: every cell has the blocks that are listed")

    @property
    def objectives(self) -> tuple[Objective, ...]:
        return (self.objective,)

    @property
    def block_values(self) -> list[dict[str, Any]]:
        """Of each block: dotted path to value. With `sequential`, of all that there may be."""
        most = 0 if self.sequential is None else self.sequential.max_blocks
        return extended(self.listed_blocks, most)

    @property
    def listed_blocks(self) -> list[dict[str, Any]]:
        return [dict(zip(self.blocks, row, strict=True)) for row in zip(*self.blocks.values(), strict=True)]

    def cell_changes(self, cell: str) -> dict[str, Any]:
        """Dotted path to value, sections taken apart. Of what is given twice the later one holds."""
        tree = Tree({}, {})
        for path, value in self.cells[cell].items():
            tree = override(tree, {path: value}, cell)
        return _leaves(tree.values)

    def runs(self, base: Tree) -> list[CellRun]:
        """Block by block, in each the reference first, then as in the file: a study cut short is still paired.

        ConfigError names the first that is no run.
        """
        order = sorted(self.cells, key=lambda cell: cell != self.reference)
        return [self._run(base, cell, block) for block in range(len(self.block_values)) for cell in order]

    def check(self, base: Tree) -> str:
        """Also that every block is another run: one run counted twice would pass for two."""
        for path in self.blocks:
            if base.origins.get(path) == COMMAND_LINE:
                raise ConfigError(f"{COMMAND_LINE}: {path}: varies from block to block; give blocks.{path}=[…]")
        found: dict[tuple[str, str], int] = {}
        runs = self.runs(base)
        for run in runs:
            block = found.setdefault((run.cell, fingerprint(run.config)), run.block)
            if block != run.block:
                raise ConfigError(f"blocks: {block} and {run.block} are the same run of the cell {run.cell!r}")
        listed = "" if self.sequential is None else f"{len(self.listed_blocks)} to "
        size = f"{len(self.cells)} cells over {listed}{len(self.block_values)} blocks"
        different = len({digest for _, digest in found})
        shared = "" if different == len(runs) else ", as some cells are equal"
        return f"{size}: {different} runs{shared}"

    def variants(self) -> Iterator[Mapping[str, Any]]:
        for cell in self.cells:
            for values in self.block_values:
                yield {**self.cell_changes(cell), **values}

    def plan(self, base: Tree) -> dict[str, Any]:
        """`runs` says which run is which cell's in which block: the table is made by it, and not by old names."""
        runs = {cell: [""] * len(self.block_values) for cell in self.cells}
        for run in self.runs(base):
            runs[run.cell][run.block] = fingerprint(run.config)
        cells = {cell: self.cell_changes(cell) for cell in self.cells}
        planned = len({digest for row in runs.values() for digest in row})
        return {"planned": planned, "cells": cells, "runs": runs, "first_look": len(self.listed_blocks)}

    def decisive(self) -> dict[str, Any]:
        """Cells and blocks may be added, changed and taken away: a run is known by its configuration.

        What is not asked for any more stays in the folder and counts in no table. A study that adds blocks by itself
        keeps its number of listed blocks, its largest one, and its analysis.
        """
        decisive = {"kind": self.kind, "reference": self.reference}
        if self.sequential is None:
            return decisive
        # Levels of repeated looks hold for what was declared before the first one.
        judged = {key: value for key, value in dump(self.analysis).items() if key != "image_resamples"}
        looks = {"first": len(self.listed_blocks), "max_blocks": self.sequential.max_blocks}
        return {**decisive, "analysis": judged, "sequential": looks}

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        for role in ("reference", "ceiling"):
            if (cell := getattr(self, role)) is not None and cell not in self.cells:
                refuse(f"no cell {cell!r}; {nearest(cell, self.cells)}", role)
        if self.ceiling == self.reference:
            refuse("is the reference, too; name another cell, or null", "ceiling")
        first = next(iter(self.blocks))
        for path, values in self.blocks.items():
            if len(values) != len(self.blocks[first]):
                refuse(
                    f"{len(values)} values, {first} has {len(self.blocks[first])}; block i takes value i of each path",
                    *("blocks", path),
                )
            _refuse_path(path, [other for other in self.blocks if other != path], "the blocks", "blocks")
            _refuse_path(path, _leaves(self.changes), "the changes of the base", "changes")
            for cell in self.cells:
                _refuse_path(path, self.cell_changes(cell), f"the cell {cell!r}", "cells", cell)
        self._check_analysis()
        return self

    def _check_analysis(self) -> None:
        margin, metric = self.analysis.margin, self.objective.metric
        if margin is not None and is_share(metric) and margin < SMALLEST_MARGIN:
            refuse(f"{margin} points of {metric}; 0.3 is 0.3 points, a share of 0.003", "analysis", "margin")
        if self.sequential is None:
            return
        listed, most = self.listed_blocks, self.sequential.max_blocks
        if not 2 <= len(listed) <= most:
            refuse(f"expected 2 to max_blocks={most} listed ones before the first look, not {len(listed)}", "blocks")
        try:
            extended(listed, most)
        except ValueError as error:
            path, value = error.args
            refuse(
                f"{value!r} has no next one; list {most} values, as many as max_blocks, or whole numbers only",
                *("blocks", path),
            )

    def _run(self, base: Tree, cell: str, block: int) -> CellRun:
        values = self.block_values[block]
        params, label = {**self.cell_changes(cell), **values}, f"{cell} · {block_name(values)}"
        config = check_run(base, params, f"the cell {cell!r} in block {block}", f"cells.{cell}", "blocks")
        return CellRun(cell, block, params, label, config)


def block_name(values: Mapping[str, Any]) -> str:
    """`seed 0` where all paths have the same value, else `seed 0, split.seed 3`."""
    spelled = {path: value if isinstance(value, str) else json.dumps(value) for path, value in values.items()}
    if len(set(spelled.values())) == 1:
        return " ".join(next(iter(spelled.items())))
    return ", ".join(f"{path} {value}" for path, value in spelled.items())


def _refuse_path(path: str, others: Iterable[str], where: str, *place: str) -> None:
    """A block's path that something else changes, too: above it, below it, or itself."""
    for other in others:
        if other == path or other.startswith(f"{path}.") or path.startswith(f"{other}."):
            refuse(f"{path} varies from block to block; {where} can't change {other} as well", *place)


def _leaves(value: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Dotted path to value; a list, or an empty section, is one value."""
    found: dict[str, Any] = {}
    for key, inner in value.items():
        path = f"{above}{key}"
        found |= _leaves(inner, f"{path}.") if isinstance(inner, dict) and inner else {path: inner}
    return found
