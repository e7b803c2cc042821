"""Intervals over images, against the counts of one image after another."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from guidedmix_core.metrics import class_iou, mean_iou
from orchestrator import image_bootstrap
from orchestrator.comparison import Comparison, compare
from orchestrator.folder import StudyFolder, read_json, write_json
from orchestrator.image_bootstrap import UNREAD, ImageGaps, gaps_of, image_gaps, resampled_iou, with_gaps, without_gaps
from orchestrator.report import write_page
from orchestrator.results import CLASS, load_trials
from orchestrator.summary import Summary, summarize
from tests.orchestrator.ablation_folder import write_ablation

IMAGES, CLASSES = 24, 4


def resampled_gaps(
    arms: list[tuple[np.ndarray, np.ndarray]], resamples: int, coverage: float, seed: int = 0
) -> ImageGaps:
    """Of the counts of cell and reference in each block."""
    found = [(resampled_iou(own, resamples, seed), resampled_iou(other, resamples, seed)) for own, other in arms]
    return gaps_of(found, len(arms[0][0]), coverage)


def counts_of(seed: int, right: float, images: int = IMAGES) -> np.ndarray:
    """TP, FP, FN of each class in each image; class 3 occurs nowhere, class 2 in the first image only."""
    draw = np.random.default_rng(seed)
    total = draw.integers(50, 100, (images, CLASSES))
    total[:, 3] = total[1:, 2] = 0
    hit = draw.binomial(total, right)
    return np.stack([hit, draw.binomial(total, 0.2), total - hit], axis=2)


def test_the_first_numbers_are_those_of_the_metrics() -> None:
    arms = [(counts_of(0, 0.8), counts_of(1, 0.6)), (counts_of(2, 0.8), counts_of(3, 0.6))]
    found = resampled_gaps(arms, 200, 0.95)
    assert found.miou.mean == pytest.approx(np.mean([mean_iou(own) - mean_iou(other) for own, other in arms]))
    gap = np.mean([class_iou(own)[0] - class_iou(other)[0] for own, other in arms])
    assert found.classes[0] is not None
    assert found.classes[0].mean == pytest.approx(gap)
    assert (found.blocks, found.images, found.classes[3]) == (2, IMAGES, None)


def test_each_resample_is_what_the_metrics_say_of_the_drawn_images() -> None:
    own, other = counts_of(0, 0.8), counts_of(1, 0.6)
    found = resampled_gaps([(own, other)], 300, 0.9, seed=5)
    gaps = []
    for times in np.random.default_rng(5).multinomial(IMAGES, np.full(IMAGES, 1 / IMAGES), 300):
        drawn = np.repeat(np.arange(IMAGES), times)
        gaps.append(mean_iou(own[drawn]) - mean_iou(other[drawn]))  # class 2 is often absent from both, and left out
    assert found.miou.interval == pytest.approx(tuple(np.quantile(gaps, [0.05, 0.95])))


def test_the_same_run_differs_from_itself_on_no_images() -> None:
    counts = counts_of(0, 0.8)
    found = resampled_gaps([(counts, counts)], 200, 0.95)
    assert (found.miou.mean, found.miou.interval, found.miou.sign) == (0.0, (0.0, 0.0), 0)


def test_an_interval_over_images_narrows_with_their_number() -> None:
    few, many = (
        resampled_gaps([(counts_of(0, 0.7, images)[:, :2], counts_of(1, 0.7, images)[:, :2])], 400, 0.95).miou.interval
        for images in (10, 1000)
    )
    assert (many[1] - many[0]) * 5 < few[1] - few[0]


@pytest.fixture
def study(tmp_path: Path) -> tuple[StudyFolder, Comparison]:
    """Two blocks, in which all runs were evaluated on the same images."""
    folder = StudyFolder(write_ablation(tmp_path / "methods", blocks=2))
    comparison = compare(folder.request(), load_trials(folder))
    for cell in comparison.cells:
        for block, run in cell.complete.items():
            right = 0.6 if cell is comparison.reference else 0.8
            write_counts(folder, run.fingerprint, counts_of(block, right), [f"i{i}" for i in range(IMAGES)])
    return folder, comparison


def write_counts(folder: StudyFolder, fingerprint: str, counts: np.ndarray, ids: list[str]) -> None:
    file = io.BytesIO()
    np.savez_compressed(file, ids=np.array(ids), counts=counts.astype(np.int32))
    folder.trial(fingerprint).counts.write_bytes(file.getvalue())


def test_every_cell_is_compared_over_the_blocks_it_shares_with_the_reference(study) -> None:
    folder, comparison = study
    found = with_gaps(image_gaps(folder, comparison, comparison.cells))
    assert {name: gaps.blocks for name, gaps in found.items()} == {
        "all_labels": 2,
        "mean_teacher": 2,
        "guidedmix": 2,
        "unstable": 1,
    }
    assert found["guidedmix"].miou.interval[0] > 0
    assert found["guidedmix"] == resampled_gaps([(counts_of(b, 0.8), counts_of(b, 0.6)) for b in (0, 1)], 2000, 0.95)


def test_a_cell_that_was_judged_on_other_images_has_no_interval_over_them_and_is_told_why(study) -> None:
    folder, comparison = study
    run = comparison.cells[2].complete[0]
    write_counts(folder, run.fingerprint, counts_of(0, 0.8), [f"other{i}" for i in range(IMAGES)])
    (folder.trial(comparison.cells[3].complete[1].fingerprint).counts).unlink()
    found = image_gaps(folder, comparison, comparison.cells)
    assert set(with_gaps(found)) == {"all_labels", "unstable"}
    assert without_gaps(found) == [
        "No interval over images of mean_teacher: not all runs were judged on the same images.",
        f"No interval over images of guidedmix: {UNREAD}.",
    ]


def test_few_images_give_no_interval_and_the_reason(study) -> None:
    folder, comparison = study
    for cell in comparison.cells:
        for block, run in cell.complete.items():
            write_counts(folder, run.fingerprint, counts_of(block, 0.7, 8), [f"i{i}" for i in range(8)])
    found = image_gaps(folder, comparison, comparison.cells)
    assert with_gaps(found) == {}
    why = "there are 8 images, and over fewer than 20 it covers too seldom"
    assert without_gaps(found) == [f"No interval over images: {why}."]
    assert why in write_page(folder).read_text()
    cells = {cell["name"]: cell["vs_reference"] for cell in summarize(folder)["cells"]}
    assert cells["guidedmix"]["images"] == {"absent": why}


@pytest.fixture
def whole(study) -> StudyFolder:
    """The study, its results with as many classes as its counts have."""
    folder, _ = study
    for trial in folder.trials():
        result = read_json(trial.result)
        rest = {name: value for name, value in result["metrics"].items() if not name.startswith(CLASS)}
        write_json(trial.result, {**result, "metrics": {**rest, **{f"{CLASS}{name}": 0.5 for name in "abcd"}}})
    return folder


def test_the_summary_has_the_intervals_over_images_of_each_cell(whole: StudyFolder) -> None:
    cells = {cell["name"]: cell["vs_reference"] for cell in summarize(whole)["cells"]}
    comparison = compare(whole.request(), load_trials(whole))
    found = with_gaps(image_gaps(whole, comparison, comparison.cells))["guidedmix"]
    images = cells["guidedmix"]["images"]
    assert (images["count"], images["blocks"]) == (found.images, 2)
    assert images["miou"] == {"diff": found.miou.mean, "ci": [*found.miou.interval]}
    classes = {name: gap and gap["diff"] for name, gap in images["classes"].items()}
    assert [*classes.values()] == [gap and gap.mean for gap in found.classes]
    assert [*classes] == ["a", "b", "c", "d"]
    assert cells["supervised"] is None


def test_while_a_run_is_missing_no_counts_are_read(whole: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    (
        last := whole.trial(compare(whole.request(), load_trials(whole)).cells[-1].complete[0].fingerprint)
    ).result.unlink()
    monkeypatch.setattr(np, "load", lambda *_: pytest.fail("counts were read"))
    assert {cell["vs_reference"] and cell["vs_reference"]["images"] for cell in summarize(whole)["cells"]} == {None}
    assert last.counts.exists()


def test_what_is_known_over_images_is_not_computed_again(whole: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    known = image_bootstrap.resampled_iou
    monkeypatch.setattr(image_bootstrap, "resampled_iou", lambda *of: (calls.append(of), known(*of))[1])
    Summary(whole).text()
    assert len(calls) == 2 + 7  # the reference in two blocks, and the complete runs of the other cells
    write_page(whole)
    assert len(calls) == 2 + 7


def test_damaged_counts_are_told_and_end_no_study(whole: StudyFolder, caplog: pytest.LogCaptureFixture) -> None:
    run = compare(whole.request(), load_trials(whole)).cells[2].complete[0]
    counts = whole.trial(run.fingerprint).counts
    counts.write_bytes(counts.read_bytes()[:100])
    cells = {cell["name"]: cell["vs_reference"] for cell in summarize(whole)["cells"]}
    assert (cells["mean_teacher"]["images"], cells["guidedmix"]["images"]["count"]) == ({"absent": UNREAD}, IMAGES)
    assert f"{counts}: File is not a zip file, so nothing is said over its images" in caplog.text


def test_the_page_says_what_other_images_would_change(whole: StudyFolder) -> None:
    page = write_page(whole).read_text()
    assert "Over images" in page
    assert f"over {IMAGES} images, drawn again and again" in page
