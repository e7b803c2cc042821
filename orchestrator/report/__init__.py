"""The report: a study told from its folder and nothing else, as a page that opens offline and as files for a paper."""

from __future__ import annotations

from pathlib import Path

from orchestrator.comparison import compare
from orchestrator.folder import StudyFolder, write_atomic
from orchestrator.report.facts import Facts, read_facts
from orchestrator.report.latex import latex
from orchestrator.report.markdown import markdown
from orchestrator.report.page import render
from orchestrator.report.paper import paper_table, unfinished
from orchestrator.report.prints import printed
from orchestrator.report.sheets import cell_rows, run_rows, written


def write_report(folder: StudyFolder) -> Path:
    """`report.html`, whole or not at all; also while the study runs, and for a single run."""
    write_atomic(folder.report, render(read_facts(folder)))
    return folder.report


def write_exports(folder: StudyFolder) -> list[Path]:
    """What papers and programs read, in `report/`: `runs.csv`; of an ablation also `cells.csv`, `report.md`,
    `table.tex`, and the figures as SVG and PDF."""
    files = _exports(read_facts(folder))
    for name, content in files.items():
        write_atomic(folder.exports / name, content)
    return [folder.exports / name for name in files]


def _exports(facts: Facts) -> dict[str, str | bytes]:
    """File name to content."""
    if facts.request["kind"] != "ablate":
        return {"runs.csv": written(run_rows(facts, None, unfinished(facts, None)))}
    comparison = compare(facts.request, facts.records)
    table, status = paper_table(facts, comparison), unfinished(facts, comparison)
    drawn = printed(facts, comparison, status)
    return {
        "report.md": markdown(table, drawn),
        "table.tex": latex(table),
        "cells.csv": written(cell_rows(facts, comparison, status)),
        "runs.csv": written(run_rows(facts, comparison, status)),
        **drawn,
    }
