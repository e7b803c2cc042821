"""Each inconsistency is found, mended and gone after that; nothing that a run has made is lost; the study goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guidedmix_core import ConfigError
from orchestrator.doctor import Finding, examine, mend
from orchestrator.executors.inline import run
from orchestrator.folder import StudyFolder, TrialFolder, read_json, read_lines, write_json
from orchestrator.results import load_trials
from tests.orchestrator.test_cells import study_of
from tests.orchestrator.test_folder import HOLD_THE_LOCK
from tests.orchestrator.test_inline import Diary, counting
from tests.orchestrator.test_processes import started
from tests.runs import small_tree

STAGE = [{"method": "supervised", "steps": 3, "optim": {"lr": 0.01}}]
PLAN: dict[str, Any] = {"cells": {"usual": {}, "slow": {"optim.lr": 1e-5}}, "ceiling": None, "blocks": {"seed": [0]}}
Damage = Callable[[StudyFolder], object]


def go(folder: StudyFolder, *listeners: Any) -> dict[str, float | None]:
    """The objective of each run, when the study has ended."""
    run(study_of(**PLAN), small_tree({"stages": STAGE}), folder, listeners, "cpu")
    return {record.fingerprint: record.objective for record in load_trials(folder)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """Two runs behind one stage, both complete. Not to be written to."""
    go(folder := StudyFolder(tmp_path_factory.mktemp("whole") / "demo"))
    return folder


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """One run complete, the other interrupted after its first report. Not to be written to."""
    folder = StudyFolder(tmp_path_factory.mktemp("cut") / "demo")
    with pytest.raises(KeyboardInterrupt):
        go(folder, Diary(dies_at=7))
    return folder


def copied(folder: StudyFolder, place: Path) -> StudyFolder:
    shutil.copytree(folder.path.parent, place / "studies")
    return StudyFolder(place / "studies" / "demo")


def first(folder: StudyFolder) -> TrialFolder:
    """The run that ended first."""
    (event, *_) = [event for event in folder.events() if event["event"] == "trial_ended"]
    return folder.trial(event["fingerprint"])


def second(folder: StudyFolder) -> TrialFolder:
    return next(trial for trial in folder.trials() if trial.fingerprint != first(folder).fingerprint)


def stage(folder: StudyFolder) -> Path:
    (path,) = folder.stages.iterdir()
    return path


def halve(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def spoil(path: Path, *lines: int) -> None:
    """Lines that can't be read, counted from 0; without any, the whole file."""
    found = path.read_text().splitlines()
    for number in lines:
        found[number] = found[number][:-9]
    path.write_text("\n".join(found) + "\n" if lines else "{")


def half_make(stage: Path) -> None:
    """As if its training had been interrupted, and its checkpoint been cut."""
    (stage / "checkpoint").mkdir()
    (stage / "weights.pt").rename(stage / "checkpoint" / "last.pt")
    halve(stage / "checkpoint" / "last.pt")


def without(path: Path, event: str) -> None:
    lines = path.read_text().splitlines()
    del lines[next(place for place, line in enumerate(lines) if json.loads(line)["event"] == event)]
    path.write_text("\n".join(lines) + "\n")


def again(path: Path, event: str) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], *(x for x in lines if json.loads(x)["event"] == event), lines[-1]]) + "\n")


def change(path: Path, **values: Any) -> None:
    write_json(path, {**read_json(path), **values})


def rewrite_lines(path: Path, edit: Callable[[list[str]], list[str]]) -> None:
    path.write_text("\n".join(edit(path.read_text().splitlines())) + "\n")


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def problems(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.level != "note"]


def everything_in(place: Path) -> set[bytes]:
    """The content of all that a run makes, wherever it lies."""
    kinds = ("metrics.jsonl*", "result.json*", "*.pt*", "counts.npz*")
    found = (path for kind in kinds for path in place.rglob(kind))
    return {path.read_bytes() for path in found if path.is_file() and path.suffix != ".part"}


OF_A_WHOLE_STUDY: dict[str, tuple[Damage, str]] = {
    "a torn event": (lambda f: append(f.journal, '{"event": "tri'), "last line is torn"),
    "an event in the middle": (lambda f: spoil(f.journal, 1, 4), "not readable as JSON: line 2, 5"),
    "no journal": (lambda f: f.journal.unlink(), "does not say that usual · seed 0 was asked for"),
    "an end without an event": (lambda f: without(f.journal, "trial_ended"), "does not say how usual · seed 0 ended"),
    "an end said twice": (lambda f: again(f.journal, "trial_ended"), "says twice that trial 0, trial 1 ended"),
    "a run that was not asked for": (lambda f: without(f.journal, "asked"), "was asked for"),
    "a result that is gone": (lambda f: first(f).result.unlink(), "there is no result of it"),
    "half a result": (lambda f: halve(first(f).result), "not readable as JSON"),
    "a result that lacks keys": (lambda f: write_json(first(f).result, {"state": "complete"}), "lacks best, ended"),
    "a result without metrics": (lambda f: change(first(f).result, metrics={}), "lacks the objective, val/miou"),
    "a result of other metrics": (
        lambda f: change(first(f).result, metrics={**read_json(first(f).result)["metrics"], "val/miou": 0.9}),
        "has val/miou = 0.9, and the last evaluation",
    ),
    "another objective in the journal": (
        lambda f: f.journal.write_text(f.journal.read_text().replace('"objective": 0.', '"objective": 1.', 1)),
        "has another end of usual · seed 0",
    ),
    "half a name": (lambda f: halve(first(f).trial), "trial.json"),
    "no name": (lambda f: first(f).trial.unlink(), "is missing"),
    "a copied run": (lambda f: shutil.copytree(first(f).path, f.path / "trials" / "copy"), "was copied or renamed"),
    "a renamed run": (lambda f: first(f).path.rename(f.path / "trials" / "mine"), "was copied or renamed"),
    "half a configuration": (lambda f: first(f).config.write_text("method: ["), "not readable as YAML"),
    "no configuration": (lambda f: first(f).config.unlink(), "is missing"),
    "half an environment": (lambda f: halve(first(f).environment), "not readable as JSON"),
    "half a note on MLflow": (lambda f: first(f).mlflow.write_text('{"run'), "not readable as JSON"),
    "no curve": (lambda f: first(f).metrics.unlink(), "ends at step 0, and the run at 4"),
    "half a line of a curve": (
        lambda f: first(f).metrics.write_bytes(first(f).metrics.read_bytes()[:-9]),
        "torn by a crash",
    ),
    "a damaged line of a curve": (lambda f: spoil(first(f).metrics, 0), "not readable as JSON: line 1"),
    "a curve with a step twice": (lambda f: rewrite_lines(first(f).metrics, lambda x: x + x), "has a step twice"),
    "half a checkpoint": (lambda f: halve(first(f).checkpoint / "best.pt"), "cut, or no archive"),
    "half of the counts": (lambda f: halve(first(f).counts), "cut, or no archive"),
    "a file to leave": (lambda f: first(f).leave.touch(), "asks a run to leave that has ended"),
    "half a file": (lambda f: (f.path / ".summary.json.x.part").write_text("{"), "half a file"),
    "half a checkpoint beside": (lambda f: (first(f).checkpoint / ".last.pt.x.part").touch(), "half a file"),
    "scratch of Ray": (lambda f: (f.path / ".ray" / "tune").mkdir(parents=True), "what Ray needs"),
    "an old summary": (lambda f: change(f.summary, counts={}), "does not say what the runs' records say"),
    "half a summary": (lambda f: halve(f.summary), "not readable as JSON"),
    "half a provenance": (lambda f: halve(f.provenance), "not readable as JSON"),
    "half of the costs": (lambda f: (f.path.parent / "costs.json").write_text("{"), "not readable as JSON"),
    "half a stage": (lambda f: halve(stage(f) / "weights.pt"), "cut, or no archive"),
    "a stage's result": (lambda f: halve(stage(f) / "result.json"), "not readable as JSON"),
    "a stage without a result": (lambda f: (stage(f) / "result.json").unlink(), "though the weights are there"),
    "half a file of a stage": (lambda f: (stage(f) / ".weights.pt.x.part").touch(), "half a file"),
}
OF_A_CUT_STUDY: dict[str, tuple[Damage, str]] = {
    "half a checkpoint": (lambda f: halve(second(f).checkpoint / "last.pt"), "is damaged or no checkpoint"),
    "no checkpoint": (lambda f: (second(f).checkpoint / "last.pt").unlink(), "is missing, and the run was at step 2"),
    "another run's checkpoint": (
        lambda f: shutil.copy(first(f).checkpoint / "last.pt", second(f).checkpoint / "last.pt"),
        "is of another configuration (optim.lr",
    ),
    "a torn line of its curve": (lambda f: append(second(f).metrics, '{"step": 4'), "torn by a crash"),
    "half of its micro-batches": (lambda f: second(f).halving.write_text("{"), "not readable as JSON"),
    "a request to stop": (lambda f: second(f).stop.touch(), "nobody stops runs of this study early"),
    "a half-made stage": (lambda f: half_make(stage(f)), "cut, or no archive"),
}


def check(folder: StudyFolder, damage: Damage, said: str, expected: dict[str, float | None]) -> None:
    """It is found; mended, nothing is found; nothing is lost; the study ends as if nothing had been."""
    damage(folder)
    before = everything_in(folder.path.parent)
    found = problems(examine(folder))
    assert any(said in f"{finding.place.name}: {finding.problem}" for finding in found), found
    assert everything_in(folder.path.parent) == before
    repaired, left = mend(folder)
    assert problems(left) == problems(examine(folder)) == []
    assert len(repaired) >= len(found)
    assert before <= everything_in(folder.path.parent)
    assert go(folder) == expected
    assert problems(examine(folder)) == []


@pytest.mark.parametrize("name", OF_A_WHOLE_STUDY)
def test_what_is_wrong_with_a_finished_study_is_found_and_mended(whole: StudyFolder, tmp_path: Path, name: str) -> None:
    expected = {record.fingerprint: record.objective for record in load_trials(whole)}
    check(copied(whole, tmp_path), *OF_A_WHOLE_STUDY[name], expected)


@pytest.mark.parametrize("name", OF_A_CUT_STUDY)
def test_what_is_wrong_with_an_interrupted_study_is_found_and_mended(
    whole: StudyFolder, cut: StudyFolder, tmp_path: Path, name: str
) -> None:
    expected = {record.fingerprint: record.objective for record in load_trials(whole)}
    check(copied(cut, tmp_path), *OF_A_CUT_STUDY[name], expected)


def test_nothing_is_wrong_with_a_finished_study(whole: StudyFolder) -> None:
    assert examine(whole) == []


def test_an_interrupted_run_is_told_and_is_no_problem(cut: StudyFolder) -> None:
    assert [(finding.level, finding.problem) for finding in examine(cut)] == [
        ("note", "was interrupted at step 2 of 4")
    ]


def test_a_damaged_checkpoint_costs_its_run_and_no_other(
    cut: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(cut, tmp_path)
    trial = second(folder)
    halve(trial.checkpoint / "last.pt")
    mend(folder)
    assert [row["step"] for row in read_lines(trial.attempts / "1" / "metrics.jsonl")] == [2]
    steps = counting(monkeypatch)
    go(folder)
    assert steps == [1, 2, 3, 4]  # neither the stage nor the run that has ended
    assert folder.events()[-1]["event"] == "study_ended"


def test_without_the_doctor_a_result_that_is_gone_is_made_again_and_said_once(
    whole: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(whole, tmp_path)
    first(folder).result.unlink()
    steps = counting(monkeypatch)
    go(folder)
    assert steps == []  # it is judged from its last checkpoint
    events = [event["event"] for event in folder.events() if event.get("fingerprint") == first(folder).fingerprint]
    assert events == ["asked", "trial_started", "trial_ended", "trial_lost", "trial_started", "trial_ended"]
    assert examine(folder) == []


def test_optuna_s_file_is_no_record(tmp_path: Path) -> None:
    from tests.orchestrator.test_inline import study_of as search_of

    folder = StudyFolder(tmp_path / "demo")
    run(search_of(), small_tree(), folder, [], "cpu")
    before = read_json(folder.summary)
    halve(folder.optuna_journal)
    folder.optuna_journal.with_name("optuna.journal.lock").touch()
    assert examine(folder) == []
    run(search_of(), small_tree(), folder, [], "cpu")
    assert read_json(folder.summary) == before


def test_a_stage_that_no_study_has_is_told_with_its_size_and_stays(whole: StudyFolder, tmp_path: Path) -> None:
    folder = copied(whole, tmp_path)
    (orphan := folder.stages / "0123456789abcdef").mkdir()
    (orphan / "weights.pt").write_bytes(bytes(3 * 2**20))
    ((note,), left) = examine(folder), mend(folder)[1]
    assert (note.level, note.problem) == ("note", "3.0 MB, and no run of the studies beside has it")
    assert left == [note]
    assert orphan.exists()


def test_a_study_that_is_being_run_is_not_mended(whole: StudyFolder, tmp_path: Path) -> None:
    folder = copied(whole, tmp_path)
    halve(first(folder).result)
    other = started("-c", HOLD_THE_LOCK, str(folder.path))
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    with pytest.raises(ConfigError, match="is being run by another process"):
        mend(folder)
    other.kill()
    other.communicate()
    assert problems(mend(folder)[1]) == []


def test_a_run_whose_process_still_works_is_left_alone(cut: StudyFolder, tmp_path: Path) -> None:
    folder = copied(cut, tmp_path)
    trial = second(folder)
    halve(trial.checkpoint / "last.pt")
    other = started("-c", HOLD_THE_LOCK, str(trial.path))
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    assert [finding.problem for finding in mend(folder)[1]] == ["a process still works on it"]
    other.kill()
    other.communicate()


def test_a_request_that_can_t_be_read_is_told_with_what_to_do(whole: StudyFolder, tmp_path: Path) -> None:
    folder = copied(whole, tmp_path)
    folder.study_yaml.write_text("identity: [")
    (finding,) = mend(folder)[1]
    assert finding.level == "blocks" and "move it away" in finding.cure
    folder.study_yaml.rename(tmp_path / "study.yaml")
    go(folder)
    assert examine(folder) == []


def test_a_folder_without_a_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no study here: study\.yaml is missing"):
        examine(StudyFolder(tmp_path))


def test_the_verb_says_what_it_finds_and_what_it_has_mended(
    whole: StudyFolder, tmp_path: Path, call: Callable[[str], int], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(whole, tmp_path)
    halve(first(folder).result)
    append(folder.journal, "{")
    assert call(f"guidedmix doctor {folder.path}") == 1
    said = capsys.readouterr().out
    assert f"blocks  trials/{first(folder).fingerprint}/result.json: not readable as JSON" in said
    assert "untidy  journal.jsonl: the last line is torn by a crash" in said
    assert f"2 found. `guidedmix doctor {folder.path} --fix` mends them." in said
    assert call(f"guidedmix doctor {folder.path} --fix") == 0
    assert "done: set aside" in capsys.readouterr().out
    assert call(f"guidedmix doctor {folder.path}") == 0
    assert "was interrupted at step 4 of 4" in capsys.readouterr().out
