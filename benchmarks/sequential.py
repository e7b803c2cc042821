"""What blocks that are added one by one cost and find: wrong claims, power, and blocks, beside one look at the end.

    python benchmarks/sequential.py [--studies 2000] [--first 3] [--most 10]

Differences are drawn in units of their own standard deviation from block to block. The error holds for normal ones; for
others this shows what is left of it. A table takes a minute or two on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from orchestrator.analysis import Analysis
from orchestrator.power import power
from orchestrator.sequential import Look, level_of_a_look, looks
from orchestrator.stats import estimate

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
NOISE: dict[str, Draw] = {
    "normal": lambda draw, shape: draw.standard_normal(shape),
    "heavy tails (t, 3 df)": lambda draw, shape: draw.standard_t(3, shape) / np.sqrt(3),
    "skewed (exponential)": lambda draw, shape: draw.standard_exponential(shape) - 1,
}


def studies(noise: Draw, count: int, cells: int, blocks: int, seed: int = 0) -> np.ndarray:
    """Differences by study, cell and block. Cells share the reference, so their differences have correlation 1/2."""
    draw = np.random.default_rng(seed)
    own = noise(draw, (count, cells * blocks)).reshape(count, cells, blocks)
    reference = noise(draw, (count, blocks))[:, None, :]
    return (own - reference) / np.sqrt(2) if cells > 1 else own


def ends(gaps: np.ndarray, first: int, analysis: Analysis, margin: float | None = None) -> list[dict[str, Look]]:
    most = gaps.shape[2]
    named = [{f"cell {i}": dict(enumerate(map(float, row))) for i, row in enumerate(study)} for study in gaps]
    return [looks(study, first, most, most, analysis, margin) for study in named]


def wrong(found: list[dict[str, Look]], alpha: float) -> float:
    """The share of studies with a claim of any difference."""
    return float(np.mean([any((look.p_adjusted or 1) <= alpha for look in study.values()) for study in found]))


def naive(gaps: np.ndarray, first: int) -> float:
    """The same with plain 95 % intervals at every look."""
    return float(
        np.mean(
            [
                any(
                    (plain := estimate([*map(float, row[:n])])) is not None and plain.excludes_zero
                    for row in study
                    for n in range(first, len(row) + 1)
                )
                for study in gaps
            ]
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--first", type=int, default=3)
    parser.add_argument("--most", type=int, default=10)
    asked = parser.parse_args()
    first, most, count = asked.first, asked.most, asked.studies
    alone, holm = Analysis(correction="none"), Analysis()
    print(f"looks after {first} to {most} blocks, {count} studies a row; each look has the level ", end="")
    print(f"{level_of_a_look(first, most, 0.05):.4f}, all together 0.05")
    print(f"\n{'no effect':<28}{'one cell':>10}{'plain':>8}{'5 cells, Holm':>15}")
    for name, noise in NOISE.items():
        one, five = studies(noise, count, 1, most), studies(noise, count, 5, most)
        found = wrong(ends(one, first, alone), 0.05), naive(one, first), wrong(ends(five, first, holm), 0.05)
        print(f"{name:<28}{found[0]:>10.3f}{found[1]:>8.3f}{found[2]:>15.3f}", flush=True)
    print(f"\n{'effect, in sd':<28}{'found':>10}{'blocks':>8}{'covered':>9}{f'found with {most} blocks, one look':>36}")
    for effect in (0.5, 1.0, 1.5, 2.0, 3.0):
        found = [study["cell 0"] for study in ends(studies(NOISE["normal"], count, 1, most) + effect, first, alone)]
        shares = np.mean([(look.p or 1) <= 0.05 for look in found]), np.mean([look.blocks for look in found])
        inside = np.mean([(i := look.difference.interval or (0, 0))[0] <= effect <= i[1] for look in found])
        print(
            f"{effect:<28}{shares[0]:>10.3f}{shares[1]:>8.1f}{inside:>9.3f}{power(effect, 1, most):>36.3f}", flush=True
        )
    print(f"\n{'margin 1 sd, true effect':<28}{'smaller':>10}{'blocks':>8}")
    for effect in (0.0, 0.5, 1.0):
        gaps = studies(NOISE["normal"], count, 1, most) + effect
        found = [study["cell 0"] for study in ends(gaps, first, alone, margin=1.0)]
        shares = np.mean([(look.p_smaller or 1) <= 0.05 for look in found]), np.mean([look.blocks for look in found])
        print(f"{effect:<28}{shares[0]:>10.3f}{shares[1]:>8.1f}", flush=True)


if __name__ == "__main__":
    main()
