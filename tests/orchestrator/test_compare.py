"""Studies side by side: what may stand together, what is refused, and what other tools logged to MLflow."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from guidedmix_core import ConfigError, dump
from orchestrator.cli import app
from orchestrator.folder import StudyFolder
from orchestrator.foreign import ForeignRun, entry_of, is_seed
from orchestrator.standings import judged, mode_of, read_entry
from orchestrator.standings_table import footnotes
from tests.orchestrator.ablation_folder import CELLS, SCORES, write_ablation
from tests.orchestrator.study_folder import write_study
from tests.orchestrator.test_confirmation import confirm, study_of
from tests.orchestrator.test_confirmation import run as run_search

PROTOCOL = {
    "data": {"name": "camvid", "root": "/here", "size": [180, 240]},
    "split": {"labeled": 8, "seed": 0},
    "augment": {"crop": [96, 96]},
    "evaluate": {"part": "val", "mode": "whole", "stride": 0.5, "flip": False, "every": 200},
}


def configure(path: Path, **changes: dict[str, Any]) -> Path:
    """Every run of the study has this protocol."""
    for file in path.glob("trials/*/config.yaml"):
        config = {**yaml.safe_load(file.read_text()), **PROTOCOL}
        for section, values in changes.items():
            config[section] = {**PROTOCOL[section], **values}
        file.write_text(yaml.safe_dump(config))
    return path


def compared(*names: object):
    return CliRunner().invoke(app, ["compare", *map(str, names)])


def read(path: Path) -> list[dict[str, str]]:
    return [*csv.DictReader(io.StringIO(path.read_text()))]


def refused(*names: object) -> str:
    found = compared(*names)
    assert isinstance(found.exception, ConfigError)
    return str(found.exception)


@pytest.fixture
def study(tmp_path) -> Path:
    return configure(write_ablation(tmp_path / "methods", panels=0))


@pytest.fixture
def search(tmp_path) -> Path:
    return configure(write_study(tmp_path / "tuned", panels=0))


def test_a_row_is_a_cell_a_winner_or_a_reference(study, search):
    cells, trials = (read_entry(StudyFolder(path), "val/miou") for path in (study, search))
    assert [(row.name, row.role) for row in cells.standings][:3] == [
        ("supervised", "reference"),
        ("all_labels", "ceiling"),
        ("mean_teacher", "cell"),
    ]
    assert [row.role for row in trials.standings] == ["winner", "reference", "reference"]
    teacher = cells.standings[2].value
    assert teacher is not None and teacher.interval is not None
    # 51.2, 52.7, 49.4, 52.5: mean 51.45, sd 1.520, t(0.975, 3) = 3.182
    assert (teacher.n, teacher.mean) == (4, pytest.approx(0.5145))
    assert teacher.interval[1] - teacher.mean == pytest.approx(3.182 * 0.01520 / 2, rel=1e-3)


def test_which_way_a_metric_is_better_is_known_of_a_study_s_objective(study):
    assert mode_of([StudyFolder(study)], "val/miou") == "max"
    assert mode_of([StudyFolder(study)], "val/loss") is None


def test_the_winner_of_a_search_is_said_to_flatter(search):
    (note,) = read_entry(StudyFolder(search), "val/miou").notes
    assert "the winner is the best of 12 trials by the very images it is judged on" in note


def searched(path: Path, at_most: int = 1000, **changes: Any) -> StudyFolder:
    """A search of four trials, the best 0.9, and its fresh runs, which have 0.79, 0.80 and 0.81."""
    folder = StudyFolder(path)
    for job in run_search(study_of(**changes), folder, at_most=at_most):
        job.folder.config.write_text(yaml.safe_dump(dump(job.config)))
    return folder


def test_a_search_that_was_run_again_enters_with_its_fresh_runs_and_not_with_the_lucky_trial(tmp_path):
    entry = read_entry(searched(tmp_path / "fresh"), "val/miou")
    assert [(row.name, row.role, len(row.runs)) for row in entry.standings] == [
        ("plain", "reference", 3),
        ("trial 3", "winner", 3),
    ]
    winner = entry.standings[1].value
    assert winner is not None and winner.interval is not None
    assert (winner.mean, winner.sd) == (pytest.approx(0.8), pytest.approx(0.01))
    assert entry.notes == (
        "fresh: the best 1 of 4 trials, run again in fresh blocks: chosen by the val part, judged by the val part",
        "fresh: not run again, so left out: gray",
    )


def test_fresh_runs_stand_beside_what_was_judged_by_their_part(tmp_path):
    fresh = searched(tmp_path / "fresh", **confirm(part="test")).path
    other = searched(tmp_path / "other", **confirm(part="test")).path
    lucky = searched(tmp_path / "lucky", confirm=None).path
    assert compared(fresh, other, "--csv", tmp_path / "all.csv").exit_code == 0
    means = [(row["row"], row["n"], round(float(row["mean"]), 3)) for row in read(tmp_path / "all.csv")]
    assert means == [("plain", "3", 0.5), ("trial 3", "3", 0.8)] * 2
    assert "fresh and lucky: evaluate.part: test and val" in refused(fresh, lucky)


def test_fresh_runs_that_are_not_all_there_are_said_to_be_unfinished(tmp_path):
    entry = read_entry(searched(tmp_path / "some", at_most=8), "val/miou")
    assert [len(row.runs) for row in entry.standings] == [1, 1]
    assert "some: UNFINISHED, 4 of its cells' runs have no end yet" in entry.notes


def test_before_its_first_fresh_run_a_winner_is_said_to_flatter(tmp_path):
    entry = read_entry(searched(tmp_path / "none", at_most=7), "val/miou")
    assert [row.role for row in entry.standings] == ["winner", "reference", "reference"]
    assert "which flatters" in entry.notes[0]


def test_a_study_whose_reference_failed_is_compared_by_the_protocol_of_its_other_cells(tmp_path, study):
    scores = {**SCORES, "supervised": (None,) * 4}
    other = configure(write_ablation(tmp_path / "other", panels=0, scores=scores), split={"labeled": 16})
    assert "methods and other: split.labeled: 8 and 16" in refused(study, other)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"split": {"labeled": 16}}, "split.labeled: 8 and 16"),
        ({"split": {"labeled_list": "uni/1_8.txt"}}, None),
        ({"data": {"name": "voc2012"}}, "data.name: camvid and voc2012"),
        ({"data": {"size": [360, 480]}}, "data.size: 180 x 240 and 360 x 480"),
        ({"augment": {"crop": [128, 128]}}, "augment.crop: 96 x 96 and 128 x 128"),
        ({"evaluate": {"part": "test"}}, "evaluate.part: val and test"),
        ({"evaluate": {"mode": "sliding"}}, "evaluate.mode: whole and sliding"),
        ({"data": {"root": "/elsewhere"}}, None),
        ({"evaluate": {"every": 50, "stride": 0.9}}, None),
    ],
)
def test_another_protocol_is_refused_and_what_does_not_matter_is_not(tmp_path, study, changes, said):
    other = configure(write_ablation(tmp_path / "other", panels=0), **changes)
    if said is None:
        assert compared(study, other).exit_code == 0
    else:
        assert f"methods and other: {said}" in refused(study, other)


def test_a_protocol_that_only_one_study_names_differs(tmp_path, study):
    one = configure(write_ablation(tmp_path / "one", panels=0), split={"labeled_list": "uni/1_8.txt"})
    two = configure(write_ablation(tmp_path / "two", panels=0), split={"labeled_list": "uni/1_16.txt"})
    assert "split.labeled_list: uni/1_8.txt and uni/1_16.txt" in refused(one, two)


def test_other_classes_are_refused(tmp_path, study):
    other = configure(write_ablation(tmp_path / "other", panels=0))
    for file in other.glob("trials/*/result.json"):
        file.write_text(file.read_text().replace("val/iou/pole", "val/iou/fence"))
    assert "classes: 8 and 8, without pole and with fence" in refused(study, other)


def test_other_content_under_the_same_names_is_refused(tmp_path, study):
    other = configure(write_ablation(tmp_path / "other", panels=0))
    for file in other.glob("trials/*/environment.json"):
        file.write_text(file.read_text().replace("9b1f63c2a7d04e58", "0000000000000000"))
    assert "data read with split.seed 0: fingerprint 9b1f63c2a7d04e58 and 0000000000000000" in refused(study, other)


def write_truth(path: Path, pixels: int) -> None:
    """Half of the pixels of the truth are found; the ids stand in another order in each study."""
    for trial in path.glob("trials/*/result.json"):
        counts = np.array([[[5, 1, pixels - 5]], [[3, 2, 7]]])
        order = [0, 1] if pixels == 10 else [1, 0]
        np.savez(trial.parent / "counts.npz", ids=np.array(["a", "b"])[order], counts=counts[order])


def test_another_truth_of_the_evaluated_images_is_refused(tmp_path, study):
    same, other = (configure(write_ablation(tmp_path / name, panels=0)) for name in ("same", "other"))
    for path, pixels in ((study, 10), (same, 10), (other, 11)):
        write_truth(path, pixels)
    assert compared(study, same).exit_code == 0
    assert "evaluated images or their truth" in refused(study, other)


def test_anyway_shows_them_and_marks_which(tmp_path, study):
    other = configure(write_ablation(tmp_path / "other", panels=0), split={"labeled": 16})
    found = compared(study, other, "--anyway")
    assert found.exit_code == 0
    assert "other (a)" in found.stdout
    assert "(a) another protocol: split.labeled: 8 and 16" in found.stdout


def test_a_ceiling_with_other_labels_is_marked_and_not_refused(study):
    request = yaml.safe_load((study / "study.yaml").read_text())
    for digest in request["runs"]["all_labels"]:
        file = study / "trials" / digest / "config.yaml"
        config = yaml.safe_load(file.read_text())
        file.write_text(yaml.safe_dump({**config, "split": {**config["split"], "labeled": 1.0}}))
    entry = read_entry(StudyFolder(study), "val/miou")
    assert [row.name for row in entry.standings if row.differs] == ["all_labels"]
    assert "° methods, all_labels: split.labeled: 8 and 1.0" in footnotes([entry])


def test_what_can_not_be_verified_is_said(study, search):
    entries = [read_entry(StudyFolder(path), "val/miou") for path in (study, search)]
    assert (
        "tuned: the evaluated images are not verified to be those of methods" in judged(entries, anyway=False)[1].notes
    )


def test_the_sheet_names_the_runs_behind_each_number(tmp_path, study, search):
    assert compared(study, search, "--csv", tmp_path / "all.csv").exit_code == 0
    rows = read(tmp_path / "all.csv")
    assert len(rows) == len(CELLS) + 3
    assert len(rows[0]["runs"].split()) == 4


def test_one_study_no_study_and_another_objective_are_refused(tmp_path, study):
    assert "one study; give two or more" in refused(study)
    assert "no study here" in refused(study, tmp_path)
    other = configure(write_ablation(tmp_path / "other", panels=0))
    text = (other / "study.yaml").read_text().replace("metric: val/miou", "metric: val/accuracy")
    (other / "study.yaml").write_text(text)
    assert "--metric: which one?" in refused(study, other)
    assert compared(study, other, "--metric", "val/accuracy").exit_code == 0
    assert "no run has the metric 'val/mIoU'; did you mean 'val/miou'?" in refused(study, other, "--metric", "val/mIoU")


def run(id: str, miou: float, status: str = "FINISHED", **params: str) -> ForeignRun:
    return ForeignRun(id, status, params, {"miou": miou})


@pytest.mark.parametrize("name", ["seed", "split.seed", "random_seed", "train/seed", "random_state", "Seed"])
def test_a_seed_is_known_by_its_name(name):
    assert is_seed(name)


@pytest.mark.parametrize("name", ["seeds_per_class", "lr", "seed_everything_else", "reseed"])
def test_what_decides_is_no_seed(name):
    assert not is_seed(name)


def test_runs_of_equal_parameters_but_for_the_seed_are_one_row():
    runs = [run(f"{lr}{seed}", 0.5 + 0.01 * seed, lr=lr, seed=str(seed)) for lr in ("0.1", "0.2") for seed in (0, 1, 2)]
    entry = entry_of("unimatch", runs, "miou", "max")
    assert [(row.name, len(row.runs)) for row in entry.standings] == [("lr=0.1", 3), ("lr=0.2", 3)]
    value = entry.standings[0].value
    assert value is not None
    assert (value.mean, value.sd) == (pytest.approx(0.51), pytest.approx(0.01))


def test_what_was_made_of_another_tool_s_runs_is_said():
    runs = [run("a", 70.0, lr="1", out="x"), run("b", 71.0, lr="1", out="y"), run("c", 0.0, "FAILED", lr="1")]
    notes = " ".join(entry_of("theirs", runs, "miou", "max").notes)
    assert "nothing of them is verified" in notes
    assert "1 of 3 runs are left out" in notes
    assert "values above 1, so all are read as percent" in notes
    assert "--ignore it: out" in notes
    together = entry_of("theirs", runs, "miou", "max", ["out"])
    assert together.standings[0].value is not None
    assert together.standings[0].value.mean == pytest.approx(0.705)
    assert "taken to be independent" in " ".join(together.notes)


def test_a_metric_that_no_run_has_is_told_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'miou'"):
        entry_of("theirs", [run("a", 0.5)], "val_miou", None)


@pytest.mark.parametrize("diverged", [math.nan, math.inf, -math.inf, sys.float_info.max])
def test_a_run_of_another_tool_that_diverged_is_left_out_and_counted(diverged):
    runs = [run("a", 0.5, lr="1", seed="0"), run("b", diverged, lr="1", seed="1"), run("c", 0.7, lr="1", seed="2")]
    entry = entry_of("theirs", runs, "miou", "max")
    (row,) = entry.standings
    assert (row.runs, row.value and row.value.mean) == (("a", "c"), pytest.approx(0.6))
    assert "theirs: 1 of 3 runs are left out: not finished, or without a finite miou" in entry.notes
    with pytest.raises(ConfigError, match="no finished run has a finite 'miou'; its runs that have it"):
        entry_of("theirs", runs[1:2], "miou", "max")


@pytest.mark.parametrize(
    ("mode", "order"), [("max", ["2", "1", "3"]), ("min", ["3", "1", "2"]), (None, ["1", "2", "3"])]
)
def test_rows_of_another_tool_are_sorted_best_first_where_that_is_known_and_else_by_name(mode, order):
    runs = [run(lr, value, lr=lr) for lr, value in (("1", 0.3), ("3", 0.2), ("2", 0.4))]
    names = [row.name for row in entry_of("theirs", runs, "miou", mode).standings]
    assert names == [f"lr={lr}" for lr in order]


def test_mlflow_without_an_address_is_refused(tmp_path, study, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert "Set MLFLOW_TRACKING_URI, or give --mlflow URI" in refused(study, "mlflow:unimatch")
    missing = f"sqlite:///{tmp_path / 'no.db'}"
    assert "no such database" in refused(study, "mlflow:unimatch", "--mlflow", missing)
    assert not (tmp_path / "no.db").exists()


def test_folders_of_one_name_are_told_apart(tmp_path):
    paths = [configure(write_ablation(tmp_path / place / "study", panels=0)) for place in ("a", "b")]
    assert json.dumps(str(paths[1]))[1:-1] in compared(*paths).stdout
