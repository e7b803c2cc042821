"""What the values of cells over blocks say of each cell's difference to the reference, every claim corrected."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

from orchestrator.analysis import Analysis
from orchestrator.effects import Effect, hedges_g
from orchestrator.mixed_model import mixed_difference
from orchestrator.sequential import Look, looks
from orchestrator.significance import adjusted, sign_flip, signed_rank, smaller_than, t_test
from orchestrator.stats import Bootstrap, Estimate, bootstrap, differences, estimate

Basis = Literal["paired", "mixed model", "repeated looks"]


@dataclass(frozen=True)
class Arm:
    """A cell's values by block, and the blocks in which its run has ended without one."""

    values: Mapping[int, float]
    lost: frozenset[int] = frozenset()
    halvings: Mapping[int, int] = field(default_factory=dict)
    """How often its micro-batches were halved as memory ran out, where BatchNorm saw the smaller ones."""
    changed: frozenset[int] = frozenset()
    """Blocks in which the data has changed between its run and the reference's."""

    @property
    def ended(self) -> set[int]:
        return {*self.values, *self.lost}


@dataclass(frozen=True)
class Evidence:
    """Of one comparison. p are None where nothing can be tested: one block, no spread, no look yet."""

    versus: Estimate
    """The difference to the reference."""
    basis: Basis
    p: float | None
    """Of the paired t test; with repeated looks, of all of them together."""
    p_adjusted: float | None
    """For all comparisons but the ceiling's, which is a check of the set-up and no claim: its p stays as it is."""
    p_smaller: float | None
    """Of the claim that the true difference is smaller than the margin."""
    p_smaller_adjusted: float | None
    p_sign_flip: float | None
    """Exact, not adjusted for several comparisons; with repeated looks, times all that there may be (Bonferroni)."""
    p_signed_rank: float | None
    """Wilcoxon's, as it is."""
    bootstrap: Bootstrap
    effect: Effect | None
    decided_after: int | None = None
    """With repeated looks: the number of blocks after which no other was added."""


@dataclass(frozen=True)
class Looks:
    """Where a study that adds blocks stands."""

    first: int
    max_blocks: int
    blocks: int | None = None
    """How many had ended at the last look; None before the first one."""
    undecided: tuple[str, ...] = ()
    """Cells that get the next block."""
    by_cell: Mapping[str, Look] = field(default_factory=dict)


def weigh(
    arms: Mapping[str, Arm],
    reference: str,
    family: Collection[str],
    analysis: Analysis,
    margin: float | None,
    taken: Looks | None = None,
) -> dict[str, Evidence]:
    """Of every cell that has a block in common with the reference. `margin` is in the metric's own unit.

    The family is corrected. Claims of a difference are one family of tests, claims of smallness another. `taken`: the
    looks of a study that adds blocks, whose p take the place of those of one t test.
    """
    found = {}
    for cell, arm in arms.items():
        own, other = alike(arm, arms[reference])
        gaps = differences(own.values, other.values)
        if cell == reference or not gaps:
            continue
        if taken is not None and cell in family:
            found[cell] = _of_looks(gaps, taken, cell, analysis)
        else:
            found[cell] = _of_one_look(gaps, own, other, analysis, margin)
    if taken is not None:
        return found
    p = adjusted({cell: found[cell].p for cell in family if cell in found}, analysis.correction)
    p_smaller = adjusted({cell: found[cell].p_smaller for cell in family if cell in found}, analysis.correction)
    return {
        cell: replace(one, p_adjusted=p[cell], p_smaller_adjusted=p_smaller[cell]) if cell in p else one
        for cell, one in found.items()
    }


def take_looks(
    arms: Mapping[str, Arm],
    reference: str,
    family: Collection[str],
    analysis: Analysis,
    margin: float | None,
    first: int,
    max_blocks: int,
) -> Looks:
    """All looks for which the runs have ended: of the reference, and of every cell that was undecided before."""
    pairs = {cell: alike(arms[cell], arms[reference]) for cell in family}
    gaps = {cell: differences(own.values, other.values) for cell, (own, other) in pairs.items()}
    gaps = {cell: own for cell, own in gaps.items() if any(block < first for block in own)}
    taken = Looks(first, max_blocks)
    waiting: Collection[str] = family
    for blocks in range(first, max_blocks + 1):
        needed = {*range(first)} if blocks == first else {blocks - 1}
        if not waiting or any(needed - arms[cell].ended for cell in (reference, *waiting)):
            break
        by_cell = looks(gaps, first, blocks, max_blocks, analysis, margin)
        waiting = [cell for cell in gaps if not by_cell[cell].is_decided]
        undecided = tuple(waiting) if blocks < max_blocks else ()
        taken = Looks(first, max_blocks, blocks, undecided, by_cell)
    return taken


def alike(arm: Arm, other: Arm) -> tuple[Arm, Arm]:
    """Both without the blocks in which the runs differ by more than was asked for: one saw smaller micro-batches, or
    other data."""
    either = {*arm.halvings, *other.halvings}
    unlike = {block for block in either if arm.halvings.get(block) != other.halvings.get(block)}
    unlike |= arm.changed

    def left(arm: Arm) -> Arm:
        values = {block: value for block, value in arm.values.items() if block not in unlike}
        return replace(arm, values=values, lost=arm.lost | (unlike & arm.ended))

    return left(arm), left(other)


def _of_one_look(
    gaps: Mapping[int, float], arm: Arm, reference: Arm, analysis: Analysis, margin: float | None
) -> Evidence:
    pairs = estimate([*gaps.values()], analysis.interval)
    assert pairs is not None
    versus, basis = pairs, "paired"
    if (set(arm.values) ^ set(reference.values)) & (arm.lost | reference.lost):
        modeled = mixed_difference(arm.values, reference.values, analysis.interval)
        versus, basis = (pairs, "paired") if modeled is None else (modeled, "mixed model")
    p, p_smaller = t_test(versus), None if margin is None else smaller_than(margin, versus)
    alone = _without_normality(gaps, analysis)
    return Evidence(versus, basis, p, p, p_smaller, p_smaller, *alone, hedges_g(pairs, analysis.interval))


def _of_looks(gaps: Mapping[int, float], taken: Looks, cell: str, analysis: Analysis) -> Evidence:
    """Over the blocks of the cell's last look. Before the first one there is a mean, and no claim."""
    look = taken.by_cell.get(cell)
    known = gaps if look is None else {block: gap for block, gap in gaps.items() if block < look.blocks}
    pairs = estimate([*known.values()], analysis.interval)
    assert pairs is not None
    flips, ranks, resampled = _without_normality(known, analysis)
    if look is None:
        versus = replace(pairs, se=None, interval=None)
        return Evidence(versus, "repeated looks", None, None, None, None, flips, ranks, resampled, None)
    times = taken.max_blocks - taken.first + 1
    return Evidence(
        versus=look.difference,
        basis="repeated looks",
        p=look.p,
        p_adjusted=look.p_adjusted,
        p_smaller=look.p_smaller,
        p_smaller_adjusted=look.p_smaller_adjusted,
        p_sign_flip=None if flips is None else min(1.0, times * flips),
        p_signed_rank=ranks,
        bootstrap=resampled,
        effect=hedges_g(pairs, analysis.interval),
        decided_after=look.blocks if look.is_decided else None,
    )


def _without_normality(gaps: Mapping[int, float], analysis: Analysis) -> tuple[float | None, float | None, Bootstrap]:
    return _of_values(tuple(gaps.values()), analysis.interval)


@lru_cache(maxsize=4096)  # the summary is written at every event of a study, and most cells are as they were
def _of_values(known: tuple[float, ...], coverage: float) -> tuple[float | None, float | None, Bootstrap]:
    return sign_flip(known), signed_rank(known), bootstrap(known, coverage)
