"""`guidedmix status`: what it says of a study, from the folder alone."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from orchestrator.clusters.local import Local
from orchestrator.folder import StudyFolder, append_line, read_json, write_json
from orchestrator.results import load_trials
from orchestrator.status import Status, status_of
from orchestrator.status_table import status_view
from tests.orchestrator.ablation_folder import write_ablation
from tests.orchestrator.study_folder import write_study

AT = datetime.fromisoformat("2026-03-05T00:00:00+00:00")
RUNNING = 11
"""The trial that `write_study` leaves without an end, at step 1000 of 2000."""


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """Eight hours of a search of 20 trials: 11 have ended, 2 references, 1 is out."""
    found = StudyFolder(write_study(tmp_path / "mine", panels=0))
    request(found, planned=22, run={"train": {"steps": 2000}})
    found.journal.write_text("")
    event(found, "study_started", minutes=-60)
    event(found, "trial_started", minutes=-10, fingerprint=out_of(found))
    return found


def out_of(folder: StudyFolder) -> str:
    return next(record.fingerprint for record in load_trials(folder) if record.number == RUNNING)


def request(folder: StudyFolder, **changes: Any) -> None:
    folder.study_yaml.write_text(yaml.safe_dump({**folder.request(), **changes}))


def event(folder: StudyFolder, name: str, minutes: float = 0, **facts: Any) -> None:
    append_line(folder.journal, {"time": (AT + timedelta(minutes=minutes)).isoformat(), "event": name, **facts})


def report(folder: StudyFolder, step: int, seconds: float, miou: float = 0.5, ago: float = 0.0) -> None:
    row = {"step": step, "time": (AT - timedelta(seconds=ago)).isoformat(), "val/miou": miou, "time/seconds": seconds}
    append_line(folder.trial(out_of(folder)).metrics, row)


def status(folder: StudyFolder, cluster: Local | None = None, *, is_running: bool = True) -> Status:
    return status_of(folder, load_trials(folder), cluster, AT, 5_000_000, is_running=is_running)


def text(found: Status) -> str:
    console = Console(width=110, file=io.StringIO())
    with console.capture() as capture:
        console.print(status_view(found))
    return capture.get()


def test_each_run_of_the_plan_is_counted_once(folder: StudyFolder) -> None:
    found = status(folder)
    counts = (found.complete, found.stopped, found.failed, found.running, found.waiting)
    assert counts == (9, 3, 1, 1, 8)
    assert sum(counts) == found.planned == 22


def test_a_run_that_is_out_shows_its_last_report(folder: StudyFolder) -> None:
    report(folder, 1200, 100.0)
    report(folder, 1400, 150.0, miou=0.625, ago=30)
    (run,) = status(folder).out
    assert (run.title, run.step, run.steps, run.objective) == ("trial 11", 1400, 2000, 0.625)
    assert (run.steps_per_second, run.reported) == (4.0, 30.0)


def test_what_was_asked_to_leave_is_not_out(folder: StudyFolder) -> None:
    event(folder, "trial_left", fingerprint=out_of(folder))
    found = status(folder)
    assert (found.out, found.running, found.waiting) == ((), 0, 9)


def test_what_a_killed_driver_left_is_not_out_at_the_next_start(folder: StudyFolder) -> None:
    event(folder, "study_started")
    assert status(folder).out == ()


def test_a_study_that_nobody_holds_is_interrupted_and_has_no_time_left(folder: StudyFolder) -> None:
    found = status(folder, is_running=False)
    assert (found.state, found.out, found.seconds_left) == ("interrupted", (), None)
    assert "nobody works on it" in text(found)


def test_a_study_whose_journal_ends_with_its_end_is_complete(folder: StudyFolder) -> None:
    event(folder, "study_ended")
    found = status(folder, is_running=True)  # its report is being written
    assert (found.state, found.steps_left) == ("complete", 0)


def test_the_time_left_is_the_steps_left_at_the_speed_of_now(folder: StudyFolder) -> None:
    report(folder, 1200, 100.0)
    report(folder, 1400, 150.0)
    found = status(folder)
    assert found.steps_to_come == round((9 * 2000 + 3 * 600) / 12)
    assert found.steps_left == 600 + 8 * found.steps_to_come
    assert found.seconds_left == found.steps_left / 4.0
    assert "those to come take 1,650 steps each" in " ".join(text(found).split())


def test_a_run_without_a_report_is_as_fast_as_the_others_were(folder: StudyFolder) -> None:
    folder.trial(out_of(folder)).metrics.unlink()
    found, records = status(folder), load_trials(folder)
    usual = sum(record.step for record in records) / sum(record.seconds for record in records)
    assert found.steps_per_second == pytest.approx(usual)
    assert (found.out[0].steps_per_second, found.out[0].reported) == (None, None)


def test_a_stage_that_a_run_trained_counts_in_what_is_spent_and_in_what_the_next_ones_take(folder: StudyFolder) -> None:
    before, record = status(folder), next(run for run in load_trials(folder) if run.state == "complete")
    end = read_json(result := folder.trial(record.fingerprint).result)
    stages = [{"state": "trained", "steps": 1200, "seconds": 7200.0}, {"state": "reused", "steps": 9, "seconds": 9.0}]
    write_json(result, {**end, "stages": stages})
    found = status(folder)
    assert found.steps_to_come == before.steps_to_come + 1200 / 12
    assert found.hours_spent == pytest.approx(before.hours_spent + 2)


def test_an_attempt_that_began_anew_has_cost_its_time_and_one_that_went_on_no_more(folder: StudyFolder) -> None:
    before, attempts = status(folder).hours_spent, folder.trial(out_of(folder)).attempts
    failed, killed, went_on = (attempts / name for name in "123")
    for place in (failed, killed, went_on):
        place.mkdir(parents=True)
    write_json(failed / "result.json", {"seconds": 1800.0})
    stages = [{"state": "trained", "seconds": 3600.0}, {"state": "reused", "seconds": 50.0}]
    write_json(failed / "environment.json", {"stages": stages})
    write_json(killed / "environment.json", {})
    append_line(killed / "metrics.jsonl", {"step": 9, "time/seconds": 900.0})
    write_json(went_on / "result.json", {"seconds": 5000.0})
    assert status(folder).hours_spent == pytest.approx(before + (1800 + 3600 + 900) / 3600)


def test_hours_are_core_hours_without_gpus_and_have_no_price(folder: StudyFolder) -> None:
    request(folder, scaling={"cpus_per_worker": 2})
    found = status(folder, Local(price_per_gpu_hour=3.0))
    spent = sum(record.seconds for record in load_trials(folder)) * 2 / 3600
    assert (found.unit, found.price_spent) == ("core", None)
    assert found.hours_spent == pytest.approx(spent)


def test_gpu_hours_are_those_of_all_workers_and_have_the_cluster_s_price(folder: StudyFolder) -> None:
    request(folder, scaling={"workers": 2, "gpus_per_worker": 1})
    found = status(folder, Local(price_per_gpu_hour=3.0, currency="EUR"))
    spent = sum(record.seconds for record in load_trials(folder)) * 2 / 3600
    assert found.hours_left is not None
    assert found.price_spent == pytest.approx(3 * spent)
    assert found.price_left == pytest.approx(3 * found.hours_left)
    assert f"{found.hours_spent:.3g} GPU-hours, {found.price_spent:.2f} EUR" in text(found)


def test_without_a_cluster_the_price_is_that_of_where_the_study_was_begun(folder: StudyFolder) -> None:
    request(folder, scaling={"gpus_per_worker": 1})
    write_json(folder.provenance, {"host": "here", "price": {"per_gpu_hour": 2.0, "currency": "EUR"}})
    found = status(folder)
    assert (found.price_spent, found.currency) == (pytest.approx(2 * found.hours_spent), "EUR")


def test_a_run_that_another_study_made_has_cost_nothing(folder: StudyFolder) -> None:
    before, record = status(folder).hours_spent, load_trials(folder)[2]
    trial = folder.trial(record.fingerprint)
    write_json(trial.trial, {**json.loads(trial.trial.read_text()), "reused_from": "another"})
    assert status(folder).hours_spent == pytest.approx(before - record.seconds / 3600)


def test_failures_are_told_by_reason_with_the_cure(tmp_path: Path) -> None:
    found = status(StudyFolder(write_ablation(tmp_path / "abl", panels=0)))
    (failed,) = found.failures
    assert (failed.reason, failed.runs) == ("diverged", ("unstable · seed 1", "unstable · seed 3"))
    assert "optim.lr" in failed.cure
    assert "2 diverged" in text(found)


def test_a_message_can_t_style_the_terminal(folder: StudyFolder) -> None:
    trial = next(folder.trial(record.fingerprint) for record in load_trials(folder) if record.failure)
    end = json.loads(trial.result.read_text())
    write_json(trial.result, {**end, "failure": {**end["failure"], "message": "[red]boom[/red]"}})
    assert "[red]boom[/red]" in text(status(folder))


HOLD = """
import sys
from orchestrator.folder import StudyFolder
with StudyFolder(sys.argv[1]).running():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_running_while_another_process_holds_it(folder: StudyFolder) -> None:
    assert not folder.is_running()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder.path)], text=True, **pipes) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert folder.is_running()
        holder.kill()
    assert not folder.is_running()


def test_looking_whether_somebody_runs_it_writes_nothing(folder: StudyFolder) -> None:
    before = sorted(folder.path.rglob("*"))
    folder.is_running()
    assert sorted(folder.path.rglob("*")) == before


def test_the_verb_prints_json_that_a_program_reads(
    folder: StudyFolder, call: Callable[[str], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(f"guidedmix status {folder.path} --json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["state"], found["planned"], found["disk_bytes"] > 10_000) == ("interrupted", 22, True)


def test_the_verb_shows_the_study(
    folder: StudyFolder, call: Callable[[str], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(f"guidedmix status {folder.path}") == 0
    shown = capsys.readouterr().out
    assert "mine  interrupted" in shown
    assert "13 of 22 ended" in shown


def test_watching_needs_a_terminal(
    folder: StudyFolder, call: Callable[[str], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(f"guidedmix status {folder.path} --watch") == 2
    assert "needs a terminal" in capsys.readouterr().err


def test_a_folder_without_a_study_is_a_wrong_request(
    tmp_path: Path, call: Callable[[str], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(f"guidedmix status {tmp_path}") == 2
    assert "no study here" in capsys.readouterr().err
