"""How the cells of an ablation were judged, and what so few blocks can't show, in sentences."""

from __future__ import annotations

import math
from itertools import count

from orchestrator.comparison import Comparison
from orchestrator.judging import otherwise_judged
from orchestrator.power import blocks_needed, detectable
from orchestrator.significance import least_sign_flip
from orchestrator.units import is_share, scale_of, show


def notes(comparison: Comparison) -> list[str]:
    """How the cells were judged, and what so few blocks can't show."""
    family = comparison.family
    said = [_rule(comparison), _stars(comparison), _reach(comparison)] if family else []
    said += otherwise_judged({cell.name: cell.changes for cell in comparison.cells}, comparison.reference.name)
    modeled = [cell.name for cell in comparison.cells if cell.evidence and cell.evidence.basis == "mixed model"]
    if modeled:
        said.append(
            f"~ {', '.join(modeled)}: runs are missing that the other cell has, so the difference is that of a mixed "
            "model over all complete runs of the two, not of pairs alone. It takes them to be missing by chance, "
            "which is kind to a cell whose runs diverged."
        )
    return [sentence for sentence in (*said, _changed(comparison)) if sentence]


def _changed(comparison: Comparison) -> str:
    """Blocks of which the runs can't be paired."""
    reference, counts = comparison.reference, []
    for cell in comparison.cells:
        pairs = ((run, reference.complete.get(block)) for block, run in cell.complete.items())
        if blocks := sum(other is not None and run.has_other_data(other) for run, other in pairs):
            counts.append(f"{cell.name} ({blocks})")
    if not counts:
        return ""
    return (
        f"The data has changed between runs of {reference.name} and of {', '.join(counts)}, in so many blocks: these "
        "are in no difference."
    )


def _rule(comparison: Comparison) -> str:
    analysis, m = comparison.analysis, len(comparison.family)
    family = f"{m} comparison{'s' * (m != 1)}"
    corrected = {
        "holm": f"Holm's correction for {family}",
        "bh": f"Benjamini and Hochberg's correction for {family}",
        "none": "not corrected for several comparisons",
    }
    looks = comparison.looks
    test = "paired t test" if looks is None else "paired t tests"
    said = f"better, worse: p at most {analysis.alpha:g}, {test}, {corrected[analysis.correction]}."
    if looks is None:
        return f"{said} Each interval stands for itself."
    return (
        f"{said} p and intervals of differences are those of repeated looks, after {looks.first} to "
        f"{looks.max_blocks} blocks; a cell that is decided gets no more blocks."
    )


def _stars(comparison: Comparison) -> str:
    """Why there is none, or what it means."""
    if any(cell.is_starred for cell in comparison.cells):
        return "*: the exact sign-flip test, which asks for no normal distribution, says so as well."
    alpha, looks = comparison.analysis.alpha, comparison.looks

    def least(n: int) -> float:
        times = 1 if looks is None else max(looks.max_blocks, n) - looks.first + 1
        return min(1.0, times * least_sign_flip(n))

    needed = next(n for n in count(1) if least(n) <= alpha)
    n = max(cell.versus.n for cell in comparison.family if cell.versus is not None)
    if n >= needed:
        return ""
    return (
        f"No star: with {n} blocks the exact sign-flip test, which asks for no normal distribution, can't go below "
        f"{least(n):.3g}; it takes {needed} to reach {alpha:g}."
    )


def _reach(comparison: Comparison) -> str:
    """Of a single comparison, at the spread of differences that was seen."""
    spreads = [cell.versus.sd for cell in comparison.family if cell.versus is not None and cell.versus.sd]
    blocks, metric, analysis = comparison.blocks, comparison.objective.metric, comparison.analysis
    if comparison.looks is not None or not spreads or blocks < 2:
        return ""
    sd = math.sqrt(math.fsum(spread**2 for spread in spreads) / len(spreads))
    points = " points" if is_share(metric) else ""
    said = f"{blocks} blocks show a difference of {show(metric, detectable(blocks, sd, analysis.alpha))}{points} "
    said += "four times in five, if differences spread as they do here"
    if analysis.margin is None:
        return f"{said}."
    needed = blocks_needed(analysis.margin / scale_of(metric), sd, analysis.alpha)
    return f"{said}; {comparison.margin_words} would take {needed or 'more than 10,000'}."
