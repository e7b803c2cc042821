"""What is claimed of the cells of an ablation, and what is not: records alone."""

from __future__ import annotations

import io
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from rich.console import Console

from orchestrator.cells_table import WIDTH, cells_table
from orchestrator.comparison import Comparison, compare
from orchestrator.effects_table import effects_table, images_table
from orchestrator.image_bootstrap import Gap, ImageGaps
from orchestrator.notes import notes
from orchestrator.results import TrialRecord
from orchestrator.summary import compared
from tests.orchestrator.ablation_folder import CELLS, SCORES

BASE = (0.471, 0.492, 0.460, 0.481, 0.466, 0.478, 0.489)
Scores = dict[str, tuple[float | None, ...]]


def plus(*gains: float) -> tuple[float, ...]:
    return tuple(base + gain for base, gain in zip(BASE, gains, strict=False))


FEW = plus(0.041, 0.035, 0.034)
SEVEN = plus(0.041, 0.035, 0.034, 0.044, 0.036, 0.040, 0.038)


def record_of(cell: str, block: int, score: float | None, data: str | None = None) -> TrialRecord:
    """None: the run failed; nothing is noted of its data."""
    state, failure = ("complete", None) if score is not None else ("failed", {"reason": "diverged", "message": ""})
    metrics = {} if score is None else {"val/miou": score}
    names = {"label": f"{cell} · seed {block}", "params": CELLS[cell], "seed": block, "cell": cell, "block": block}
    ends = {"step": 4, "steps": 4, "seconds": 314.0, "best": None, "started": None, "ended": None}
    what = {"fingerprint": f"{cell}-{block}", "number": 0, "role": "trial", "mlflow_run_id": None, "stages": []}
    what |= {"adjusted": None, "reused_from": None, "data": data}
    return TrialRecord(**what, **names, **ends, state=state, objective=score, metrics=metrics, failure=failure)


def study(scores: Scores, data: Mapping[tuple[str, int], str] = MappingProxyType({}), **request: Any) -> Comparison:
    """A comparison of these scores; cells that are not named are thirteen points above the reference."""
    blocks = max(map(len, scores.values()))
    scores = {cell: scores.get(cell, plus(0.13, 0.131, 0.132, 0.13, 0.129, 0.13, 0.13)[:blocks]) for cell in CELLS}
    made = ((cell, block, score) for cell, row in scores.items() for block, score in enumerate(row))
    records = [record_of(cell, block, score, data.get((cell, block))) for cell, block, score in made]
    runs = {cell: [f"{cell}-{block}" for block in range(blocks)] for cell in CELLS}
    names = {"reference": "supervised", "ceiling": "all_labels", "cells": CELLS, "runs": runs}
    return compare({"objectives": [{"metric": "val/miou", "mode": "max"}], **names, **request}, records)


def scores(mean_teacher: tuple[float | None, ...], **others: tuple[float | None, ...]) -> Scores:
    blocks = len(mean_teacher)
    return {"supervised": BASE[:blocks], "mean_teacher": mean_teacher, **others}


def cell_of(comparison: Comparison, name: str = "mean_teacher"):
    return next(cell for cell in comparison.cells if cell.name == name)


def shown(*what: Any) -> str:
    console = Console(file=(file := io.StringIO()), width=WIDTH)
    for each in what:
        console.print(each)
    return file.getvalue()


def test_three_blocks_never_have_a_star_and_the_table_says_why() -> None:
    comparison = study(scores(FEW))
    cell = cell_of(comparison)
    assert cell.verdict == "better"
    assert cell.evidence.p_adjusted < 0.02
    assert not any(each.is_starred for each in comparison.cells)
    assert "*" not in shown(cells_table(comparison))
    why = "with 3 blocks the exact sign-flip test, which asks for no normal distribution, can't go below 0.25"
    assert any(why in note and "it takes 6 to reach 0.05" in note for note in notes(comparison))


def test_a_star_asks_for_the_sign_flip_test_as_well() -> None:
    comparison = study(scores(SEVEN, guidedmix=plus(0.08, 0.08, 0.07, 0.08, 0.09, 0.08, -0.001)))
    starred = {cell.name: cell.is_starred for cell in comparison.cells}
    assert cell_of(comparison).evidence.p_sign_flip == 2 / 2**7
    assert starred["mean_teacher"]
    assert not starred["all_labels"]  # the ceiling is no claim
    assert any(note.startswith("*: the exact sign-flip test") for note in notes(comparison))
    assert "<0.001*" in shown(cells_table(comparison))


def test_an_interval_that_excludes_zero_is_not_enough_among_several_comparisons() -> None:
    near = plus(0.04, 0.02, 0.03, 0.01)  # t = 0.025 / (0.0129 / 2) = 3.87, p 0.030
    for correction, verdict in (("holm", "no difference shown"), ("none", "better")):
        comparison = study(scores(near, guidedmix=(*BASE[:3], 0.5)), analysis={"correction": correction})
        cell = cell_of(comparison)
        assert cell.versus.excludes_zero is (cell.evidence.p <= 0.05)
        assert (cell.versus.excludes_zero, cell.verdict) == (True, verdict)


def test_the_correction_counts_every_comparison_but_the_ceilings() -> None:
    comparison = study(scores(FEW))
    assert [cell.name for cell in comparison.family] == ["mean_teacher", "guidedmix", "unstable"]
    room = cell_of(comparison, "all_labels").evidence
    assert room.p_adjusted == room.p
    assert any("Holm's correction for 3 comparisons" in note for note in notes(comparison))


def test_equal_cells_are_one_comparison_and_are_judged_alike() -> None:
    runs = {cell: [f"{cell}-{block}" for block in range(3)] for cell in CELLS}
    comparison = study(scores(FEW), runs={**runs, "guidedmix": runs["mean_teacher"]})
    assert [cell.name for cell in comparison.family] == ["mean_teacher", "unstable"]
    first, twin = cell_of(comparison), cell_of(comparison, "guidedmix")
    assert (twin.evidence, twin.verdict) == (first.evidence, first.verdict)
    assert first.evidence.p_adjusted == first.evidence.p  # the larger one of two
    assert any("Holm's correction for 2 comparisons" in note for note in notes(comparison))


def test_equal_cells_take_the_same_looks() -> None:
    runs = {cell: [f"{cell}-{block}" for block in range(3)] for cell in CELLS}
    looked = {"sequential": {"max_blocks": 5}, "first_look": 3}
    comparison = study(scores(FEW), runs={**runs, "guidedmix": runs["mean_teacher"]}, **looked)
    assert cell_of(comparison, "guidedmix").evidence == cell_of(comparison).evidence
    assert [cell.name for cell in comparison.family] == ["mean_teacher", "unstable"]


def test_a_difference_inside_the_margin_is_said_to_be_small() -> None:
    close = scores(plus(0.001, -0.0005, 0.0004, 0.0))
    comparison = study(close, analysis={"margin": 0.3})
    cell = cell_of(comparison)
    assert (cell.verdict, cell.is_small) == ("smaller than the margin", True)
    assert "smaller than 0.3 points" in shown(cells_table(comparison))
    without = study(close)
    assert cell_of(without).verdict == "no difference shown"


def test_a_difference_can_be_shown_and_be_small() -> None:
    comparison = study(scores(plus(0.0010, 0.0012, 0.0011, 0.0010)), analysis={"margin": 0.3})
    assert "better, by less than 0.3 points" in shown(cells_table(comparison))


def test_one_block_shows_nothing() -> None:
    comparison = study(scores(BASE[:1]))
    assert cell_of(comparison).verdict == "one block: no interval"
    assert notes(comparison) == []
    gap = compared(comparison, {})["cells"][2]["vs_reference"]
    assert (gap["n"], gap["p"], gap["p_adjusted"], gap["effect_size"], gap["p_sign_flip"]) == (1, None, None, None, 1.0)


def test_differences_without_spread_show_nothing() -> None:
    comparison = study(scores(plus(0.05, 0.05, 0.05), guidedmix=BASE[:3]))
    assert cell_of(comparison).verdict == "equal differences: no interval"
    assert cell_of(comparison, "guidedmix").verdict == "equal differences: no interval"
    assert "mean_teacher" not in [cell.name for cell in comparison.family]


def test_a_cell_that_is_judged_on_other_images_is_said_to_be() -> None:
    cells = {**CELLS, "mean_teacher": {**CELLS["mean_teacher"], "evaluate.part": "test", "evaluate.batch_size": 2}}
    said = 'mean_teacher is judged otherwise than supervised: evaluate.part="test"; the difference shows that, too.'
    assert said in notes(study(scores(plus(0.01, 0.02)), cells=cells))
    assert not any("judged otherwise" in note for note in notes(study(scores(plus(0.01, 0.02)))))


def test_blocks_whose_data_has_changed_between_the_runs_are_in_no_difference_and_that_is_said() -> None:
    old = {("supervised", block): "old" for block in range(3)}
    some = {("mean_teacher", 0): "old", ("mean_teacher", 1): "new", ("all_labels", 1): "with other labels"}
    comparison = study(scores(FEW), {**old, **some})
    versus = {cell.name: cell.versus.n for cell in comparison.cells if cell.versus}
    assert versus == {"all_labels": 3, "mean_teacher": 2, "guidedmix": 3, "unstable": 3}
    said = "The data has changed between runs of supervised and of mean_teacher (1), in so many blocks"
    assert [note for note in notes(comparison) if note.startswith(said)]
    own, _ = cell_of(comparison).pairs(comparison.reference, "val/miou")
    assert set(own) == {0, 2}
    assert not [note for note in notes(study(scores(FEW), old)) if "data has changed" in note]


def test_what_there_is_to_gain_is_over_labels_alone_also_where_the_reference_is_a_whole_method() -> None:
    found = study(scores(plus(0.1, 0.12)), reference="mean_teacher")
    assert found.baseline.name == "supervised"
    assert found.headroom is not None
    assert found.headroom.mean == pytest.approx(0.1305)  # all labels are 13.0 and 13.1 points above supervised
    assert found.has_headroom


def test_a_value_that_is_no_number_is_no_value() -> None:
    cell = cell_of(study(scores((FEW[0], float("nan"), FEW[2]))))
    assert (cell.value.n, cell.versus.n) == (2, 2)


def test_where_runs_failed_the_table_falls_back_on_a_mixed_model_and_says_so() -> None:
    comparison = study({**SCORES, "mean_teacher": (*FEW, None)})
    cell = cell_of(comparison)
    assert (cell.evidence.basis, cell.versus.n) == ("mixed model", 3)
    assert compared(comparison, {})["cells"][2]["vs_reference"]["basis"] == "mixed model"
    assert " ~" in next(line for line in shown(cells_table(comparison)).splitlines() if "mean_teacher" in line)
    (said,) = [note for note in notes(comparison) if note.startswith("~")]
    assert "mean_teacher, unstable: runs are missing" in said
    assert cell_of(comparison, "guidedmix").evidence.basis == "paired"


def test_a_run_that_has_not_ended_is_no_missing_one() -> None:
    comparison = study({**SCORES, "mean_teacher": FEW})
    assert cell_of(comparison).evidence.basis == "paired"


def test_the_interval_that_is_asked_for_is_the_level_of_the_tests() -> None:
    comparison = study(scores(FEW), analysis={"interval": 0.999})
    cell = cell_of(comparison)
    assert (cell.verdict, cell.versus.coverage) == ("no difference shown", 0.999)
    assert "mIoU, ± 99.9 %" in shown(cells_table(comparison))
    assert any("where p is at most 0.001" in note for note in notes(comparison))


def test_what_the_blocks_can_show_is_said_and_what_the_margin_would_take() -> None:
    comparison = study(scores(FEW), analysis={"margin": 0.3})
    assert any(
        "3 blocks show a difference of" in note and "0.3 points would take" in note for note in notes(comparison)
    )


LEVELS = {
    "supervised": {"teacher": "off", "mixing": "off"},
    "mean_teacher": {"teacher": "on", "mixing": "off"},
    "guidedmix": {"teacher": "off", "mixing": "on"},
    "unstable": {"teacher": "on", "mixing": "on"},
    "all_labels": {},
}


def test_a_two_level_design_has_a_table_of_effects() -> None:
    flat = {"guidedmix": plus(0.01, 0.01, 0.02), "unstable": plus(0.05, 0.06, 0.05)}
    comparison = study(scores(FEW, **flat), levels=LEVELS)
    table = effects_table(comparison)
    assert table is not None
    assert [line.split("  ")[0] for line in shown(table).splitlines()[1:]] == ["teacher", "mixing", "teacher × mixing"]
    summary = compared(comparison, {})
    teacher = summary["effects"][0]
    # over blocks the means of (mean_teacher - supervised) and (unstable - guidedmix): 4.05, 4.25, 3.2 points
    assert (teacher["diff"], teacher["n"]) == (pytest.approx(0.115 / 3), 3)
    assert [len(point["factors"]) for point in summary["half_normal"]].count(2) == 1


def test_a_cell_of_the_summary_has_what_programs_read() -> None:
    flat = {"guidedmix": plus(0.01, 0.01, 0.02)}
    cell = compared(study(scores(FEW, **flat)), {})["cells"][3]
    keys = {"name", "levels", "n", "mean", "sd", "ci", "vs_reference", "verdict", "star", "failed"}
    assert keys <= cell.keys()
    gap = cell["vs_reference"]
    assert {"n", "diff", "ci", "p", "p_adjusted", "effect_size", "bootstrap", "images"} <= gap.keys()
    assert (cell["name"], gap["images"], gap["effect_size"].keys()) == ("guidedmix", None, {"hedges_g", "ci"})


def test_cells_without_levels_have_none() -> None:
    comparison = study(scores(FEW))
    assert effects_table(comparison) is None
    assert "effects" not in compared(comparison, {})


def test_the_table_of_images_counts_classes() -> None:
    comparison = study(scores(FEW))
    gap, open_gap = Gap(0.03, (0.01, 0.05)), Gap(0.0, (-0.01, 0.01))
    table = images_table(comparison, {"mean_teacher": ImageGaps(3, 1449, gap, (gap, open_gap, None, gap))})
    assert table is not None
    header, row = shown(table).splitlines()
    assert "95 % over 1449 images" in header
    assert row.split() == ["mean_teacher", "+3.0", "(+1.0", "to", "+5.0)", "2", "0", "1"]
    assert images_table(comparison, {}) is images_table(comparison, {"mean_teacher": "too few"}) is None
