"""The report: a study told from its folder and nothing else, as a page that opens offline and as files for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.folder import StudyFolder, write_atomic
from orchestrator.report.confirmed import fresh_study
from orchestrator.report.facts import Facts, read_facts
from orchestrator.report.latex import latex
from orchestrator.report.markdown import markdown
from orchestrator.report.page import render
from orchestrator.report.paper import paper_table, unfinished
from orchestrator.report.prints import printed
from orchestrator.report.sheets import cell_rows, run_rows, written


def write_report(folder: StudyFolder) -> list[Path]:
    """`report.html` and what is in `report/`, each file whole or not at all; also while the study runs, and for a
    single run."""
    facts = read_facts(folder)
    return [_write_page(facts), *_write_exports(facts)]


def write_page(folder: StudyFolder) -> Path:
    """`report.html` alone."""
    return _write_page(read_facts(folder))


def write_exports(folder: StudyFolder) -> list[Path]:
    """What papers and programs read, in `report/`: `runs.csv`; of an ablation, and of a search's fresh runs, also
    `cells.csv`, `report.md`, `table.tex`, and the figures as SVG and PDF."""
    return _write_exports(read_facts(folder))


def _write_page(facts: Facts) -> Path:
    write_atomic(facts.folder.report, render(facts))
    return facts.folder.report


def _write_exports(facts: Facts) -> list[Path]:
    files = _exports(facts)
    for name, content in files.items():
        write_atomic(facts.folder.exports / name, content)
    return [facts.folder.exports / name for name in files]


def _exports(facts: Facts) -> dict[str, str | bytes]:
    """File name to content."""
    comparison = facts.comparison if facts.request["kind"] == "ablate" else None
    status = unfinished(facts, comparison)
    runs: dict[str, str | bytes] = {"runs.csv": written(run_rows(facts, comparison, status))}
    if comparison is not None:
        return {**runs, **_compared(facts, status)}
    fresh = fresh_study(facts)
    return runs if fresh is None else {**runs, **_compared(fresh[0], status, fresh[1])}


def _compared(facts: Facts, status: str, said: Sequence[str] = ()) -> dict[str, str | bytes]:
    """What there is of cells beside their reference."""
    comparison = facts.comparison
    table, drawn = paper_table(facts, comparison, status, said), printed(facts, comparison, status)
    return {
        "report.md": markdown(table, drawn),
        "table.tex": latex(table),
        "cells.csv": written(cell_rows(facts, comparison, status)),
        **drawn,
    }
