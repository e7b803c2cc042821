"""Add one: what a component gives the base, alone or on top of those before it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from guidedmix_core import Tuple
from orchestrator.designs import Design, Factors, Levels, base, check_known


class AddOne(Design):
    """The base, and it with one factor at its first level; or, as a ladder, with one more at each step."""

    ladder: Annotated[tuple[str, ...], Tuple, Field(min_length=1)] | None = Field(
        None,
        description="factors in the order in which they are added, each on top of those before it, as in the usual "
        "table of a paper; one that is not named stays at its last level. null: each alone is added to the base",
    )

    def points(self, factors: Factors) -> list[Levels]:
        self._check(factors)
        cells = [base(factors)]
        for factor in self.ladder or factors:
            below = cells[-1] if self.ladder else cells[0]
            cells.append(below | {factor: factors[factor][0]})
        return cells

    def facts(self, factors: Factors) -> list[str]:
        if self.ladder is None:
            return [
                f"add_one: base, and base with one of {len(factors)} factors at its first level. An effect is what a "
                "factor gives alone; interactions can't be told."
            ]
        left = [factor for factor in factors if factor not in self.ladder]
        never = f" Never added: {', '.join(left)}." if left else ""
        return [
            f"add_one: a ladder from base by {', '.join(self.ladder)}. The effect of a step depends on the order; "
            f"interactions can't be told.{never}"
        ]

    def _check(self, factors: Factors) -> None:
        for factor in self.ladder or ():
            check_known(factor, factors, "ladder")
            if (self.ladder or ()).count(factor) > 1:
                raise ValueError(f"ladder: {factor} is added twice")
