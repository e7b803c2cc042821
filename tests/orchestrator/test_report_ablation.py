"""The page of an ablation, from records alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from orchestrator.comparison import compare
from orchestrator.folder import StudyFolder
from orchestrator.report import svg, write_exports, write_page
from orchestrator.report.cells import cell_rows, class_rows, mask_rows
from orchestrator.report.choice import OPEN, look
from orchestrator.report.differences import band_of, difference_plot
from orchestrator.report.evidence_table import evidence_table
from orchestrator.report.facts import read_facts
from tests.orchestrator.ablation_folder import CELLS, SCORES, add_stages, write_ablation
from tests.orchestrator.study_folder import CLASSES
from tests.orchestrator.test_report import words


def written(path: Path) -> str:
    return write_page(StudyFolder(path)).read_text(encoding="utf-8")


def comparison_of(path: Path):
    facts = read_facts(StudyFolder(path))
    return facts, compare(facts.request, facts.records)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    return write_ablation(tmp_path_factory.mktemp("studies") / "methods")


@pytest.fixture(scope="module")
def html(study) -> str:
    return written(study)


def change_request(path: Path, **changes: object) -> None:
    request = yaml.safe_load((path / "study.yaml").read_text())
    (path / "study.yaml").write_text(yaml.safe_dump({**request, **changes}, sort_keys=False))


def test_the_page_says_first_what_differs_and_then_what_is_not_shown(html):
    # mean_teacher: 4.1, 3.5, 3.4, 4.4 points, mean 3.85, sd 0.480; t(0.975, 3) sd / 2 = 0.764
    shown = words(html)
    assert "Better than supervised: mean_teacher by +3.9 points (95 % interval +3.1 to +4.6, 4 blocks)." in shown
    assert (
        "No difference to supervised is shown for guidedmix, +0.1 points (95 % interval −1.4 to +1.6, 4 blocks)"
        in shown
    )
    assert "What there is to gain: all_labels against supervised, +12.7 points (95 % interval +11.8 to +13.7" in shown


def test_the_ceiling_is_no_rival_of_the_methods(html):
    assert "Better than supervised: mean_teacher by" in words(html)
    assert "all_labels by" not in words(html)


def test_too_little_headroom_is_flagged(tmp_path):
    scores = {**SCORES, "all_labels": (0.50, 0.52, 0.49, 0.51)}
    shown = words(written(write_ablation(tmp_path / "poor", scores=scores)))
    assert "There is little to gain: all_labels against supervised, +2.9 points" in shown
    assert "Below 8 points of mIoU labels are hardly what limits this schedule" in shown


def test_little_headroom_is_a_fact_only_if_its_whole_interval_is_little(tmp_path):
    scores = {cell: row[:2] for cell, row in SCORES.items()} | {"all_labels": (0.50, 0.55)}
    shown = words(written(write_ablation(tmp_path / "two", blocks=2, scores=scores, panels=0)))
    assert "There may be little to gain: all_labels against supervised, +4.4 points (95 % interval −1" in shown


def test_the_tile_counts_the_runs_that_have_ended(tmp_path):
    path = write_ablation(tmp_path / "going", panels=0)
    left = [trial for trial in (path / "trials").iterdir() if "guidedmix" in (trial / "trial.json").read_text()]
    (left[0] / "result.json").unlink()
    assert "19 of 20 runs 17 complete, 2 failed, 1 unfinished" in words(written(path))


def test_the_classes_say_which_cell_lacks_blocks(html):
    drawn = words(html[html.index('id="classes"') :])
    assert "✗2 2 of 4" in drawn
    assert "has its mean over fewer blocks, so the two need not add up" in drawn


def test_gray_dots_are_explained_only_where_there_are_some(html):
    assert "other cells" not in words(html)


def test_the_table_has_a_row_a_cell_in_the_order_of_the_file(study, html):
    facts, comparison = comparison_of(study)
    rows = cell_rows(comparison, facts)
    assert [row.name for row in rows] == list(CELLS)
    unstable = rows[-1]
    assert (unstable.n, unstable.failed, unstable.mean, unstable.is_short) == ("2 of 4", "2 diverged", "36.0", True)
    assert [row.kind for row in rows] == ["reference", "is-better", "is-better", "open", "open"]
    assert rows[2].changes == "method.name = mean_teacher, method.threshold = 0.8"


def test_every_test_of_a_cell_stands_in_the_page(study, html):
    # mean_teacher: four differences of one sign, 2 / 2^4; mean over sd 8.02, times Hedges' 0.7236 for 3 degrees
    found = evidence_table(comparison_of(study)[1])
    assert found is not None
    assert found.heads == ["Cell", "n", "p", "p (Holm)", "p, sign flips", "p, Wilcoxon", "Hedges' g"]
    assert found.rows[1][:6] == ["mean_teacher", "4", "<0.001", "0.002", "0.125", "0.125"]
    assert found.rows[1][6].startswith("+5.81 (")
    assert found.rows[3] == ["unstable ✗2", "2 ~", "0.065", "0.131", "0.500", "0.500", "–"]
    assert "No BCa interval: a bootstrap of fewer than 10 blocks covers too seldom." in words(html)


def test_a_test_that_only_some_cells_have_says_of_which_it_has_none(tmp_path):
    scores = {cell: row[:2] * 5 for cell, row in SCORES.items()}
    path = write_ablation(tmp_path / "ten", blocks=10, scores=scores, panels=0)
    change_request(path, analysis={"margin": 0.5})
    found = evidence_table(comparison_of(path)[1])
    assert found is not None
    assert found.heads[4] == "p, below 0.5 points"
    assert (found.heads[-1], found.rows[1][-1]) == ("BCa interval", "+3.6 to +4.0")
    assert "No BCa interval of unstable: a bootstrap of fewer than 10 blocks covers too seldom." in found.note


def test_two_of_four_blocks_and_failures_are_said(html):
    shown = words(html)
    assert "Fewer than 4 complete runs: unstable (2; 2 diverged)." in shown
    assert "unstable · seed 1 diverged step 731" in shown
    assert "20 of 20 runs 18 complete, 2 failed" in shown


def test_one_block_shows_nothing(tmp_path):
    shown = words(written(write_ablation(tmp_path / "one", blocks=1)))
    assert "One block shows nothing: mean_teacher +4.1 points (1 block), guidedmix +0.4 points (1 block)" in shown
    assert "interval +" not in shown
    assert "better" not in shown.replace("called better or worse", "")[
        : shown.index("Learning curves The mean")
    ].replace("higher is better", "")


def test_equal_cells_are_told_and_shown_twice(tmp_path):
    path = write_ablation(tmp_path / "twins")
    request = yaml.safe_load((path / "study.yaml").read_text())
    change_request(path, runs={**request["runs"], "guidedmix": request["runs"]["supervised"]})
    html = written(path)
    assert "guidedmix is the same configuration as supervised." in words(html)
    facts, comparison = comparison_of(path)
    assert [row.mean for row in cell_rows(comparison, facts)].count("47.6") == 2


def test_runs_that_are_not_asked_for_any_more_are_counted_and_not_shown(tmp_path):
    path = write_ablation(tmp_path / "changed")
    request = yaml.safe_load((path / "study.yaml").read_text())
    cells = {name: changes for name, changes in request["cells"].items() if name != "unstable"}
    change_request(path, cells=cells, runs={name: request["runs"][name] for name in cells}, planned=16)
    shown = words(written(path))
    assert "4 runs of the folder are not shown" in shown
    assert "16 of 16 runs 16 complete" in shown
    assert "unstable" not in shown


def test_unequal_budgets_are_flagged(tmp_path):
    path = write_ablation(tmp_path / "unequal")
    facts, _ = comparison_of(path)
    for record in facts.records:
        if record.cell == "guidedmix":
            file = facts.home(record).result
            file.write_text(json.dumps({**json.loads(file.read_text()), "steps": 4000}))
    assert "Unequal budgets: guidedmix trained for another number of steps than supervised." in words(written(path))


def test_a_run_whose_stages_make_up_the_steps_has_an_equal_budget_and_a_curve_behind_them(tmp_path):
    path = write_ablation(tmp_path / "stages", panels=0)
    add_stages(path, "guidedmix", [("trained", 600, 50.0)], steps=1400)
    facts, comparison = comparison_of(path)
    assert "Unequal budgets" not in words(written(path))
    cell = next(cell for cell in comparison.cells if cell.name == "guidedmix")
    assert [step for step, *_ in band_of(facts, cell, "val/miou")][:2] == [800, 1000]


def test_the_time_of_a_run_is_that_of_its_whole_chain_and_a_shared_stage_is_spent_once(tmp_path):
    path = write_ablation(tmp_path / "stages", panels=0)
    add_stages(path, "mean_teacher", [("trained", 200, 70.0)], steps=1800)
    add_stages(path, "guidedmix", [("reused", 200, 70.0), ("trained", 200, 30.0)], steps=1600)
    rows = {row.name: row for row in cell_rows(comparison_of(path)[1], comparison_of(path)[0])}
    assert (rows["mean_teacher"].time, rows["mean_teacher"].total) == ("2 min 50 s", "11 min")  # 4 runs of 170 s
    assert (rows["guidedmix"].time, rows["guidedmix"].total) == ("3 min 20 s", "8 min 40 s")  # 4 of 130 s


def test_a_target_below_the_plain_prediction_is_told_by_cell_with_what_is_kept_of_it(html):
    said = (
        r"the student's plain prediction in guidedmix \(72\.3 against 78\.2 %; 85\.3 % of what is taught\) and unstable"
    )
    assert re.search(said, words(html))
    assert "harms" not in words(html)


def test_what_teaches_more_mistakes_than_the_student_makes_is_said_to_harm(tmp_path):
    path = write_ablation(tmp_path / "wrong", panels=0)
    for trial in (path / "trials").iterdir():
        for file in (trial / "metrics.jsonl", trial / "result.json"):
            file.write_text(re.sub(r'("pseudo/precision": )[\d.]+', r"\g<1>0.7", file.read_text()))
    assert [(row.name, row.is_worse) for row in mask_rows(comparison_of(path)[1])][:2] == [
        ("mean_teacher", False),
        ("guidedmix", True),
    ]
    assert "The term harms in guidedmix (72.3 against 78.2 %; 70.0 % of what is taught) and" in words(written(path))


def test_pseudo_masks_are_means_over_blocks_of_the_cells_that_have_them(study):
    facts, comparison = comparison_of(study)
    rows = mask_rows(comparison)
    assert [(row.name, row.n) for row in rows] == [("mean_teacher", 4), ("guidedmix", 4), ("unstable", 2)]
    teachers = [record for record in facts.records if record.cell == "mean_teacher"]
    coverage = np.mean([record.metrics["pseudo/coverage"] for record in teachers])
    assert rows[0].values[0] == f"{100 * coverage:.1f}"
    assert (rows[0].gap, rows[0].is_worse, rows[1].is_worse) == ("+10.0", False, False)


def test_the_key_names_other_cells_only_where_some_are_gray(html):
    assert "other cells" not in html


def test_classes_are_means_over_blocks_and_their_differences(study):
    facts, comparison = comparison_of(study)
    rows = class_rows(facts, comparison, [])
    assert [row.name for row in rows] == list(CLASSES)
    iou = {
        name: [run.metrics["val/iou/sky"] for run in facts.records if run.cell == name]
        for name in ("supervised", "mean_teacher")
    }
    gap = np.mean(iou["mean_teacher"]) - np.mean(iou["supervised"])
    mean, difference, color = rows[0].cells[2]
    assert (mean, difference) == (f"{100 * np.mean(iou['mean_teacher']):.1f}", f"{100 * gap:+.1f}")
    assert color.startswith("rgb(0, 99, 166, ")
    assert rows[0].cells[0][1:] == ("", "none")


def test_the_plot_has_a_row_for_each_cell_but_the_reference_and_a_dot_for_each_block(study):
    _, comparison = comparison_of(study)
    plot = difference_plot(comparison)
    assert plot is not None
    assert "mean_teacher: +3.9 points (95 % interval +3.1 to +4.6, 4 blocks)" in plot
    assert [plot.count(f">{cell}, block ") for cell in CELLS] == [0, 4, 4, 4, 2]


def test_on_a_phone_the_plot_keeps_the_reference_in_sight(study):
    plot = difference_plot(comparison_of(study)[1], is_narrow=True)
    assert plot is not None
    assert 'viewBox="0 0 390 ' in plot
    assert "supervised" in plot
    assert max(float(x) for x in re.findall(r'<(?:text|circle)[^>]* c?x="([\d.]+)"', plot)) <= 390


def test_page_and_print_draw_a_difference_alike_and_the_key_has_every_look(tmp_path):
    """Of two cells p is 0.03, and 0.06 after the correction."""
    small, large = (0.481, 0.503, 0.462, 0.490), (0.40, 0.42, 0.385, 0.41)
    scores = {**SCORES, "mean_teacher": small, "unstable": small, "guidedmix": large}
    path = write_ablation(tmp_path / "looks", scores=scores, panels=0)
    _, comparison = comparison_of(path)
    found = [look(cell) for cell in comparison.cells if cell is not comparison.reference]
    assert found == [(svg.BEST, True), (OPEN, True), (svg.REFERENCE, True), (OPEN, True)]
    assert "better worse only its own interval excludes zero one block" in words(written(path))
    marks = [f'fill="{color}"' for color in (svg.BEST, svg.REFERENCE, OPEN)]
    plot = difference_plot(comparison)
    assert plot is not None
    assert all(mark in plot for mark in marks)
    printed = write_exports(StudyFolder(path))
    forest = next(file for file in printed if file.name == "forest.svg").read_text()
    assert f"fill: {OPEN}" in forest
    assert "fill: #ffffff; stroke" not in forest


def test_an_interval_that_leaves_the_plot_ends_in_an_arrow_and_is_written_out(tmp_path):
    scores = {cell: row[:2] for cell, row in SCORES.items()} | {"guidedmix": (0.40, 0.55)}
    _, comparison = comparison_of(write_ablation(tmp_path / "two", blocks=2, scores=scores))
    plot = difference_plot(comparison)
    assert plot is not None
    assert "an interval that goes on" in words(written(tmp_path / "two"))
    assert re.search(r"−\d+\.\d to \+8\d\.\d", plot)  # half the interval: 12.7 times half of 12.9 points


def test_curves_are_means_with_a_band_and_a_label(study, html):
    drawn = html[html.index('id="curves"') : html.index('id="masks"')]
    assert drawn.count('class="band"') == len(CELLS)
    assert "mean_teacher · 51.4" in words(drawn)


def test_panels_are_of_the_reference_and_the_best_cell_in_one_block(html):
    captions = re.findall(r"<figcaption>([^<]+)</figcaption>", html)
    assert captions == ["image", "truth", "supervised", "mean_teacher"] * 2


def test_what_belongs_to_a_search_stays_out(html):
    for absent in ("Leaderboard", "Parameter importance", "trial", "winner"):
        assert absent not in words(html)


def test_names_and_messages_are_escaped(tmp_path):
    path = write_ablation(tmp_path / "hostile", blocks=2)
    text = (path / "study.yaml").read_text().replace("mean_teacher:", "'<u>x</u> & \"y\"':")
    (path / "study.yaml").write_text(text)
    for file in path.glob("trials/*/trial.json"):
        file.write_text(file.read_text().replace("unstable", "<i>bad</i>"))
    html = written(path)
    assert "&lt;u&gt;x&lt;/u&gt; &amp; " in html
    assert "<u>" not in html
    assert "<i>bad" not in html
    assert "<script" not in html


def test_an_ablation_of_nothing_yet_is_a_page_of_plain_sentences(tmp_path):
    shown = words(written(write_ablation(tmp_path / "empty", scores=dict.fromkeys(CELLS, ()))))
    for sentence in (
        "Without a complete block in common with supervised: mean_teacher, guidedmix and unstable.",
        "No cell has a complete block in common with supervised yet.",
        "No run is complete yet.",
        "There is no telemetry of pseudo masks",
        "no class has an IoU yet",
        "There are no pictures",
        "0 of 20 runs none started",
        "No run failed.",
    ):
        assert sentence in shown


def test_an_ablation_without_a_ceiling_says_nothing_of_headroom(tmp_path):
    path = write_ablation(tmp_path / "open")
    change_request(path, ceiling=None)
    shown = words(written(path))
    assert "to gain" not in shown
    assert "all_labels by +12.7 points" in shown


def test_the_same_folder_gives_the_same_page(study, html):
    assert written(study) == html
