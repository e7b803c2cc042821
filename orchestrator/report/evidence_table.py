"""What each test says of each cell: every p, how large the difference is beside the noise, and the bootstrap."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.comparison import Cell, Comparison
from orchestrator.evidence import Evidence
from orchestrator.report.choice import shown_cells
from orchestrator.report.paper import p_title, p_words
from orchestrator.report.wording import interval, listed
from orchestrator.signs import marked


@dataclass(frozen=True)
class EvidenceTable:
    heads: list[str]
    rows: list[list[str]]
    note: str


def evidence_table(comparison: Comparison) -> EvidenceTable | None:
    """A row a cell that is compared, of those that a page holds. A column that says nothing is left out."""
    compared = [(cell, cell.evidence) for cell in shown_cells(comparison) if cell.evidence is not None]
    if not compared:
        return None
    rows = [_row(cell, evidence, comparison) for cell, evidence in compared]
    heads = [head for head in rows[0] if any(row[head] for row in rows)]
    cells = [[row[head] or "–" for head in heads] for row in rows]
    return EvidenceTable(heads, cells, " ".join([*_meaning(comparison, heads), *_absent(compared)]))


def _row(cell: Cell, evidence: Evidence, comparison: Comparison) -> dict[str, str]:
    """Column to what stands there; empty if there is nothing."""
    metric, analysis = comparison.objective.metric, comparison.analysis
    modeled, effect = " ~" * (evidence.basis == "mixed model"), evidence.effect
    row = {
        "Cell": marked(cell),
        "n": f"{evidence.versus.n}{modeled}",
        "p": _p(evidence.p),
        p_title(analysis): _p(evidence.p_adjusted),
        f"p, below {comparison.margin_words}": _p(evidence.p_smaller_adjusted),
        "p, sign flips": _p(evidence.p_sign_flip),
        "p, Wilcoxon": _p(evidence.p_signed_rank),
        "Hedges' g": "" if effect is None else f"{_signed(effect.g)} ({' to '.join(map(_signed, effect.interval))})",
    }
    ends = evidence.bootstrap.interval
    return row | {"BCa interval": interval(metric, ends or ())}


def _meaning(comparison: Comparison, heads: list[str]) -> list[str]:
    """Of the columns."""
    coverage = f"{100 * comparison.analysis.interval:g} %"
    said = ["n: blocks of the difference. p: two-sided, paired t test."]
    if any("below" in head for head in heads):
        said.append(f"Below {comparison.margin_words}: an equivalence test, corrected like the other p.")
    said.append("Sign flips and Wilcoxon's signed ranks ask for no normal distribution; their p are not corrected.")
    if comparison.looks is not None:
        said.append("Every p but Wilcoxon's is that of all looks together.")
    if "Hedges' g" in heads:
        said.append(f"Hedges' g: the difference in standard deviations of differences, and its {coverage} interval.")
    if "BCa interval" in heads:
        said.append(f"BCa: a bootstrap over blocks, {coverage}.")
    return said


def _absent(compared: list[tuple[Cell, Evidence]]) -> list[str]:
    """Why there is no bootstrap, and of which cells if some have one."""
    reasons: dict[str, list[str]] = {}
    for cell, evidence in compared:
        if evidence.bootstrap.absent is not None:
            reasons.setdefault(evidence.bootstrap.absent, []).append(cell.name)
    return [
        f"No BCa interval{'' if len(cells) == len(compared) else f' of {listed(cells)}'}: {reason}."
        for reason, cells in reasons.items()
    ]


def _p(p: float | None) -> str:
    return "" if p is None else p_words(p)


def _signed(number: float) -> str:
    return f"{number:+.2f}".replace("-", "−")
