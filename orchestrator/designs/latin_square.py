"""Latin square: three factors of n levels in n x n cells instead of n x n x n."""

from __future__ import annotations

from orchestrator.designs import Design, Factors, Levels


class LatinSquare(Design):
    """Each pair of levels of any two factors meets exactly once. For factors that don't interact."""

    def points(self, factors: Factors) -> list[Levels]:
        counts = {factor: len(levels) for factor, levels in factors.items()}
        if len(counts) != 3 or len(set(counts.values())) != 1:
            said = ", ".join(f"{factor} has {count}" for factor, count in counts.items())
            raise ValueError(f"latin_square takes three factors with equally many levels; {said}")
        rows, columns, letters = factors.values()
        order = len(letters)
        return [
            dict(zip(factors, (rows[i], columns[j], letters[(i + j) % order]), strict=True))
            for i in range(order)
            for j in range(order)
        ]

    def facts(self, factors: Factors) -> list[str]:
        order = len(next(iter(factors.values())))
        return [
            f"latin_square: {order**2} of {order**3} combinations, balanced: any two levels of two factors meet once.",
            "A main effect is aliased with the interaction of the other two factors: read it so only if they don't "
            "interact.",
        ]
