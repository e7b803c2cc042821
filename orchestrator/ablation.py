"""The request of an ablation: cells, each a change of the base run, over blocks that every cell sees.

Cells are listed one by one, or a design makes them of factors, or both. A block is the unit of replication, usually a
seed and a labeled split. Inside it all cells share their random streams, so differences between cells are taken there,
in pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from guidedmix_core import ConfigError, RunConfig, Tree, Tuple, build, dump, fingerprint, nearest
from orchestrator.analysis import Analysis, Sequential, check_analysis
from orchestrator.blocks import (
    Blocks,
    block_name,
    check_blocks,
    continued,
    extended,
    paths,
    refuse_varied,
    rows,
    sections,
)
from orchestrator.designs import BASE, FULL, Design, Levels
from orchestrator.factors import (
    Designed,
    Designs,
    Factors,
    Rule,
    check_factors,
    check_listed,
    check_rules,
    designed,
    leaves,
    together,
)
from orchestrator.judging import otherwise_judged
from orchestrator.space import check_run, refuse
from orchestrator.study import COMMAND_LINE, Objective, Study


@dataclass(frozen=True)
class CellRun:
    """A cell in a block: what it changes of the base, dotted path to value, and the run that it is."""

    cell: str
    block: int
    params: dict[str, Any]
    label: str
    config: RunConfig

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.config)


@dataclass(frozen=True)
class Resolved:
    """What an ablation comes to over its base: the runs, and for each name that has none, why."""

    runs: list[CellRun]
    dropped: dict[str, str]

    @property
    def cells(self) -> list[str]:
        """Names, the reference first."""
        return list(dict.fromkeys(run.cell for run in self.runs))


class AblationStudy(Study):
    """Cells over paired blocks. Changes, cells, levels and blocks are dotted paths of the run."""

    kind = "ablate"
    shelf = "ablation"
    of_paths = ("changes", "blocks")
    of_labels = ("cells",)

    reference: str = Field(
        description="the cell that every other one's difference is taken to; of a design usually full or base"
    )
    ceiling: str | None = Field(
        None, description="the cell that shows what there is to gain, such as all labels; null: not shown"
    )
    cells: dict[str, dict[str, Any]] = Field(
        {}, description="what is compared: a name, and what it changes of the base; beside the cells of a design"
    )
    factors: Factors = Field(
        {},
        description="for a design: a factor, its levels, and what each changes of the base. The first level is what "
        "the complete method has, the last one is its base, called off or none if it takes the factor away",
    )
    design: Design | None = Field(
        None, description="how cells are made of the factors. Their names: full, base, without_x, x=level, base_with_x"
    )
    also: Designs = Field((), description="another design over the same factors, or a list; equal cells are one")
    rules: Annotated[tuple[Rule, ...], Tuple] = Field(
        (),
        description="a cell that has all levels of `when` takes those of `then`, so none differs in what is not there",
    )
    blocks: Blocks = Field(
        description="paths that vary together: block i takes value i of each, in every cell. Or a list of such "
        "sections, which are crossed: every combination is a block"
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
        return continued(self.listed_blocks, most)

    @property
    def listed_blocks(self) -> list[dict[str, Any]]:
        return rows(self.blocks)

    @cached_property
    def designed(self) -> Designed:
        """The cells that the designs make."""
        first: Designs = () if self.design is None else (self.design,)
        places = [*(("design",) for _ in first), *(("also", i) for i in range(len(self.also)))]
        return designed(self.factors, list(zip(places, [*first, *self.also], strict=True)), self.rules)

    @property
    def names(self) -> list[str]:
        """Of all cells: those of the designs, then those that are listed."""
        return [*self.designed.cells, *self.cells]

    def levels(self, cell: str) -> Levels:
        """Of each factor; empty for a cell that is listed."""
        return self.designed.cells.get(cell, {})

    def cell_changes(self, cell: str) -> dict[str, Any]:
        """Dotted path to value, sections taken apart. Of what is given twice the later one holds."""
        of_levels = [self.factors[factor][level] for factor, level in self.levels(cell).items()]
        return together([self.cells[cell]] if cell in self.cells else of_levels, cell)

    def runs(self, base: Tree) -> list[CellRun]:
        """Block by block, in each the reference first, then as in the file: a study cut short is still paired.

        Built once for a base: the list is everybody's. ConfigError names the first that is no run.
        """
        return self.resolved(base).runs

    def resolved(self, base: Tree) -> Resolved:
        """The runs, without those of a designed cell that is the same as another. Built once for a base."""
        if not any(known is base for known, _ in self._built):
            self._built[:] = [(base, self._resolve(base))]
        return self._built[0][1]

    def with_more_blocks(self, more: int) -> Self:
        """With so many replicates more than the file has. ConfigError if its blocks have no integers to go on from."""
        if self.sequential is not None:
            raise ConfigError(f"--seeds +{more}: this study adds blocks by itself, up to sequential.max_blocks")
        return build(Tree({**dump(self), "blocks": extended(self.blocks, more)}, {}), type(self))

    def check(self, base: Tree) -> str:
        """Also that every block is another run: one run counted twice would pass for two."""
        for path in paths(self.blocks):
            if base.origins.get(path) == COMMAND_LINE:
                raise ConfigError(f"{COMMAND_LINE}: {path}: varies from block to block; give blocks.{path}=[…]")
        found: dict[tuple[str, str], int] = {}
        resolved = self.resolved(base)
        for run in resolved.runs:
            block = found.setdefault((run.cell, run.fingerprint), run.block)
            if block != run.block:
                place, name = base.origins.get("blocks"), block_name(self.block_values[block])
                said = f"blocks: {block} and {run.block} ({name}) are the same run of the cell {run.cell!r}"
                raise ConfigError(f"{place}: {said}" if place else said)
        listed = "" if self.sequential is None else f"{len(self.listed_blocks)} to "
        size = f"{len(resolved.cells)} cells over {listed}{len(self.block_values)} blocks"
        different = len({digest for _, digest in found})
        shared = "" if different == len(resolved.runs) else ", as some cells are equal"
        return f"{size}: {different} runs{shared}"

    def remarks(self, base: Tree) -> list[str]:
        """What the designs say of themselves, and which cells fell together."""
        dropped = [f"{name}: {why}." for name, why in self.resolved(base).dropped.items()]
        judged = otherwise_judged({cell: self.cell_changes(cell) for cell in self.names}, self.reference)
        return [*self.designed.facts, *dropped, *judged]

    def variants(self) -> Iterator[Mapping[str, Any]]:
        for cell in self.names:
            for values in self.block_values:
                yield {**self.cell_changes(cell), **values}

    def plan(self, base: Tree) -> dict[str, Any]:
        """`runs` says which run is which cell's in which block: the table is made by it, and not by old names."""
        resolved = self.resolved(base)
        kept = [cell for cell in self.names if cell not in resolved.dropped]
        runs = {cell: [""] * len(self.block_values) for cell in kept}
        for run in resolved.runs:
            runs[run.cell][run.block] = run.fingerprint
        return {
            "planned": len({digest for row in runs.values() for digest in row}),
            "cells": {cell: self.cell_changes(cell) for cell in kept},
            "levels": {cell: self.levels(cell) for cell in kept},
            "runs": runs,
            "first_look": len(self.listed_blocks),
            "design_facts": self.designed.facts,
            "dropped": resolved.dropped,
        }

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
        self._check_design()
        for role in ("reference", "ceiling"):
            if (cell := getattr(self, role)) is None or cell in self.names:
                continue
            if cell in self.designed.dropped:
                refuse(f"no cell {cell!r} is left: {self.designed.dropped[cell]}; name that one", role)
            refuse(f"no cell {cell!r}; {nearest(cell, self.names)}", role)
        if self.ceiling == self.reference:
            refuse("is the reference, too; name another cell, or null", "ceiling")
        check_blocks(self.blocks)
        for path in paths(self.blocks):
            refuse_varied(path, leaves(self.changes), "the changes of the base", "changes")
            for cell in self.cells:
                refuse_varied(path, self.cell_changes(cell), f"the cell {cell!r}", "cells", cell)
            for factor, levels in self.factors.items():
                for level, changes in levels.items():
                    refuse_varied(path, leaves(changes), f"the level {level!r}", "factors", factor, level)
        check_analysis(self.analysis, self.sequential, self.objective.metric, self.listed_blocks)
        return self

    @cached_property
    def _built(self) -> list[tuple[Tree, Resolved]]:
        """The base that was asked for last, and what it came to."""
        return []

    def _check_design(self) -> None:
        given = [key for key in ("factors", "also", "rules") if getattr(self, key)]
        if self.design is None and given:
            refuse("makes cells only with a design; give design, such as leave_one_out", given[0])
        if self.design is not None and not self.factors:
            refuse("a design makes cells of factors; give factors", "design")
        if self.design is None and not self.cells:
            refuse("what is compared? give cells, or factors and a design", "cells")
        check_factors(self.factors)
        check_rules(self.rules, self.factors)
        check_listed(self.cells, self.designed)

    def _resolve(self, base: Tree) -> Resolved:
        order = sorted(self.names, key=lambda cell: cell != self.reference)
        changes = {cell: self.cell_changes(cell) for cell in order}
        runs = [
            self._run(base, cell, block, {**changes[cell], **values})
            for block, values in enumerate(self.block_values)
            for cell in order
        ]
        merged = self._merged(runs[: len(order)])
        return Resolved([run for run in runs if run.cell not in merged], {**self.designed.dropped, **merged})

    def _merged(self, runs: list[CellRun]) -> dict[str, str]:
        """Of one block's runs, the cells that are the same as one a design made. Equal there, they are equal in all."""
        owners: dict[str, str] = {}
        merged = {}
        first = (self.reference, FULL, BASE)
        for run in sorted(runs, key=lambda run: (run.cell in self.cells, run.cell not in first)):
            if run.cell in self.designed.cells:
                owners.setdefault(run.fingerprint, run.cell)
            if (owner := owners.get(run.fingerprint, run.cell)) != run.cell:
                merged[run.cell] = f"it is the same run as {owner}"
        for role in ("reference", "ceiling"):
            if (cell := getattr(self, role)) in merged:
                raise ConfigError(f"{role}: {cell!r}: {merged[cell]}; name that one")
        return merged

    def _run(self, base: Tree, cell: str, block: int, params: dict[str, Any]) -> CellRun:
        label = f"{cell} · {block_name(self.block_values[block])}"
        places = [f"cells.{cell}", *(f"factors.{factor}.{level}" for factor, level in self.levels(cell).items())]
        places += ["blocks", *(f"blocks.{i}" for i in range(len(sections(self.blocks))))]
        config = check_run(base, params, f"the cell {cell!r} in block {block}", *places)
        return CellRun(cell, block, params, label, config)
