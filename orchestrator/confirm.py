"""The sections of a search that make its result sound: fresh runs of what it found, and a search for its references."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from guidedmix_core import Config, ConfigError, Tree, Tuple, build, dump, fingerprint, nearest
from orchestrator.space import check_run, refuse

if TYPE_CHECKING:
    from orchestrator.study import SearchStudy


def _leaves(value: Any, above: str = "") -> Any:
    """Dotted path to value of nested sections: `split.seed` on the command line arrives as `split: {seed: …}`."""
    if not isinstance(value, Mapping):
        return value
    found: dict[str, Any] = {}
    for key, inner in value.items():
        is_section = isinstance(inner, Mapping) and inner
        found |= _leaves(inner, f"{above}{key}.") if is_section else {f"{above}{key}": inner}
    return found


Values = Annotated[tuple[Any, ...], Tuple, Field(min_length=1)]
Blocks = Annotated[dict[str, Values], BeforeValidator(_leaves), Field(min_length=1)]


class Confirm(Config):
    """Once the search has ended: its best trials and the references again, in blocks that the search has not seen."""

    top: int = Field(1, ge=1, description="so many of the best complete trials")
    against: Annotated[tuple[str, ...], Tuple, Field(min_length=1)] = Field(
        description="labels of references; the table's differences are to the first"
    )
    blocks: Blocks = Field(
        description="paths that vary together, such as seed and split.seed: block i takes value i of each, in every run"
    )

    @property
    def block_values(self) -> list[dict[str, Any]]:
        """Of each block: dotted path to value."""
        return [dict(zip(self.blocks, row, strict=True)) for row in zip(*self.blocks.values(), strict=True)]


def check_confirm(study: SearchStudy, confirm: Confirm) -> None:
    """For the study's validator: what can be said without the base run."""
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
    first = next(iter(confirm.blocks))
    for path, values in confirm.blocks.items():
        place = ("confirm", "blocks", path)
        if len(values) != len(confirm.blocks[first]):
            length = len(confirm.blocks[first])
            refuse(f"{len(values)} values, {first} has {length}; block i takes value i of each path", *place)
        _refuse_clash(path, (other for other in confirm.blocks if other != path), "another path of the blocks", place)
        _refuse_clash(path, study.parameters, "the search", place)
        for label in confirm.against:
            _refuse_clash(path, _leaves(study.references[label]), f"the reference {label!r}", place)
            _refuse_clash(path, study.reference_parameters.get(label, ()), f"the search of {label!r}", place)


def check_reference_parameters(study: SearchStudy) -> None:
    """For the study's validator: each space belongs to a reference, and varies what the reference leaves open."""
    for label, parameters in study.reference_parameters.items():
        if label not in study.references:
            refuse(f"no reference {label!r}; {nearest(label, study.references)}", "reference_parameters", label)
        if len(study.objectives) > 1:
            refuse("several objectives have no single best trial; give one", "reference_parameters", label)
        if not parameters:
            refuse("no parameter; leave it out, or say what is searched", "reference_parameters", label)
        for path in parameters:
            place = ("reference_parameters", label, path)
            _refuse_clash(path, _leaves(study.references[label]), f"references.{label}", place)


def check_fresh(study: SearchStudy, confirm: Confirm, base: Tree) -> None:
    """Builds every reference in every block. ConfigError if one is no run, or if a block has what the search has."""
    found: dict[str, int] = {}
    for block, values in enumerate(confirm.block_values):
        run = check_run(base, values, f"block {block} of confirm", "confirm.blocks")
        if (first := found.setdefault(fingerprint(run), block)) != block:
            raise ConfigError(f"{_place(base, 'confirm.blocks')}confirm.blocks: {first} and {block} are the same runs")
        for label in confirm.against:
            changes = {**study.references[label], **values}
            name = f"the reference {label!r} in block {block} of confirm"
            check_run(base, changes, name, f"references.{label}", "confirm.blocks")
    searched = dump(build(base))
    for path, values in confirm.blocks.items():
        if (own := _value_at(searched, path)) in values:
            raise ConfigError(
                f"{_place(base, f'confirm.blocks.{path}')}confirm.blocks.{path}: {own} is what the search itself runs "
                "with; its winner was chosen there, so give other values"
            )


def _refuse_clash(path: str, others: Iterable[str], who: str, place: tuple[str, ...]) -> None:
    """A block's path that something else changes, too: above it, below it, or itself."""
    for other in others:
        if other == path or other.startswith(f"{path}.") or path.startswith(f"{other}."):
            refuse(f"{who} varies {other}; one of them has to leave it alone", *place)


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
