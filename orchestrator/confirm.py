"""The sections of a search that make its result sound: fresh runs of what it found, and a search for its references."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from guidedmix_core import Config, ConfigError, Tree, Tuple, build, dump, fingerprint, nearest
from orchestrator.analysis import Analysis, check_margin
from orchestrator.blocks import Blocks, check_blocks, paths, refuse_varied, rows
from orchestrator.factors import leaves
from orchestrator.space import check_run, refuse

if TYPE_CHECKING:
    from orchestrator.study import SearchStudy

PART = "evaluate.part"
TAKEN = re.compile(r"trial \d+|trials|search")
"""What the runs of a search are called wherever references stand beside them."""


def _flat(given: Any) -> Any:
    """`confirm.blocks.split.seed=[…]` on the command line arrives as `split: {seed: […]}`."""
    return leaves(given) if isinstance(given, Mapping) else given


class Confirm(Config):
    """Once the search has ended: its best trials and the references again, in blocks that the search has not seen."""

    top: int = Field(1, ge=1, description="so many of the best complete trials")
    against: Annotated[tuple[str, ...], Tuple, Field(min_length=1)] = Field(
        description="labels of references; the table's differences are to the first"
    )
    blocks: Annotated[Blocks, BeforeValidator(_flat)] = Field(
        description="as those of an ablation: paths that vary together, such as seed and split.seed, in every run"
    )
    part: Literal["val", "test"] | None = Field(
        None,
        description="the part of the data set by which fresh runs are judged. null: the search's own, by which the "
        "winner was chosen, so that what fits those images by chance is not found out",
    )
    analysis: Analysis = Field(Analysis(), description="as that of an ablation, of the fresh runs")

    @property
    def block_values(self) -> list[dict[str, Any]]:
        """Of each block: dotted path to value."""
        return rows(self.blocks)

    @property
    def changes(self) -> dict[str, Any]:
        """Of every fresh run, whoever it is of."""
        return {} if self.part is None else {PART: self.part}

    @model_validator(mode="after")
    def _blocks_fit(self) -> Self:
        check_blocks(self.blocks)
        return self


def check_confirm(study: SearchStudy, confirm: Confirm) -> None:
    """For the study's validator: what can be said without the base run."""
    check_margin(confirm.analysis, study.objectives[0].metric, "confirm", "analysis")
    if len(study.objectives) > 1:
        refuse(
            "several objectives have no single winner; give one, or compare points of your choice with `guidedmix "
            "ablate`",
            "confirm",
        )
    if confirm.top > study.search.trials:
        refuse(f"{confirm.top} of {study.search.trials} trials; expected at most search.trials", "confirm", "top")
    for i, label in enumerate(confirm.against):
        if label not in study.references:
            refuse(f"no reference {label!r}; {nearest(label, study.references)}", "confirm", "against", i)
        if label in confirm.against[:i]:
            refuse(f"{label!r} is given twice", "confirm", "against", i)
    for path in paths(confirm.blocks):
        place = ("confirm", "blocks", path)
        if path in (PART, "evaluate"):
            refuse("fresh runs are judged by one part of the data; give confirm.part", *place)
        refuse_varied(path, study.parameters, "the search", *place)
        for label in confirm.against:
            refuse_varied(path, leaves(study.references[label]), f"the reference {label!r}", *place)
            refuse_varied(path, study.reference_parameters.get(label, ()), f"the search of {label!r}", *place)


def check_references(study: SearchStudy) -> None:
    """For the study's validator: no reference is called as a trial is. Each space belongs to a reference, and varies
    what the reference leaves open."""
    for label in study.references:
        if TAKEN.fullmatch(label):
            refuse("the search and its trials are called so in every table; give another label", "references", label)
    for label, parameters in study.reference_parameters.items():
        if label not in study.references:
            refuse(f"no reference {label!r}; {nearest(label, study.references)}", "reference_parameters", label)
        if len(study.objectives) > 1:
            refuse("several objectives have no single best trial; give one", "reference_parameters", label)
        if not parameters:
            refuse("no parameter; leave it out, or say what is searched", "reference_parameters", label)
        for path in parameters:
            for other in leaves(study.references[label]):
                if other == path or other.startswith(f"{path}.") or path.startswith(f"{other}."):
                    problem = f"references.{label} gives {other}; a parameter is what the reference leaves open"
                    refuse(problem, "reference_parameters", label, path)


def check_fresh(study: SearchStudy, confirm: Confirm, base: Tree) -> None:
    """Builds every reference in every block. ConfigError if one is no run, or if a block has what the search has."""
    found: dict[str, int] = {}
    for block, values in enumerate(confirm.block_values):
        run = check_run(base, values, f"block {block} of confirm", "confirm.blocks")
        if (first := found.setdefault(fingerprint(run), block)) != block:
            raise ConfigError(f"{_place(base, 'confirm.blocks')}confirm.blocks: {first} and {block} are the same runs")
        for label in confirm.against:
            changes = {**study.references[label], **confirm.changes, **values}
            name = f"the reference {label!r} in block {block} of confirm"
            check_run(base, changes, name, f"references.{label}", "confirm.blocks")
    searched = dump(build(base))
    for values in confirm.block_values:
        for path, value in values.items():
            if _value_at(searched, path) == value:
                raise ConfigError(
                    f"{_place(base, f'confirm.blocks.{path}')}confirm.blocks.{path}: {value} is what the search itself "
                    "runs with; its winner was chosen there, so give other values"
                )


def _value_at(values: Any, path: str) -> Any:
    """Of a built run. A path into a list has its number."""
    for part in path.split("."):
        if values is None:
            return None
        values = values[int(part)] if isinstance(values, list) else values[part]
    return values


def _place(base: Tree, path: str) -> str:
    """Where the study says it, if that is known."""
    origin = base.origin(path)
    return "" if origin == "default" else f"{origin}: "
