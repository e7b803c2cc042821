"""One at a time: every level of every factor, the others at a center."""

from __future__ import annotations

from pydantic import Field

from guidedmix_core import nearest
from orchestrator.designs import Design, Factors, Levels, check_known, full


class OneAtATime(Design):
    """The center, and every other level of each factor with the others as in the center."""

    center: dict[str, str] = Field(
        {}, description="the level of each factor that is not at its first one in the center"
    )

    def points(self, factors: Factors) -> list[Levels]:
        for factor, level in self.center.items():
            check_known(factor, factors, "center")
            if level not in factors[factor]:
                raise ValueError(f"center: {factor} has no level {level!r}; {nearest(level, factors[factor])}")
        center = full(factors) | self.center
        others = [(factor, level) for factor in factors for level in factors[factor] if level != center[factor]]
        return [center, *(center | {factor: level} for factor, level in others)]

    def facts(self, factors: Factors) -> list[str]:
        around = ", ".join(f"{factor}={level}" for factor, level in self.center.items()) or "full"
        return [
            f"one_at_a_time: every level of {', '.join(factors)} around {around}. An effect holds at that center; "
            "interactions can't be told."
        ]
