"""Where a reader learns that runs of a cell failed, or were made in smaller micro-batches."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.effects_table import images_table
from orchestrator.folder import StudyFolder
from orchestrator.image_bootstrap import Gap, ImageGaps
from orchestrator.report import sheets, write_page
from orchestrator.report.differences import block_differences, difference_plot
from orchestrator.report.facts import read_facts
from orchestrator.report.paper import paper_table
from orchestrator.signs import marked
from tests.orchestrator.test_cells import shown
from tests.orchestrator.test_failures import adjusted
from tests.orchestrator.test_report import words


def test_no_figure_shows_a_difference_of_runs_that_are_no_pair(tmp_path: Path) -> None:
    comparison = adjusted(tmp_path / "demo", {"mean_teacher": (1,)}, sees_batches=True)
    gaps = block_differences(comparison.cells[2], comparison)
    assert gaps == pytest.approx({0: 0.041, 2: 0.034, 3: 0.044})
    plot = difference_plot(comparison)
    assert plot is not None
    assert plot.count(">mean_teacher, block ") == 3


def test_paper_and_sheets_mark_what_was_adjusted(tmp_path: Path) -> None:
    both = {"mean_teacher": (1,), "supervised": (1,)}
    comparison = adjusted(tmp_path / "demo", both, sees_batches=True)
    facts = read_facts(StudyFolder(tmp_path / "demo"))
    table = paper_table(facts, comparison, "")
    assert [row.n for row in table.rows] == ["4†", "4†", "4", "2 of 4"]
    said = "supervised · seed 1† and mean_teacher · seed 1†: memory ran out, so made in 2 micro-batches a step"
    assert said in " ".join(table.caption)
    assert [row["adjusted"] for row in sheets.cell_rows(facts, comparison, "")] == [1, 0, 1, 0, 0]
    halved = [(row["cell"], row["block"]) for row in sheets.run_rows(facts, comparison, "") if row.get("halvings")]
    assert halved == [("supervised", 1), ("mean_teacher", 1)]


def test_a_cell_with_failures_or_adjusted_runs_has_signs_behind_its_name(tmp_path: Path) -> None:
    comparison = adjusted(tmp_path / "demo", {"mean_teacher": (1,)}, sees_batches=True)
    assert [marked(cell) for cell in comparison.cells[2:]] == ["mean_teacher †", "guidedmix", "unstable ✗2"]
    assert marked(comparison.cells[4], 5) == "unst… ✗2"
    gaps = ImageGaps(2, 9, Gap(0.03, (0.01, 0.05)), ())
    table = images_table(comparison, {"unstable": gaps})
    assert table is not None
    assert shown(table).splitlines()[1].startswith("unstable ✗2")


def test_every_table_of_the_page_marks_such_a_cell_and_says_once_what_that_means(tmp_path: Path) -> None:
    adjusted(tmp_path / "demo", {"mean_teacher": (1,)}, sees_batches=True)
    page = write_page(StudyFolder(tmp_path / "demo")).read_text().replace("<wbr>", "")
    sections = {name: words(part) for name, part in re.findall(r'(?s)<section id="(\w+)">(.+?)</section>', page)}
    for name in ("cells", "curves", "masks", "classes"):
        assert "unstable ✗2" in sections[name], name
        assert "mean_teacher †" in sections[name], name
    assert words(page).count("✗: so many runs of the cell failed, its numbers are those of the others; †: runs of") == 1
