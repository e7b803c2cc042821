"""Plackett-Burman: up to N - 1 factors of two levels in N cells, to find the few that matter.

Plackett and Burman, The design of optimum multifactorial experiments, Biometrika 33, 1946.
"""

from __future__ import annotations

from pydantic import Field

from orchestrator.designs import Design, Factors, Levels, check_two_levels

SIZES = (4, 8, 12, 16, 20, 24, 32, 40, 48, 64)
"""Numbers of cells for which a matrix is known here; 28, 36, 44, … are missing."""


class PlackettBurman(Design):
    """A screening of main effects in the fewest cells."""

    size: int | None = Field(
        None, description="how many cells: a multiple of 4, more than there are factors; null: the fewest"
    )

    def points(self, factors: Factors) -> list[Levels]:
        from pyDOE3 import pbdesign  # slow to import

        check_two_levels(self.name, factors)
        size = self._num_cells(factors)
        matrix = pbdesign(size - 1)[::-1, : len(factors)]  # the last row is full: first
        if len({tuple(row) for row in matrix}) < size:
            raise ValueError(
                f"{len(factors)} factors in {size} cells: some come twice, and equal cells are one run, so the rest is "
                "not balanced; take another size, or full_factorial"
            )
        return [
            {
                factor: levels[0] if sign > 0 else levels[1]
                for (factor, levels), sign in zip(factors.items(), row, strict=True)
            }
            for row in matrix
        ]

    def facts(self, factors: Factors) -> list[str]:
        size = self._num_cells(factors)
        partly = "wholly" if size & (size - 1) == 0 else "in part"
        return [
            f"plackett_burman: {size} cells for {len(factors)} factors of two levels, balanced; resolution III.",
            f"Every main effect is aliased {partly} with interactions of two other factors: this finds what to look at "
            "next, and proves nothing of a factor that interacts.",
        ]

    def _num_cells(self, factors: Factors) -> int:
        least = next((size for size in SIZES if size > len(factors)), None)
        if least is None:
            raise ValueError(f"plackett_burman has at most {SIZES[-1] - 1} factors here, not {len(factors)}")
        if (size := self.size or least) < least:
            raise ValueError(
                f"size={size}: {len(factors)} main effects and a mean need more cells than that; give {least} or more"
            )
        if size not in SIZES:
            raise ValueError(f"size={size}: expected one of {', '.join(map(str, SIZES))}")
        return size
