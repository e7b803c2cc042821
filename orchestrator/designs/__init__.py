"""The design: which combinations of levels become cells, and what can be learned from them. One component a file.

The first level of a factor is what the complete method has, the last one is its base or off. A cell has a level of
every factor, and its name follows from these alone: the same cell has the same name in every design.

    full, base                          all factors at their first level; all at their last
    without_mitrans, pairing=random     one factor is not as in full: gone (its level is `off` or `none`), or another
    base_with_mitrans,pairing=similar   otherwise: what is not as in base, if that is less
    mitrans=off,pairing=random          than what is not as in full
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import combinations, product

from guidedmix_core import Component, nearest

Factors = Mapping[str, tuple[str, ...]]
"""The levels of each factor, first to last."""
Levels = dict[str, str]
"""The level of each factor."""

FULL, BASE = "full", "base"
OFF = ("off", "none")


class Design(Component, ABC):
    """The contract. Pure: equal factors, equal cells. ValueError if the factors can't serve the design."""

    family = "orchestrator.designs"

    @abstractmethod
    def points(self, factors: Factors) -> list[Levels]:
        """A level of every factor for each cell. First the cell that the others are usually compared with."""

    @abstractmethod
    def facts(self, factors: Factors) -> list[str]:
        """What can be learned from these cells and what can't, a line each."""

    def cells(self, factors: Factors) -> dict[str, Levels]:
        """The cells by name; a point that the design gives twice is one cell."""
        return {name_of(levels, factors): levels for levels in self.points(factors)}


def name_of(levels: Mapping[str, str], factors: Factors) -> str:
    """The name of a cell, as the module's text has it."""
    of_full = [factor for factor, known in factors.items() if levels[factor] != known[0]]
    of_base = [factor for factor, known in factors.items() if levels[factor] != known[-1]]
    if not of_full:
        return FULL
    if len(of_full) == 1:
        factor, level = of_full[0], levels[of_full[0]]
        return f"without_{factor}" if level in OFF else f"{factor}={level}"
    if not of_base:
        return BASE
    if len(of_base) < len(of_full):
        return f"{BASE}_with_{','.join(_added(factor, levels[factor], factors[factor]) for factor in of_base)}"
    return ",".join(f"{factor}={levels[factor]}" for factor in of_full)


def full(factors: Factors) -> Levels:
    return {factor: levels[0] for factor, levels in factors.items()}


def base(factors: Factors) -> Levels:
    return {factor: levels[-1] for factor, levels in factors.items()}


def check_two_levels(design: str, factors: Factors) -> None:
    """ValueError if a factor has more of them."""
    for factor, levels in factors.items():
        if len(levels) != 2:
            raise ValueError(
                f"{design} takes factors of two levels, and {factor} has {len(levels)} ({', '.join(levels)}); "
                "leave some out, or take full_factorial or one_at_a_time"
            )


def check_known(name: str, factors: Factors, place: str) -> None:
    """ValueError if there is no such factor."""
    if name not in factors:
        raise ValueError(f"{place}: no factor {name!r}; {nearest(name, factors)}")


def is_balanced(cells: list[Levels], factors: Factors) -> bool:
    """Whether any two factors meet at each pair of their levels equally often: then no effect leans on another's."""
    pairs = combinations(factors, 2) if len(factors) > 1 else [(factor, factor) for factor in factors]
    for one, other in pairs:
        met = [(cell[one], cell[other]) for cell in cells]
        possible = (
            product(factors[one], factors[other]) if one != other else zip(factors[one], factors[one], strict=True)
        )
        if len({met.count(pair) for pair in possible}) > 1:
            return False
    return True


def _added(factor: str, level: str, known: tuple[str, ...]) -> str:
    return factor if level == known[0] and known[-1] in OFF else f"{factor}={level}"
