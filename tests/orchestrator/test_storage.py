"""Studies in an object store: a real S3 server, the real client."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from guidedmix_core import ConfigError, Tree, build, fingerprint
from orchestrator import lease, object_store, stage_tree, storage
from orchestrator.clusters import Machine, read_cluster
from orchestrator.commands import study_folder
from orchestrator.costs import PROBES, probed_rates
from orchestrator.executors.inline import run
from orchestrator.folder import StudyFolder, append_line, read_json, read_lines, write_json
from orchestrator.listeners import Listener
from orchestrator.object_store import PART, Copy
from orchestrator.plan import needed_by, plan_study
from orchestrator.results import TrialRecord, load_trials
from orchestrator.stage_tree import StageStore, needs_of
from orchestrator.status import UNREAD, Watch
from orchestrator.storage import ask_for, is_there, move, open_copy, publish, refresh, remove
from orchestrator.study import SearchStudy
from tests.orchestrator.study_folder import write_study
from tests.runs import small_tree
from tests.s3 import another_process, bucket, objects, start_server, stop_server

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of botocore


def test_what_is_written_is_in_the_store_when_the_call_returns(studies: str) -> None:
    folder = StudyFolder(f"{studies}/mine")
    write_json(folder.path / "a.json", {"x": 1})
    append_line(folder.path / "b.jsonl", {"y": 2})
    assert objects(studies) == {"mine/a.json": b'{\n  "x": 1\n}\n', "mine/b.jsonl": b'{"y": 2}\n'}


def test_another_process_reads_what_was_published_and_its_changes_come_back(studies: str) -> None:
    here = StudyFolder(f"{studies}/mine")
    write_json(here.path / "a.json", 1)
    known = dict(storage._copies)
    another_process()
    there = StudyFolder(f"{studies}/mine")
    assert there.path != here.path
    refresh(there.path)
    write_json(there.path / "b.json", 2)
    write_json(there.path / "a.json", 3)
    (there.path / "sub").mkdir()
    ask_for(there.path / "sub" / "stop")
    storage._copies.clear()
    storage._copies.update(known)
    refresh(here.path)
    assert read_json(here.path / "b.json") == 2
    assert is_there(here.path / "sub" / "stop")
    assert read_json(here.path / "a.json") == 1, "a file has one writer: what this process published stays here"


def test_what_is_removed_is_gone_everywhere(studies: str) -> None:
    folder = StudyFolder(f"{studies}/mine")
    ask_for(folder.path.parent / "stop")
    write_json(folder.trial("f").checkpoint / "last.pt", 1)
    bucket().pipe_file(f"{studies}/mine/trials/f/checkpoint/best.pt", b"never fetched")
    assert is_there(folder.path.parent / "stop")
    remove(folder.path.parent / "stop")
    remove(folder.path / "trials")
    assert (objects(studies), [*folder.path.iterdir()]) == ({}, [])


def test_what_is_moved_lies_in_its_new_place_alone(studies: str) -> None:
    folder = StudyFolder(f"{studies}/mine")
    write_json(folder.path / "a" / "b.json", 1)
    move(folder.path / "a", folder.path / "aside" / "a")
    assert list(objects(studies)) == ["mine/aside/a/b.json"]
    assert [*folder.path.iterdir()] == [folder.path / "aside"]


def test_what_a_machine_cleans_up_here_stays_in_the_store(studies: str) -> None:
    folder = StudyFolder(f"{studies}/mine")
    write_json(folder.path / "a.json", 1)
    write_json(folder.trial("f").result, 2)
    shutil.rmtree(folder.path / "trials")
    publish(folder.path)
    assert list(objects(studies)) == ["mine/a.json", "mine/trials/f/result.json"]


def test_a_copy_is_locked_so_that_what_is_old_in_it_is_not_cleaned_up(
    studies: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.tempfile, "tempdir", str(tmp_path))
    above = StudyFolder(f"{studies}/mine").path.parent
    handle = os.open(above, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(handle)


def test_what_another_process_took_away_goes_here_too(studies: str) -> None:
    folder = StudyFolder(f"{studies}/mine")
    bucket().pipe_file(f"{studies}/mine/a.json", b"1")
    refresh(folder.path)
    assert read_json(folder.path / "a.json") == 1
    bucket().rm_file(f"{studies}/mine/a.json")
    refresh(folder.path)
    assert not (folder.path / "a.json").exists()


def test_heavy_folders_come_only_when_they_are_asked_for(studies: str) -> None:
    bucket().pipe_file(f"{studies}/mine/trials/f/checkpoint/last.pt", b"1")
    folder = StudyFolder(f"{studies}/mine")
    refresh(folder.path)
    assert not folder.path.exists()
    publish(folder.path)
    assert list(objects(studies)) == ["mine/trials/f/checkpoint/last.pt"], "what is left out here is not deleted there"
    refresh(folder.path, without=())
    assert folder.trial("f").checkpoint.joinpath("last.pt").read_bytes() == b"1"


def test_what_a_process_has_done_with_lies_in_the_store_alone(studies: str) -> None:
    folder = StudyFolder(f"{studies}/mine")
    checkpoint = folder.trial("f").checkpoint
    write_json(checkpoint / "last.pt", 1)
    (checkpoint / "best.pt").write_text("2")
    storage.drop(checkpoint)
    assert list(checkpoint.iterdir()) == []
    publish(folder.path)
    assert list(objects(studies)) == ["mine/trials/f/checkpoint/best.pt", "mine/trials/f/checkpoint/last.pt"]


def test_what_killed_processes_left_on_the_disk_goes_and_what_living_ones_have_stays(
    studies: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.tempfile, "tempdir", str(tmp_path))
    mine = StudyFolder(f"{studies}/mine").path.parent
    dead = tmp_path / f"{storage.PREFIX}dead"
    dead.mkdir()
    (dead / "last.pt").touch()
    another_process()
    again = StudyFolder(f"{studies}/mine").path.parent
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([mine.name, again.name])


def test_what_vanishes_while_a_folder_is_weighed_counts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.json").write_text("123")
    found = [(str(tmp_path), [], [".a.json.x.part", "a.json"])]  # the first is gone since
    monkeypatch.setattr(storage.os, "walk", lambda folder: found)
    assert storage.size_of(tmp_path) == 3


def test_a_checkpoint_is_fetched_by_its_uri(studies: str) -> None:
    bucket().pipe_file(f"{studies}/mine/trials/f/checkpoint/best.pt", b"1")
    assert storage.fetched(f"{studies}/mine/trials/f/checkpoint/best.pt").read_bytes() == b"1"
    with pytest.raises(ConfigError, match=r"s3://.*/last.pt: no such file"):
        storage.fetched(f"{studies}/mine/trials/f/checkpoint/last.pt")
    assert storage.fetched("a/best.pt") == Path("a/best.pt")


def test_a_journal_grows_by_parts_and_only_the_last_one_is_put_again(
    studies: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "PART", 64)
    folder = StudyFolder(f"{studies}/mine")
    folder.path.mkdir()
    for i in range(20):
        folder.append({"event": "asked", "number": i})
    found = objects(studies)
    assert len(found) > 10
    assert all(len(part) == 64 for part in list(found.values())[:-1])
    for part in bucket().find(studies)[:-1]:
        bucket().pipe_file(part, b"")  # who puts it again would mend it
    folder.append({"event": "asked", "number": 20})
    assert [name for name, part in objects(studies).items() if not part] == list(found)[:-1]
    for name, part in list(found.items())[:-1]:
        bucket().pipe_file(f"{studies}/{name}", part)
    another_process()
    folder = StudyFolder(f"{studies}/mine")
    refresh(folder.path)
    folder.append({"event": "asked", "number": 21})
    assert [event["number"] for event in folder.events()] == list(range(22))
    assert b"".join(objects(studies).values()) == folder.journal.read_bytes()


def test_a_line_of_which_only_the_first_part_was_put_is_left_out(studies: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "PART", 64)
    whole = b'{"number": 0}\n' * 6
    for i, part in enumerate((whole[:64], whole[64:80])):  # the last line is torn
        bucket().pipe_file(f"{studies}/mine/journal.jsonl/{i:06}", part)
    folder = StudyFolder(f"{studies}/mine")
    refresh(folder.path)
    append_line(folder.journal, {"number": 1})
    assert [line["number"] for line in read_lines(folder.journal)] == [0, 0, 0, 0, 0, 1]
    assert b"".join(objects(studies).values()) == folder.journal.read_bytes()
    assert PART == 2**16


def test_a_store_that_answers_errors_for_a_while_is_asked_again(
    studies: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = StudyFolder(f"{studies}/mine")
    copy = storage.copy_of(folder.path)
    assert copy is not None
    errors = iter([OSError("503 Slow Down"), ConnectionError("reset")])
    put = copy.files.put_file

    def unsure(*what: Any) -> None:
        for error in errors:
            raise error
        put(*what)

    monkeypatch.setattr(copy.files, "put_file", unsure)
    monkeypatch.setattr(object_store.time, "sleep", lambda seconds: None)
    write_json(folder.path / "a.json", 1)
    assert objects(studies) == {"mine/a.json": b"1\n"}
    assert "503 Slow Down; trying again in 0.5 s" in caplog.text


def test_a_store_that_stays_away_ends_the_wait_with_its_last_word(
    studies: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = StudyFolder(f"{studies}/mine")
    copy = storage.copy_of(folder.path)
    assert copy is not None
    monkeypatch.setattr(object_store, "PATIENCE", 0.0)
    monkeypatch.setattr(copy, "_put", lambda *what: copy.ask(fail))
    with pytest.raises(OSError, match="no answer for 0 s: 503"):
        write_json(folder.path / "a.json", 1)


def fail() -> None:
    raise ConnectionError("503")


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("s3://no-such-bucket/studies/mine", "there is no bucket 'no-such-bucket'"),
        ("s3://mine", "expected a study's folder in a bucket"),
        ("s3://", "expected a study's folder in a bucket"),
        ("s3:///mine", "expected a study's folder in a bucket"),
        ("s3://bucket/../x/mine", "expected a study's folder in a bucket"),
        ("nope://bucket/studies/mine", "expected a folder, or s3://"),
        ("s3:/bucket/studies/mine", "a URI has two slashes"),
        ("gs:bucket/studies/mine", "a URI has two slashes"),
    ],
)
def test_a_uri_that_can_not_be_one_says_why(server: str, uri: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        StudyFolder(uri)


def test_a_file_uri_is_the_folder_itself(tmp_path: Path) -> None:
    assert open_copy(f"file://{tmp_path}/mine") == tmp_path / "mine"
    assert storage.copy_of(tmp_path / "mine") is None


def test_one_process_at_a_time_runs_a_study(studies: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.1)
    monkeypatch.setattr(lease, "WATCH", 2.0)
    folder = StudyFolder(f"{studies}/mine")
    with folder.running():
        with pytest.raises(ConfigError, match=r"s3://.*mine: is being run by process \d+ on"), folder.running():
            pass
        folder.append({"event": "study_started"})
    assert list(objects(studies)) == ["mine/journal.jsonl/000000"], "the lease is given back"


def test_a_study_whose_holder_died_is_taken_over_and_the_dead_one_may_not_write(
    studies: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "WATCH", 1.0)
    monkeypatch.setattr(lease, "SETTLED", 0.1)
    monkeypatch.setattr(lease, "BEAT", 4.0)
    dead = StudyFolder(f"{studies}/mine")
    holder = dead.running()
    holder.__enter__()  # its beats are 4 s apart: for a watch of 1 s it is dead
    monkeypatch.setattr(lease, "BEAT", 0.1)
    with StudyFolder(f"{studies}/mine").running():
        assert dead._lease is not None
        while dead._lease._lost is None:
            time.sleep(0.1)
        with pytest.raises(ConfigError, match="was taken over by process"):
            dead.append({"event": "asked"})
    holder.__exit__(None, None, None)


def test_who_took_over_during_an_outage_is_not_written_over(studies: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.1)
    folder = StudyFolder(f"{studies}/mine")
    copy = open_copy_of(folder)
    other = b'{"token": "another", "pid": 7, "host": "elsewhere"}'
    put, broken = copy.files.pipe_file, threading.Event()

    def break_once(name: str, content: bytes, **options: Any) -> None:
        if not broken.is_set() and b'"beats": 2' in content:
            broken.set()
            put(name, other)
            raise ConnectionError("away")
        put(name, content, **options)

    monkeypatch.setattr(copy.files, "pipe_file", break_once)
    with folder.running():
        assert broken.wait(30)
        assert folder._lease is not None
        folder._lease._thread.join(30)
        with pytest.raises(ConfigError, match="was taken over by process 7 on elsewhere"):
            folder.append({"event": "asked"})
    assert copy.files.cat_file(copy.object("mine/.lease")) == other


def test_who_can_not_keep_the_lease_writes_nothing_more(studies: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.1)
    folder = StudyFolder(f"{studies}/mine")
    copy = open_copy_of(folder)
    with folder.running():
        assert folder._lease is not None
        with monkeypatch.context() as context:
            context.setattr(copy.files, "cat_file", fail_for_good)
            folder._lease._thread.join(30)
        with pytest.raises(ConfigError, match="its lease can't be kept: the key has expired; this process stops"):
            folder.append({"event": "asked"})


def fail_for_good(*_: Any) -> None:
    raise PermissionError("the key has expired")


def test_what_one_thread_is_putting_is_no_news_for_another(studies: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = StudyFolder(f"{studies}/mine")
    write_json(folder.path / "a.json", 1)
    copy = open_copy_of(folder)
    put, is_put, may_return = copy.files.put_file, threading.Event(), threading.Event()

    def put_slowly(*names: str) -> None:
        put(*names)
        is_put.set()
        may_return.wait(30)

    monkeypatch.setattr(copy.files, "put_file", put_slowly)
    fetched: list[str] = []
    monkeypatch.setattr(copy, "_get", fetched.extend)
    writer = threading.Thread(target=write_json, args=(folder.path / "mlflow.json", 2))
    writer.start()
    assert is_put.wait(30)
    reader = threading.Thread(target=refresh, args=(folder.path,))
    reader.start()
    reader.join(1)
    may_return.set()
    writer.join()
    reader.join()
    assert fetched == []


def open_copy_of(folder: StudyFolder) -> Copy:
    copy = storage.copy_of(folder.path)
    assert copy is not None
    return copy


def test_who_looks_sees_whether_somebody_runs_it(studies: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.1)
    monkeypatch.setattr(lease, "WATCH", 2.0)
    folder = StudyFolder(f"{studies}/mine")
    assert not folder.is_running()
    with folder.running():
        assert StudyFolder(f"{studies}/mine").is_running()
    copy = open_copy_of(folder)
    copy.files.pipe_file(copy.object("mine/.lease"), b'{"token": "of a process that died"}')
    assert not folder.is_running()


def test_how_a_study_stands_is_read_from_the_store_without_what_is_heavy(studies: str) -> None:
    folder = StudyFolder(f"{studies}/mine")
    write_study(folder.path, trials=2)
    (folder.trials()[0].checkpoint).mkdir()
    (folder.trials()[0].checkpoint / "last.pt").write_bytes(b"0" * 1_000_000)
    publish(folder.path)
    another_process()
    there = study_folder(f"{studies}/mine", UNREAD)
    found = Watch(there).look()
    assert (found.state, found.complete, found.disk_bytes > 1_000_000) == ("complete", 4, True)
    assert sum(file.stat().st_size for file in there.path.rglob("*") if file.is_file()) < 500_000


SEARCH: dict[str, Any] = {
    "base": "small",
    "parameters": {"train.steps": {"choice": [4, 6]}},  # the stage before them is the same
    "search": {"sampler": "grid", "trials": 2},
    "scheduler": {"name": "none"},
}


def test_a_study_in_a_store_is_gone_on_with_from_another_machine(studies: str) -> None:
    search, base = build(Tree(SEARCH, {}), SearchStudy), small_tree({"stages": [{"method": "supervised", "steps": 2}]})
    first = StudyFolder(f"{studies}/mine")
    request = build(Tree({**SEARCH, "search": {"sampler": "grid", "trials": 1}}, {}), SearchStudy)
    run(request, base, first)
    another_process()
    second = StudyFolder(f"{studies}/mine")
    run(search, base, second)
    assert [record.state for record in load_trials(second)] == ["complete", "complete"]
    events = [event["event"] for event in second.events()]
    assert events.count("trial_started") == 2
    results = [text for name, text in objects(f"{studies}/mine").items() if name.endswith("result.json")]
    assert [json.loads(text)["state"] for text in results] == ["complete", "complete"]
    states = [read_json(trial.result)["stages"][0]["state"] for trial in second.trials()]
    assert sorted(states) == ["reused", "trained"]
    assert [name for name in objects(f"{studies}/stages") if "checkpoint" in name] == []


def test_a_stage_that_another_node_has_made_is_known_without_its_weights(
    studies: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, base = build(Tree(SEARCH, {}), SearchStudy), small_tree({"stages": [{"method": "supervised", "steps": 2}]})
    run(search, base, StudyFolder(f"{studies}/mine"))
    another_process()
    folder = StudyFolder(f"{studies}/mine")
    needed, here = needed_by(search.scaling, "cpu"), Machine.here()
    plan = plan_study(search, base, folder, needed, here, read_cluster("local"), None)
    assert [(group.count, group.made) for group in plan.stages] == [(1, 1)]
    assert {path.name for path in folder.stages.rglob("*") if path.is_file()} == {"stage.yaml"}

    looks: list[Path] = []
    monkeypatch.setattr(stage_tree, "names_in", lambda path: looks.append(path) or storage.names_in(path))
    (other,) = needs_of(build(small_tree({"stages": [{"method": "supervised", "steps": 3}]})))
    store = StageStore(folder.stages)
    assert [store.has(other), len(looks), store.has(other), len(looks)] == [False, 1, False, 1]
    monkeypatch.setattr(stage_tree, "LOOK_AFAR", 0.0)
    assert [store.has(other), len(looks)] == [False, 2]


def test_what_a_study_beside_has_finished_is_taken_over_from_the_store(studies: str) -> None:
    changes = {"references": {"usual": {}}, "parameters": {"train.steps": {"choice": [6, 8]}}}
    search, base = build(Tree({**SEARCH, **changes}, {}), SearchStudy), small_tree()
    run(search, base, StudyFolder(f"{studies}/first"))
    another_process()
    second = StudyFolder(f"{studies}/second")
    run(search, base, second)
    made_by = {record.role: record.reused_from for record in load_trials(second)}
    assert made_by == {"reference": "first", "trial": None}
    assert second.trial(fingerprint(build(base))).checkpoint.joinpath("best.pt").exists()


def test_what_is_left_and_what_was_measured_are_read_from_the_store(studies: str) -> None:
    search, base = build(Tree(SEARCH, {}), SearchStudy), small_tree()
    first = StudyFolder(f"{studies}/mine")
    run(search, base, first)
    row = {"step_seconds": 1.0, "evaluation_seconds": 1.0, "peak_bytes": 10, "device_bytes": 100}
    write_json(first.path.parent / PROBES, {"NVIDIA A": {"a kind of run": row}})
    another_process()
    second = StudyFolder(f"{studies}/mine")
    assert list(probed_rates(second, device=None)) == ["a kind of run"]
    needed, here = needed_by(search.scaling, "cpu"), Machine.here()
    plan = plan_study(search, base, second, needed, here, read_cluster("local"), None)
    assert (plan.states["complete"], plan.unmeasured) == (2, {})


class Outage(Listener):
    """The server goes away when a run reports, and comes back at the same address a while later."""

    def trial_reported(self, record: TrialRecord, metrics: Any) -> None:
        if metrics["step"] == 2:
            address = os.environ["AWS_ENDPOINT_URL"].rpartition(":")
            stop_server()
            self.back = threading.Timer(1.5, lambda: start_server(int(address[2])))
            self.back.start()


def test_a_store_that_goes_away_for_a_while_costs_nothing(studies: str, caplog: pytest.LogCaptureFixture) -> None:
    folder, outage = StudyFolder(f"{studies}/mine"), Outage()
    search = build(Tree({**SEARCH, "parameters": {"train.steps": {"choice": [4]}}}, {}), SearchStudy)
    run(search, small_tree(), folder, [outage])
    outage.back.join()
    assert "trying again" in caplog.text
    another_process()
    again = StudyFolder(f"{studies}/mine")
    refresh(again.path)
    assert [record.state for record in load_trials(again)] == ["complete"]
    assert [row["step"] for row in read_lines(again.trials()[0].metrics)] == [2, 4]
    assert again.events()[-1]["event"] == "study_ended"


DRIVER = """
import json, sys
from guidedmix_core import Tree, build
from orchestrator.executors.inline import run
from orchestrator.folder import StudyFolder
from orchestrator.study import SearchStudy
search, base, uri = json.loads(sys.argv[1])
run(build(Tree(search, {}), SearchStudy), Tree(base, {}), StudyFolder(uri))
"""


def test_the_next_driver_goes_on_on_another_machine_where_a_killed_one_was(
    studies: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that the killed one had is in the store: nothing of its machine is looked at."""
    monkeypatch.setattr(lease, "WATCH", 6.0)
    uri = f"{studies}/mine"
    search = {**SEARCH, "parameters": {"train.steps": {"choice": [60, 80]}}}
    base = small_tree({"evaluate.every": 20, "evaluate.telemetry_images": 0})
    asked = json.dumps([search, base.values, uri])
    with subprocess.Popen([sys.executable, "-c", DRIVER, asked], stderr=subprocess.DEVNULL) as driver:
        while not any(name.endswith("metrics.jsonl") for name in bucket().find(uri)):
            assert driver.poll() is None
            time.sleep(0.2)
        driver.kill()
    lost = objects(uri)
    assert ".lease" in lost
    folder = StudyFolder(uri)
    run(build(Tree(search, {}), SearchStudy), base, folder)
    assert [record.state for record in load_trials(folder)] == ["complete", "complete"]
    steps = [[row["step"] for row in read_lines(trial.metrics)] for trial in folder.trials()]
    assert sorted(steps) == [[20, 40, 60], [20, 40, 60, 80]]
    events = [(event["event"], event.get("number")) for event in folder.events()]
    assert [events.count(("trial_ended", number)) for number in (0, 1)] == [1, 1]
    restarts = [len(read_json(trial.environment)["restarts"]) for trial in folder.trials()]
    assert sorted(restarts) == [0, 1]
    assert ".lease" not in objects(uri)


def test_nothing_of_a_process_goes_to_the_store(studies: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    folder = StudyFolder(f"{studies}/mine")
    run(build(Tree(SEARCH, {}), SearchStudy), small_tree(), folder)
    names = objects(studies)
    assert [name for name in names if name.endswith((".part", ".lock", ".lease")) or "optuna" in name] == []
    assert {Path(name).name for name in names} >= {"study.yaml", "summary.json", "last.pt", "best.pt", "counts.npz"}
    assert isinstance(storage.copy_of(folder.path), Copy)
