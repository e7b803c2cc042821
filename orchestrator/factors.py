"""What an ablation varies: factors, their levels, and rules for combinations that mean nothing.

From factors and designs come cells. Of equal ones one is left; what became of the others is kept, to be said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from guidedmix_core import Config, Tree, nearest, put
from orchestrator.designs import FULL, Design, Levels, is_balanced
from orchestrator.space import refuse

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
BREAKING = re.compile(r"[\x00-\x1f|/\\]|^\s|\s$|^$")
"""What a name of the user's own may not have: it stands in tables, labels and file names."""


def _text(value: object) -> object:
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


Level = Annotated[str, BeforeValidator(_text, json_schema_input_type=str | float)]
"""The name of a level; a number, such as that of a sweep, is taken as it is written."""
Factors = dict[str, dict[Level, dict[str, Any]]]
"""Factor, level, and what the level changes of the base."""

Designs = Annotated[
    tuple[Design, ...],
    BeforeValidator(
        lambda given: tuple(given) if isinstance(given, (list, tuple)) else (given,),
        json_schema_input_type=Design | tuple[Design, ...],
    ),
]
"""One, or several."""


class Rule(Config):
    """What a cell must have if it has something else, so that no cell differs in what has no effect."""

    when: Annotated[dict[str, Level], Field(min_length=1)] = Field(description="levels that a cell has, all of them")
    then: Annotated[dict[str, Level], Field(min_length=1)] = Field(description="levels that it then takes")

    def follow(self, levels: Levels) -> Levels:
        return levels | self.then if self.when.items() <= levels.items() else levels


@dataclass(frozen=True)
class Designed:
    """The cells of all designs, with their levels, and why others are not among them."""

    cells: dict[str, Levels]
    dropped: dict[str, str]
    facts: list[str]


def designed(
    factors: Mapping[str, Mapping[str, Any]],
    designs: Sequence[tuple[tuple[str | int, ...], Design]],
    rules: Sequence[Rule],
) -> Designed:
    """What the designs, each with its place in the file, ask for after the rules. Refused there if it can't be."""
    known = {factor: tuple(levels) for factor, levels in factors.items()}
    asked: dict[str, Levels] = {}
    facts: list[str] = []
    for place, design in designs:
        try:
            of_design = design.cells(known)
            facts += design.facts(known)
        except ValueError as error:
            refuse(str(error), *place)
        asked |= of_design
        moved = sum(follow(rules, levels) != levels for levels in of_design.values())
        if moved and is_balanced([*of_design.values()], known):
            facts.append(
                f"The rules change {moved} of the {len(of_design)} cells of {design.name}: balance, resolution and "
                "aliases are those without the rules; effects of factors need all cells as designed."
            )
    after = {name: follow(rules, levels) for name, levels in asked.items()}
    for i, rule in enumerate(rules):
        for name, levels in after.items():
            if rule.follow(levels) != levels:
                refuse(f"for {name} another rule takes back what this one sets; give them one outcome", "rules", i)
            if name == FULL and levels != asked[name]:
                refuse(f"changes {FULL}, the complete method; ask for a level that is not its own", "rules", i)
    owners = {_key(levels): name for name, levels in asked.items() if after[name] == levels}
    cells, dropped, changed = {}, {}, {}
    for name, levels in after.items():
        if levels != asked[name]:
            taken = {factor: level for factor, level in levels.items() if level != asked[name][factor]}
            changed[name] = ", ".join(f"{factor}={level}" for factor, level in taken.items())
        if (owner := owners.setdefault(_key(levels), name)) == name:
            cells[name] = levels
        else:
            dropped[name] = f"by the rules it has {changed[name]}: it is {owner}"
    if len(designs) > 1:
        facts.append(f"Together {len(cells)} cells.")
    facts += [f"By the rules {name} has {taken}, too." for name, taken in changed.items() if name in cells]
    return Designed(cells, dropped, facts)


def follow(rules: Sequence[Rule], levels: Levels) -> Levels:
    """The levels after all rules, also those that follow from others."""
    for _ in rules:
        for rule in rules:
            levels = rule.follow(levels)
    return levels


def check_factors(factors: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Refuses names that can't stand in a cell's, a factor that does not vary, and two that set one path."""
    for factor, levels in factors.items():
        for name, place in ((factor, ("factors", factor)), *((level, ("factors", factor, level)) for level in levels)):
            if not NAME.fullmatch(name):
                refuse(f"{name!r} becomes part of cells' names; use letters, digits, and _ - . inside", *place)
        if len(levels) < 2:
            refuse("one level varies nothing; give two or more, or put it under changes", "factors", factor)
    paths = {factor: [leaves(changes) for changes in levels.values()] for factor, levels in factors.items()}
    for i, (factor, levels) in enumerate(paths.items()):
        for other in list(factors)[:i]:
            for changes in levels:
                for path, value in changes.items():
                    _refuse_conflict(factor, path, value, other, paths[other])


def check_rules(rules: Sequence[Rule], factors: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuses what names no factor or level, and a rule that undoes itself."""
    for i, rule in enumerate(rules):
        for part, levels in (("when", rule.when), ("then", rule.then)):
            for factor, level in levels.items():
                if factor not in factors:
                    refuse(f"no factor {factor!r}; {nearest(factor, factors)}", "rules", i, part, factor)
                if level not in factors[factor]:
                    refuse(
                        f"{factor} has no level {level!r}; {nearest(level, factors[factor])}", "rules", i, part, factor
                    )
        for factor in rule.when.keys() & rule.then.keys():
            refuse(f"{factor} is what the rule asks for; then can't change it", "rules", i, "then", factor)


def check_listed(cells: Iterable[str], of_designs: Designed) -> None:
    """Refuses names of listed cells that break a table, or are a designed cell's."""
    for cell in cells:
        if BREAKING.search(cell):
            refuse(
                f"{cell!r} can't name a row of a table; leave out | / \\, line breaks and spaces at the ends", "cells"
            )
        if cell in of_designs.cells or cell in of_designs.dropped:
            refuse("the design has a cell of this name; choose another", "cells", cell)


def leaves(value: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Dotted path to value; a list, or an empty section, is one value."""
    found: dict[str, Any] = {}
    for key, inner in value.items():
        path = f"{above}{key}"
        found |= leaves(inner, f"{path}.") if isinstance(inner, dict) and inner else {path: inner}
    return found


def together(changes: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """Dotted path to value, sections taken apart. Of what is given twice the later one holds."""
    tree = Tree({}, {})
    for part in changes:
        for path, value in part.items():
            tree = put(tree, path, value, name)
    return leaves(tree.values)


def _refuse_conflict(factor: str, path: str, value: Any, other: str, others: list[dict[str, Any]]) -> None:
    for changes in others:
        for theirs, their_value in changes.items():
            if theirs == path and their_value != value:
                both = f"{json.dumps(their_value)} and {json.dumps(value)}"
                problem = f"{other} sets {path}, too, and differently ({both}); a cell with both has no meaning"
            elif theirs.startswith(f"{path}.") or path.startswith(f"{theirs}."):
                problem = f"{path} and {theirs} of {other}: one holds the other; a cell with both has no meaning"
            else:
                continue
            refuse(f"{problem}; make them one factor", "factors", factor)


def _key(levels: Levels) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(levels.items()))
