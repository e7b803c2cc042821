"""Experiments of other tools, the registry, and what a study's run in MLflow carries. On real SQLite."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from guidedmix_core import ConfigError
from orchestrator.folder import StudyFolder, read_json, write_json
from orchestrator.mlflow_mirror import Mirror
from orchestrator.mlflow_run import cells_table
from orchestrator.report import write_exports, write_page
from orchestrator.summary import write_summary
from orchestrator.tracking import register
from tests.orchestrator.factorial_folder import write_factorial
from tests.orchestrator.study_folder import write_study
from tests.orchestrator.test_compare import compared, configure, read, refused
from tests.orchestrator.test_confirmation import run, study_of

# MLflow's own use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")

LOCAL = "sqlite:///{study}/mlflow.db"


@pytest.fixture
def search(tmp_path: Path, database: Path) -> StudyFolder:
    """A search of two trials that MLflow has, the better one with a checkpoint."""
    folder = StudyFolder(write_study(tmp_path / "tuned", trials=2, panels=0))
    shutil.copyfile(database, folder.mlflow_db)
    for trial in folder.trials():
        config = "data: {name: shapes}\n"
        trial.config.write_text(config)
        trial.checkpoint.mkdir()
        (trial.checkpoint / "best.pt").write_bytes(b"weights")
    return folder


def test_an_experiment_of_another_tool_stands_beside_a_study(tmp_path: Path, database: Path) -> None:
    uri = f"sqlite:///{shutil.copyfile(database, tmp_path / 'theirs.db')}"
    study = configure(write_study(tmp_path / "tuned", trials=2, panels=0))
    client = MlflowClient(uri)
    experiment = client.create_experiment("unimatch", artifact_location=(tmp_path / "files").as_uri())
    for seed, miou in enumerate((0.5, 0.52, math.nan, math.inf)):
        made = client.create_run(experiment).info.run_id
        client.log_param(made, "seed", seed)
        client.log_metric(made, "val/miou", miou)
        client.set_terminated(made)
    client.create_run(experiment, tags={"guidedmix.role": "attempt"})
    found = compared(study, "mlflow:unimatch", "--mlflow", uri, "--csv", tmp_path / "all.csv")
    assert found.exit_code == 0, found.output
    row = read(tmp_path / "all.csv")[-1]
    assert (row["study"], row["n"], float(row["mean"])) == ("unimatch", "2", pytest.approx(0.51))
    assert "unimatch: 2 of 4 runs are left out: not finished, or without a finite val/miou" in found.output
    assert "did you mean 'unimatch'?" in refused(study, "mlflow:unimatsch", "--mlflow", uri)


def test_the_run_of_an_ablation_carries_its_table_and_figures(tmp_path: Path, database: Path) -> None:
    folder = StudyFolder(write_factorial(tmp_path / "factors", blocks=1))
    shutil.copyfile(database, folder.mlflow_db)
    write_summary(folder)
    write_page(folder)
    write_exports(folder)
    (mirror := Mirror(LOCAL, folder)).sync()
    client = mirror.store.client
    names = {found.path for found in client.list_artifacts(mirror.run)}
    assert {"cells.json", "report.html", "summary.json", "report"} <= names
    files = {found.path for found in client.list_artifacts(mirror.run, "report")}
    assert {"report/table.tex", "report/forest.pdf", "report/runs.csv"} <= files
    shown = json.loads(client.get_run(mirror.run).data.tags["mlflow.loggedArtifacts"])
    assert shown == [{"path": "cells.json", "type": "table"}]
    runs = client.search_runs([mirror.store.experiment], "tags.`factor.pairing` = 'random'")
    assert {run.data.tags["cell"] for run in runs} == {
        "on-random-on",
        "on-random-off",
        "off-random-on",
        "off-random-off",
    }
    assert {run.data.tags["block"] for run in runs} == {"0"}


def test_the_table_has_a_row_a_cell(tmp_path: Path) -> None:
    folder = StudyFolder(write_factorial(tmp_path / "factors"))
    write_summary(folder)
    table = cells_table(json.loads(folder.summary.read_text()))
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["cell"] for row in rows][:2] == ["full", "on-guided-off"]
    assert rows[0]["mean"] == pytest.approx(0.575)
    assert rows[-1]["difference"] == pytest.approx(-0.07)


def test_the_winner_is_registered_once_with_metrics_and_data(search: StudyFolder) -> None:
    (mirror := Mirror(LOCAL, search)).sync()
    assert [register(search, "segmenter"), register(search, "segmenter")] == ["1", "1"]
    (version,) = mirror.store.client.search_model_versions("name = 'segmenter'")
    winner = json.loads(search.trial(version.tags["guidedmix.fingerprint"]).result.read_text())
    assert version.tags["val/miou"] == f"{winner['best']['metrics']['val/miou']:.6g}"
    assert version.tags["data.fingerprint"] == "9b1f63c2a7d04e58"
    assert "chosen by the images that it was judged on" in str(version.description)
    assert [found.path for found in mirror.store.client.list_artifacts(str(version.run_id), "checkpoint")] == [
        "checkpoint/best.pt"
    ]


def test_a_version_is_told_what_its_fresh_runs_came_to_also_later(tmp_path: Path, database: Path) -> None:
    folder = StudyFolder(tmp_path / "demo")
    run(study_of(), folder, at_most=6)
    shutil.copyfile(database, folder.mlflow_db)
    for trial in folder.trials():
        end = read_json(trial.result)
        write_json(trial.result, {**end, "best": {"step": 4, "metrics": end["metrics"]}})
        trial.config.write_text("data: {name: shapes}\n")
        trial.checkpoint.mkdir()
        (trial.checkpoint / "best.pt").write_bytes(b"weights")
    (mirror := Mirror(LOCAL, folder)).sync()
    register(folder, "segmenter")
    (version,) = mirror.store.client.search_model_versions("name = 'segmenter'")
    assert not any(tag.startswith("fresh") for tag in version.tags)
    run(study_of(), folder)
    assert register(folder, "segmenter") == "1"
    (version,) = mirror.store.client.search_model_versions("name = 'segmenter'")
    fresh = {tag: value for tag, value in version.tags.items() if tag.startswith("fresh")}
    assert fresh == {"fresh.n": "3", "fresh.part": "val", "fresh.val/miou": "0.8"}
    assert version.tags["val/miou"] == "0.9"
    assert "3 of them complete, the configuration has a mean val/miou of 80.0 on the val part" in str(
        version.description
    )


def test_what_can_not_be_registered_is_told_why(tmp_path: Path, search: StudyFolder) -> None:
    with pytest.raises(ConfigError, match="has no winning run"):
        register(StudyFolder(write_factorial(tmp_path / "factors", blocks=1)), "model")
    with pytest.raises(ConfigError, match="not tracked by MLflow"):
        register(search, "model")
    with pytest.raises(ConfigError, match="takes no ' / or : in a name"):
        register(search, "a/b")
    with pytest.raises(ConfigError, match="no study here"):
        register(StudyFolder(tmp_path), "model")


def test_a_study_that_was_moved_is_not_registered_in_its_old_place(tmp_path: Path, search: StudyFolder) -> None:
    Mirror(LOCAL, search).sync()
    moved = StudyFolder(shutil.copytree(search.path, tmp_path / "elsewhere" / "tuned"))
    with pytest.raises(ConfigError, match="was moved since MLflow saw it"):
        register(moved, "model")
