"""The study folder: whole records, an append-only journal, one owner and one driver."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from guidedmix_core import ConfigError
from orchestrator.folder import StudyFolder, append_line, read_json, read_lines, write_atomic, write_json

REQUEST = {"study": "demo", "kind": "tune", "planned": 3, "objectives": [{"metric": "val/miou", "mode": "max"}]}

HOLD_THE_LOCK = """
import sys, time, filelock
with filelock.FileLock(sys.argv[1] + "/.lock"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_making_a_folder_object_touches_nothing(tmp_path: Path) -> None:
    StudyFolder(tmp_path / "study").trial("abc")
    assert list(tmp_path.iterdir()) == []


def test_events_come_back_in_order_with_their_time(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path)
    for number in range(3):
        study.append({"event": "asked", "number": number})
    assert [event["number"] for event in study.events()] == [0, 1, 2]
    assert all(event["time"].endswith("+00:00") for event in study.events())


def test_a_torn_last_line_is_left_out_and_said_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    append_line(tmp_path / "journal.jsonl", {"event": "asked"})
    with open(tmp_path / "journal.jsonl", "ab") as file:
        file.write(b'{"event": "trial_st')
    with caplog.at_level(logging.WARNING):
        events = read_lines(tmp_path / "journal.jsonl")
    assert events == [{"event": "asked"}]
    assert "the last line is torn" in caplog.text


def test_a_line_after_a_torn_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"event": "asked"}\n{"event": "trial_st')
    append_line(path, {"event": "trial_ended"})
    assert [event["event"] for event in read_lines(path)] == ["asked", "trial_ended"]


def test_a_file_that_is_one_torn_line_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"event"')
    append_line(path, {"event": "asked"})
    assert read_lines(path) == [{"event": "asked"}]


def test_damage_before_the_last_line_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"event": "asked"}\n{"event"\n{"event": "trial_ended"}\n')
    with pytest.raises(ConfigError, match=r"journal\.jsonl:2: damaged"):
        read_lines(path)


def test_a_number_that_is_not_finite_is_null_on_disk(tmp_path: Path) -> None:
    write_json(
        tmp_path / "result.json", {"metrics": {"val/miou": math.nan, "time/seconds": 1.0}, "both": (math.inf, 1)}
    )
    assert json.loads((tmp_path / "result.json").read_text()) == {
        "metrics": {"val/miou": None, "time/seconds": 1.0},
        "both": [None, 1],
    }


def test_a_write_that_fails_leaves_the_old_content_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.json"
    write_atomic(path, "old")

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_record_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"state": ')
    with pytest.raises(ConfigError, match=r"result\.json: damaged"):
        read_json(tmp_path / "result.json")


def test_a_folder_of_another_request_is_refused_with_both_and_the_cure(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path / "demo")
    study.claim(REQUEST, "1111")
    with pytest.raises(ConfigError, match=r"study\.yaml: .*1111.*2222.*--study DIR.*another name"):
        study.claim(REQUEST, "2222")


def test_a_request_may_change_what_its_identity_leaves_out(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path / "demo")
    study.claim(REQUEST, "1111")
    study.claim({**REQUEST, "planned": 9}, "1111")
    assert study.request()["planned"] == 9


def test_a_folder_without_a_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no study here: study\.yaml is missing"):
        StudyFolder(tmp_path).request()


def test_two_processes_never_run_a_study_at_once_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD_THE_LOCK, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(ConfigError, match="is being run by another process"), StudyFolder(tmp_path).running():
        pass
    other.send_signal(signal.SIGKILL)
    other.communicate()
    with StudyFolder(tmp_path).running():
        pass


def test_only_trials_that_were_handed_out_are_listed(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path)
    for name in ("b", "a", "c"):
        write_json(study.trial(name).config, {})
    for name in ("b", "a"):
        write_json(study.trial(name).trial, {})
    assert [trial.fingerprint for trial in study.trials()] == ["a", "b"]


def test_a_place_where_no_folder_can_be_is_a_wrong_request(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    for place in (tmp_path / "a file", tmp_path / "a file" / "study"):
        with pytest.raises(ConfigError, match="nothing can be written there"), StudyFolder(place).running():
            pass


def test_a_disk_that_can_only_be_read_is_a_wrong_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*what: object, **how: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    said = r"study: nothing can be written there \(Read-only file system\)"
    with pytest.raises(ConfigError, match=said), StudyFolder(tmp_path / "study").running():
        pass
