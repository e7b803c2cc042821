"""Leave one out: what is lost when one component alone is taken out of the complete method."""

from __future__ import annotations

from orchestrator.designs import Design, Factors, Levels, full


class LeaveOneOut(Design):
    """The complete method, and it without each factor in turn (at its last level)."""

    def points(self, factors: Factors) -> list[Levels]:
        return [full(factors), *(full(factors) | {factor: levels[-1]} for factor, levels in factors.items())]

    def facts(self, factors: Factors) -> list[str]:
        return [
            f"leave_one_out: full, and full with one of {len(factors)} factors at its last level. An effect is what is "
            "lost beside all others; interactions can't be told."
        ]
