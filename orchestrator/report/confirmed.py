"""The fresh runs of a search: the winner, the reference, and by how much the search flattered."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from orchestrator.confirmation import KEY, Confirmation, Written, confirmation
from orchestrator.notes import notes
from orchestrator.report.cells import CellRow, cell_rows, changes_words
from orchestrator.report.evidence_table import EvidenceTable, evidence_table
from orchestrator.report.facts import Facts
from orchestrator.report.paper import adjusted_words
from orchestrator.report.wording import difference, listed, metric_value


@dataclass(frozen=True)
class FreshRuns:
    """The section. With a refusal it has nothing else."""

    refusal: str = ""
    paths: str = ""
    coverage: str = ""
    notes: tuple[str, ...] = ()
    rows: tuple[CellRow, ...] = ()
    evidence: EvidenceTable | None = None
    sentences: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def fresh_runs(facts: Facts) -> FreshRuns | None:
    """None where none were asked for, or the search goes on."""
    found = confirmation(facts.request, facts.records)
    if found is None:
        return None
    if isinstance(found, str):
        return FreshRuns(refusal=f"{found[0].upper()}{found[1:]}.")
    return FreshRuns(
        paths=listed(found.paths),
        coverage=f"{100 * found.comparison.analysis.interval:g} %",
        notes=tuple(notes(found.comparison)),
        rows=tuple(cell_rows(found.comparison, facts)),
        evidence=evidence_table(found.comparison),
        sentences=tuple(found.sentences(*_written(facts))),
        warnings=(*found.warnings, *adjusted_words(found.comparison.cells)),
    )


def fresh_study(facts: Facts) -> tuple[Facts, list[str]] | None:
    """The fresh runs as the ablation that they are, and what a caption says besides; None where there are none."""
    found = confirmation(facts.request, facts.records)
    if not isinstance(found, Confirmation):
        return None
    said = [f"{winner.cell.name}: {changes_words(winner.trial.params)}." for winner in found.winners]
    said += [*found.of_winners(*_written(facts)), *found.caveats(), *found.warnings]
    return replace(facts, request={**facts.request, **facts.request[KEY]}), said


def fresh_sentences(facts: Facts) -> list[str]:
    """For the summary at the top: what became of each winner, and nothing general."""
    found = confirmation(facts.request, facts.records)
    return [] if found is None or isinstance(found, str) else found.of_winners(*_written(facts))


def _written(facts: Facts) -> tuple[Written, Written]:
    return partial(metric_value, facts.goal.metric), partial(difference, facts.goal.metric)
