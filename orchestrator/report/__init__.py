"""The report: one HTML file that opens offline and tells a study from its folder and nothing else."""

from __future__ import annotations

from pathlib import Path

from orchestrator.folder import StudyFolder, write_atomic
from orchestrator.report.facts import read_facts
from orchestrator.report.page import render


def write_report(folder: StudyFolder) -> Path:
    """`report.html`, whole or not at all; also while the study runs, and for a single run."""
    write_atomic(folder.report, render(read_facts(folder)))
    return folder.report
