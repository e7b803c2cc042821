"""What the page of an ablation says of factors, mask quality, chosen images and very many cells. From records alone."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from orchestrator.comparison import compare
from orchestrator.folder import StudyFolder
from orchestrator.report import write_page
from orchestrator.report.choice import MOST_DRAWN, shown_cells
from orchestrator.report.factor_charts import effect_rows, half_normal_chart, interaction_charts
from orchestrator.report.facts import read_facts
from orchestrator.report.gallery import chosen
from orchestrator.report.mask_charts import mask_charts
from tests.orchestrator import ablation_folder, factorial_folder
from tests.orchestrator.ablation_folder import write_ablation
from tests.orchestrator.factorial_folder import write_factorial
from tests.orchestrator.test_report import words


def comparison_of(path: Path):
    facts = read_facts(StudyFolder(path))
    return facts, compare(facts.request, facts.records)


@pytest.fixture(scope="module")
def factorial(tmp_path_factory) -> Path:
    return write_factorial(tmp_path_factory.mktemp("studies") / "factors")


@pytest.fixture(scope="module")
def html(factorial) -> str:
    return write_page(StudyFolder(factorial)).read_text(encoding="utf-8")


def test_effects_are_those_that_were_put_in(factorial):
    # Away from the first level: mixing -4 - 2/2, pairing -1 - 2/2, both together (2/2) / 2 by half the change.
    rows = {row.name: row.effect for row in effect_rows(comparison_of(factorial)[1])}
    assert rows["mixing"] == "−5.0"
    assert rows["pairing"] == "−2.0"
    assert rows["average"] == "±0.0"
    assert rows["mixing × pairing"] == "+1.0"


def test_the_half_normal_plot_has_a_point_for_each_effect(factorial):
    plot = half_normal_chart(comparison_of(factorial)[1])
    assert plot is not None
    assert plot.count("<circle") == 6  # three factors, three pairs


def test_the_largest_interaction_comes_first_with_the_means_of_its_four_corners(factorial):
    facts, comparison = comparison_of(factorial)
    title, chart = interaction_charts(comparison, facts.request)[0]
    assert title == "mixing × pairing, a line a level of pairing"
    # over blocks 0 and 1, and both levels of average: 0.5 + 0.005 + gains
    for said in (
        "mixing on, pairing guided: 57.5",
        "mixing on, pairing random: 54.5",
        "mixing off, pairing guided: 51.5",
        "mixing off, pairing random: 50.5",
    ):
        assert said in chart


def test_a_factor_of_three_levels_has_a_line_a_level_and_effects_of_two(tmp_path, monkeypatch):
    pairing = {**factorial_folder.FACTORS["pairing"], "none": {"method.pairing": None}}
    monkeypatch.setitem(factorial_folder.FACTORS, "pairing", pairing)
    facts, comparison = comparison_of(write_factorial(tmp_path / "three"))
    effects = {row.name: row.effect for row in effect_rows(comparison)}
    # Two of three cells with mixing have the pairs that earn nothing: -4 - 2/3 of leaving mixing out.
    assert effects["mixing"] == "−4.7"
    assert effects["pairing=random"] == effects["pairing=none"] == "−2.0"
    title, chart = interaction_charts(comparison, facts.request)[0]
    assert title == "mixing × pairing, a line a level of pairing"
    assert chart.count('class="line"') == 3
    assert half_normal_chart(comparison) is None


def test_a_design_that_lost_a_cell_says_so_on_the_page(tmp_path):
    path = write_factorial(tmp_path / "lost")
    facts, comparison = comparison_of(path)
    for run in comparison.cells[3].complete.values():
        facts.home(run).result.unlink()
    shown = words(write_page(StudyFolder(path)).read_text())
    assert f"No effects of factors: without a complete run: {comparison.cells[3].name}." in shown


def test_the_page_has_a_check_mark_for_each_factor_of_a_cell(html):
    row = html[html.index('<span class="who">off-random-on</span>') :]
    assert re.findall(r'<td class="mark">(.*?)</td>', row)[:3] == ["", "random", "✓"]
    assert "✓: the level of the complete method: mixing on, pairing guided, average on" in words(html)


def test_what_the_levels_change_is_said_once_and_not_in_every_row(html):
    factors = words(html[html.index("<dt>Factors</dt>") : html.index("<dt>Blocks</dt>")])
    assert "mixing: on (the base); off (" in factors
    assert '<div class="changes">' not in html[html.index('id="cells"') : html.index('id="effects"')]


def test_a_study_without_factors_has_no_section_of_them(tmp_path):
    html = write_page(StudyFolder(write_ablation(tmp_path / "listed", blocks=2, panels=0))).read_text()
    assert "What each factor does" not in html
    assert '<td class="mark">' not in html


def test_mask_quality_has_a_dot_for_each_run_that_makes_masks(tmp_path):
    _, comparison = comparison_of(write_ablation(tmp_path / "masks", panels=0))
    charts = dict(mask_charts(comparison, {}))
    assert charts.keys() == {"Mask coverage against mIoU", "Mask precision against mIoU"}
    assert charts["Mask coverage against mIoU"].count("<circle") == 4 + 4 + 2
    assert "mean_teacher, block 3: " in charts["Mask precision against mIoU"]


def put_counts(path: Path, cell: str, hits: dict[str, int]) -> None:
    """One class of 100 pixels in each image, of which so many are found, and nothing else is said to be it."""
    facts, comparison = comparison_of(path)
    run = next(each for each in comparison.cells if each.name == cell).complete[0]
    counts = np.array([[[hit, 0, 100 - hit]] for hit in hits.values()])
    np.savez(facts.home(run).counts, ids=np.array(list(hits)), counts=counts)


def test_images_are_chosen_by_gain_median_and_loss(tmp_path):
    path = write_ablation(tmp_path / "panels", blocks=1, panels=5)
    names = [f"scene_{i:04d}" for i in range(5)]
    put_counts(path, "supervised", dict.fromkeys(names, 50))
    put_counts(path, "mean_teacher", dict(zip(names, (40, 90, 55, 52, 70), strict=True)))
    facts, comparison = comparison_of(path)
    home = {cell.name: facts.home(cell.complete[0]) for cell in comparison.cells if cell.complete}
    found = chosen(home["mean_teacher"], home["supervised"])
    assert found is not None
    assert [(each.stem, each.why) for each in found] == [
        ("scene_0001", "largest gain, +40.0"),
        ("scene_0002", "median, +5.0"),
        ("scene_0000", "largest loss, −10.0"),
    ]
    html = write_page(StudyFolder(path)).read_text()
    assert html.count("<figcaption>image</figcaption>") == 3
    assert "Shown are, of the images whose pictures were kept, those with the largest gain" in words(html)


def test_without_counts_all_pictures_are_shown_and_the_page_says_so(tmp_path):
    html = write_page(StudyFolder(write_ablation(tmp_path / "bare", blocks=1, panels=4))).read_text()
    assert html.count("<figcaption>image</figcaption>") == 4
    assert "All that were kept are shown." in words(html)


def test_a_page_holds_so_many_cells_and_says_where_the_others_are(tmp_path, monkeypatch):
    many = {f"cell_{i:03d}": {"method.name": "guidedmix", "optim.lr": 0.1 + i} for i in range(90)}
    cells = {**ablation_folder.CELLS, **many}
    scores = {**ablation_folder.SCORES, **{name: (0.47 + i / 1000,) for i, name in enumerate(many)}}
    monkeypatch.setattr(ablation_folder, "CELLS", cells)
    path = write_ablation(tmp_path / "many", blocks=1, scores=scores, panels=0)
    _, comparison = comparison_of(path)
    names = [cell.name for cell in shown_cells(comparison)]
    assert len(names) == MOST_DRAWN
    assert {"supervised", "all_labels", "cell_089"} <= {*names}
    assert "cell_001" not in names  # 0.471 is what the reference has
    html = write_page(StudyFolder(path)).read_text()
    assert html.count('<td class="left cell">') == MOST_DRAWN
    assert "all 95 are in report/cells.csv" in words(html)


def test_the_page_names_code_machines_and_data_of_all_runs(html):
    shown = words(html)
    assert "Code of the runs commit a87c8e1f00d5, with uncommitted changes (digest 5be1c02d77a9f310) (16 runs)" in shown
    assert "Machines NVIDIA H200 · gpu-07 (16 runs)" in shown
    assert "Data of the runs 9b1f63c2a7d04e58 (16 runs)" in shown
