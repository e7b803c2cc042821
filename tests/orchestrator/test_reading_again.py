"""A study is read again and again while it runs: what has not changed is not read twice, and nothing is missed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from orchestrator import results, summary
from orchestrator.folder import StudyFolder, append_line, write_json
from orchestrator.results import Records, load_trials
from orchestrator.summary import Summary, summarize
from tests.orchestrator.ablation_folder import write_ablation
from tests.orchestrator.study_folder import write_study


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """A search with one trial that still runs; all folders are old."""
    folder = StudyFolder(write_study(tmp_path / "study", panels=0))
    for trial in folder.trials():
        os.utime(trial.path, (1e9, 1e9))
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The fingerprints of the records that are read."""
    reads: list[str] = []
    load = results.load_trial

    def counted(trial):
        reads.append(trial.fingerprint)
        return load(trial)

    monkeypatch.setattr(results, "load_trial", counted)
    return reads


def test_only_runs_without_an_end_are_read_again(folder: StudyFolder, reads: list[str]) -> None:
    records = Records(folder)
    first = records.load()
    running = [record.fingerprint for record in first if record.state == "running"]
    reads.clear()
    assert records.load() == first
    assert reads == running


def test_a_record_that_is_written_anew_is_read_anew(folder: StudyFolder, reads: list[str]) -> None:
    records = Records(folder)
    done = next(record for record in records.load() if record.state == "complete")
    reads.clear()
    write_json(folder.trial(done.fingerprint).mlflow, {"run_id": "abc"})
    assert {record.fingerprint: record.mlflow_run_id for record in records.load()}[done.fingerprint] == "abc"
    assert done.fingerprint in reads


def test_a_folder_that_has_just_changed_is_not_trusted_yet(folder: StudyFolder, reads: list[str]) -> None:
    """Two changes in one tick of the clock leave the same time."""
    records = Records(folder)
    done = next(record for record in records.load() if record.state == "complete")
    trial = folder.trial(done.fingerprint)
    write_json(trial.mlflow, {"run_id": "first"})
    records.load()
    before = os.stat(trial.path)
    write_json(trial.mlflow, {"run_id": "second"})
    os.utime(trial.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert {record.fingerprint: record.mlflow_run_id for record in records.load()}[done.fingerprint] == "second"


def test_a_folder_without_a_trial_is_no_record_and_one_that_is_removed_is_none_any_more(folder: StudyFolder) -> None:
    records = Records(folder)
    number = len(records.load())
    (folder.path / "trials" / "empty").mkdir()
    assert len(records.load()) == number
    done = folder.trials()[0]
    for path in sorted(done.path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    done.path.rmdir()
    assert [record.fingerprint for record in records.load()] == [each.fingerprint for each in load_trials(folder)]
    assert len(records.load()) == number - 1


def test_a_summary_that_is_written_again_is_as_one_that_is_written_once(folder: StudyFolder) -> None:
    again = Summary(folder)
    again.write()
    running = next(record for record in load_trials(folder) if record.state == "running")
    append_line(folder.trial(running.fingerprint).metrics, {"step": 1200, "time": "now", "val/miou": 0.2})
    again.write()
    assert json.loads(folder.summary.read_text()) == summarize(folder)
    assert [row["step"] for row in summarize(folder)["trials"] if row["state"] == "running"] == [1200]


def test_a_request_that_has_changed_changes_the_summary(folder: StudyFolder) -> None:
    again = Summary(folder)
    again.write()
    request = folder.request()
    folder.claim({**request, "planned": 99}, request["identity"])
    assert json.loads(again.text())["counts"]["planned"] == 99


def test_cells_are_compared_again_only_when_a_run_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = StudyFolder(write_ablation(tmp_path / "study", panels=0))
    for trial in folder.trials():
        os.utime(trial.path, (1e9, 1e9))
    calls: list[int] = []
    compare = summary.compare
    monkeypatch.setattr(summary, "compare", lambda *given: calls.append(1) or compare(*given))
    again = Summary(folder)
    first = json.loads(again.text())["cells"]
    again.text()
    assert len(calls) == 1
    trial = folder.trial(yaml.safe_load(folder.study_yaml.read_text())["runs"]["guidedmix"][0])
    result = json.loads(trial.result.read_text())
    write_json(trial.result, {**result, "objective": 0.9})
    assert json.loads(again.text())["cells"] != first
    assert len(calls) == 2
