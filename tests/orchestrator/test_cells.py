"""A whole ablation in this process: real runs on the smallest data set, interrupted, grown and changed."""

from __future__ import annotations

import io
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from guidedmix_core import ConfigError, Tree, build, fingerprint
from orchestrator import trial as trial_module
from orchestrator.ablation import AblationStudy
from orchestrator.cells_table import cells_table, headroom_line
from orchestrator.comparison import Comparison, compare
from orchestrator.console import StudyConsole
from orchestrator.driver import driving
from orchestrator.executors.inline import run
from orchestrator.folder import StudyFolder, read_json, read_lines
from orchestrator.mlflow_run import run_name, table_view, tags
from orchestrator.results import load_trials
from orchestrator.stats import estimate
from tests.orchestrator.test_inline import Diary, counting
from tests.runs import small_tree

STUDY: dict[str, Any] = {
    "base": "small",
    "reference": "usual",
    "ceiling": "all",
    "cells": {"all": {"split": {"labeled": 1.0}}, "usual": {}, "slow": {"optim.lr": 1e-5}},
    "blocks": {"seed": [0, 1], "split.seed": [0, 1]},
}
CELLS = STUDY["cells"]
HOPELESS = {"optim.lr": 1e30}


def study_of(**changes: Any) -> AblationStudy:
    return build(Tree({**STUDY, **changes}, {}), AblationStudy)


def made(folder: StudyFolder, *listeners: Any, **changes: Any) -> dict[str, Any]:
    """The summary after a run of the study."""
    run(study_of(**changes), small_tree(), folder, listeners, "cpu")
    return read_json(folder.summary)


def compared(folder: StudyFolder) -> Comparison:
    return compare(folder.request(), load_trials(folder))


def asked(folder: StudyFolder) -> list[tuple[int, str, int]]:
    events = [event for event in folder.events() if event["event"] == "asked"]
    return [(event["number"], event["cell"], event["block"]) for event in events]


def row_of(summary: dict[str, Any], name: str) -> dict[str, Any]:
    return next(cell for cell in summary["cells"] if cell["name"] == name)


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "demo")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """The study as nothing interrupts it. Not to be written to."""
    made(whole := StudyFolder(tmp_path_factory.mktemp("studies") / "demo"))
    return whole


@pytest.fixture
def finished(whole: StudyFolder, tmp_path: Path) -> StudyFolder:
    """The same, to go on with."""
    shutil.copytree(whole.path, tmp_path / "demo")
    return StudyFolder(tmp_path / "demo")


def outcomes(folder: StudyFolder) -> list[tuple[str | None, int | None, str, float | None]]:
    return [(record.cell, record.block, record.fingerprint, record.objective) for record in load_trials(folder)]


def test_every_cell_is_run_in_each_block_before_the_next_one_begins(whole: StudyFolder) -> None:
    order = [(cell, block) for block in (0, 1) for cell in ("usual", "all", "slow")]
    assert asked(whole) == [(number, *names) for number, names in enumerate(order)]
    records = load_trials(whole)
    assert [(record.cell, record.block) for record in records] == order
    assert {(record.state, record.role) for record in records} == {("complete", "trial")}
    assert whole.events()[-1]["event"] == "study_ended"


def test_each_record_says_which_run_it_is(whole: StudyFolder) -> None:
    slow = next(record for record in load_trials(whole) if (record.cell, record.block) == ("slow", 1))
    assert (slow.label, slow.seed) == ("slow · seed 1", 1)
    assert slow.params == {"optim.lr": 1e-5, "seed": 1, "split.seed": 1}
    (row,) = [row for row in read_json(whole.summary)["trials"] if row["fingerprint"] == slow.fingerprint]
    assert (row["cell"], row["block"]) == ("slow", 1)


def test_the_summary_compares_the_cells_in_the_order_of_the_file(whole: StudyFolder) -> None:
    summary = read_json(whole.summary)
    scores = {(record.cell, record.block): record.objective or 0.0 for record in load_trials(whole)}
    gaps = [scores["slow", block] - scores["usual", block] for block in (0, 1)]
    assert [cell["name"] for cell in summary["cells"]] == ["all", "usual", "slow"]
    slow = row_of(summary, "slow")
    half = 12.706205 * abs(gaps[0] - gaps[1]) / 2  # t(0.975, 1) sd / sqrt(2), and sd = |a - b| / sqrt(2)
    mean = sum(gaps) / 2
    assert slow["changes"] == {"optim.lr": 1e-5}
    assert (slow["n"], slow["failed"], slow["vs_reference"]["n"]) == (2, 0, 2)
    assert slow["mean"] == pytest.approx((scores["slow", 0] + scores["slow", 1]) / 2)
    assert slow["vs_reference"]["diff"] == pytest.approx(mean)
    assert slow["vs_reference"]["ci"] == pytest.approx([mean - half, mean + half], rel=1e-6)
    assert row_of(summary, "usual")["vs_reference"] is None
    assert summary["best"] is None


def test_the_headroom_is_the_ceilings_difference_to_the_reference(whole: StudyFolder) -> None:
    summary = read_json(whole.summary)
    room = row_of(summary, "all")["vs_reference"]
    assert summary["headroom"] == {"diff": room["diff"], "ci": room["ci"], "enough": room["diff"] >= 0.08}


def test_without_a_ceiling_nothing_is_said_of_headroom(finished: StudyFolder) -> None:
    assert "headroom" not in made(finished, ceiling=None)
    assert headroom_line(compared(finished)) is None


def test_a_run_is_never_stopped_early(whole: StudyFolder, folder: StudyFolder) -> None:
    assert {record.step for record in load_trials(whole)} == {4}
    with driving(study_of(), small_tree(), folder, []) as driver:
        job = driver.next()
        assert job is not None
        driver.started(job)
        assert driver.reported(job, 2, {"val/miou": -1.0}) is False


def test_running_a_finished_ablation_again_trains_nothing(
    finished: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, journal = read_json(finished.summary), asked(finished)
    steps = counting(monkeypatch)
    assert made(finished) == before
    assert (steps, asked(finished)) == ([], journal)


@pytest.mark.parametrize("call", [1, 6, 7])
def test_an_interrupt_at_any_event_loses_nothing_and_repeats_nothing(
    folder: StudyFolder, whole: StudyFolder, call: int
) -> None:
    pair = {"cells": {"usual": {}, "all": CELLS["all"]}, "blocks": {"seed": [0], "split.seed": [0]}}
    with pytest.raises(KeyboardInterrupt):
        made(folder, Diary(dies_at=call), **pair)
    assert folder.events()[-1]["event"] != "study_ended"
    made(folder, **pair)
    assert outcomes(folder) == outcomes(whole)[:2]
    assert asked(folder) == asked(whole)[:2]
    for trial in folder.trials():
        assert [row["step"] for row in read_lines(trial.metrics)] == [2, 4]


def test_what_was_interrupted_goes_on_before_a_new_cell_begins(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        made(folder, Diary(dies_at=7))  # at the first report of the second run
    steps, diary = counting(monkeypatch), Diary(dies_at=5)
    with pytest.raises(KeyboardInterrupt):
        made(folder, diary, cells={"fast": {"optim.lr": 0.1}, **CELLS})
    assert diary.calls[1:] == [
        "trial_started",
        "trial_reported 2",
        "trial_reported 4",
        "trial_ended complete",
        "study_ended",
    ]
    assert steps == [3, 4]


def test_a_cell_that_is_added_trains_only_its_own_runs(finished: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    before, steps = read_json(finished.summary), counting(monkeypatch)
    after = made(finished, cells={"fast": {"optim.lr": 0.01}, **CELLS})
    assert steps == [1, 2, 3, 4] * 2
    assert asked(finished)[6:] == [(6, "fast", 0), (7, "fast", 1)]
    assert [cell["name"] for cell in after["cells"]] == ["fast", "all", "usual", "slow"]
    assert [cell["mean"] for cell in after["cells"][1:]] == [cell["mean"] for cell in before["cells"]]
    assert after["counts"] == {"planned": 8, "complete": 8, "stopped": 0, "failed": 0}


def test_a_block_that_is_appended_trains_only_its_own_runs(
    finished: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = counting(monkeypatch)
    after = made(finished, blocks={"seed": [0, 1, 2], "split.seed": [0, 1, 2]})
    assert steps == [1, 2, 3, 4] * 3
    assert asked(finished)[6:] == [(6, "usual", 2), (7, "all", 2), (8, "slow", 2)]
    assert {cell["n"] for cell in after["cells"]} == {3}


def test_equal_cells_are_one_run_that_both_show(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = counting(monkeypatch)
    summary = made(folder, cells={"usual": {}, "again": {"optim.lr": 0.002}}, ceiling=None)
    assert steps == [1, 2, 3, 4] * 2
    usual, again = summary["cells"]
    assert (again["mean"], again["n"]) == (usual["mean"], 2)
    gap = again["vs_reference"]
    assert (gap["n"], gap["diff"], gap["ci"], gap["p"]) == (2, 0.0, None, None)
    assert compared(folder).cells[1].verdict == "the same runs"
    assert summary["counts"]["planned"] == summary["counts"]["complete"] == 2
    assert {record.cell for record in load_trials(folder)} == {"usual"}
    assert made(folder, cells={"usual": {}, "again": {"optim.lr": 0.002}}, ceiling=None) == summary


def test_a_changed_cell_is_a_new_run_and_what_it_was_counts_nowhere_until_it_is_asked_for_again(
    finished: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, steps = read_json(finished.summary), counting(monkeypatch)
    after = made(finished, cells={**CELLS, "slow": {"optim.lr": 1e-4}})
    assert steps == [1, 2, 3, 4] * 2
    assert len(finished.trials()) == 8
    assert len(after["trials"]) == after["counts"]["complete"] == after["counts"]["planned"] == 6
    assert [row["params"]["optim.lr"] for row in after["trials"] if row["cell"] == "slow"] == [1e-4, 1e-4]
    assert row_of(after, "slow")["n"] == 2
    assert (made(finished)["cells"], len(steps)) == (before["cells"], 8)


def test_a_renamed_cell_keeps_its_runs_under_the_new_name(
    finished: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, steps = row_of(read_json(finished.summary), "slow"), counting(monkeypatch)
    renamed = {"crawling" if name == "slow" else name: changes for name, changes in CELLS.items()}
    assert row_of(made(finished, cells=renamed), "crawling") == {**before, "name": "crawling"}
    assert steps == []
    assert [record.label for record in load_trials(finished) if record.cell == "crawling"] == [
        "crawling · seed 0",
        "crawling · seed 1",
    ]


def test_a_cell_that_fails_is_marked_and_the_others_are_compared(finished: StudyFolder) -> None:
    summary = made(finished, cells={**CELLS, "hopeless": HOPELESS})
    hopeless = row_of(summary, "hopeless")
    assert (hopeless["n"], hopeless["failed"], hopeless["mean"], hopeless["vs_reference"]) == (0, 2, None, None)
    assert row_of(summary, "slow")["n"] == 2
    assert summary["counts"]["failed"] == 2
    assert finished.events()[-1]["event"] == "study_ended"


def test_pairs_are_the_blocks_that_both_cells_have(finished: StudyFolder) -> None:
    lost = next(record for record in load_trials(finished) if (record.cell, record.block) == ("usual", 0))
    finished.trial(lost.fingerprint).result.unlink()
    comparison = compared(finished)
    slow = comparison.cells[2]
    assert slow.value is not None
    assert comparison.reference.value is not None
    assert (slow.value.n, comparison.reference.value.n) == (2, 1)
    assert slow.versus == estimate([slow.values("val/miou")[1] - comparison.reference.values("val/miou")[1]])
    assert slow.verdict == "one block: no interval"


def test_a_single_block_has_no_interval_and_shows_nothing(finished: StudyFolder) -> None:
    summary = made(finished, blocks={"seed": [0]})
    slow = row_of(summary, "slow")
    assert (slow["n"], slow["sd"], slow["ci"], slow["vs_reference"]["ci"]) == (1, None, None, None)
    assert compared(finished).cells[2].verdict == "one block: no interval"


def test_a_reference_that_fails_of_a_bug_in_the_first_block_ends_the_study_each_time(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(trial_module, "train", broken)
    for _ in range(2):
        with pytest.raises(
            ConfigError,
            match=r"the reference 'usual · seed 0' failed.*bug.*then the same command goes on with --retry-failed",
        ):
            made(folder)
    assert [record.state for record in load_trials(folder)] == ["failed"]


def test_another_base_is_another_study(folder: StudyFolder) -> None:
    with driving(study_of(), small_tree(), folder, []):
        pass
    said = "holds another study: run.optim.lr is 0.002 there and 0.1 here; choose another folder"
    with pytest.raises(ConfigError, match=said):
        run(study_of(), small_tree({"optim.lr": 0.1}), folder, [], "cpu")


def test_a_cell_that_is_no_run_is_refused_before_anything_is_written(folder: StudyFolder) -> None:
    with pytest.raises(ConfigError, match=r"the cell 'odd' in block 0 is no run"):
        made(folder, cells={**CELLS, "odd": {"train.batch_size": 0}})
    assert not folder.path.exists()


def test_data_that_one_cell_lacks_is_refused_before_anything_is_written(folder: StudyFolder, tmp_path: Path) -> None:
    nowhere = {"data": {"name": "folder", "root": str(tmp_path / "nowhere"), "class_names": ["sky", "road"]}}
    with pytest.raises(ConfigError, match="nowhere"):
        made(folder, cells={**CELLS, "elsewhere": nowhere})
    assert not folder.path.exists()


def test_mlflow_has_cell_and_block_of_each_run(whole: StudyFolder) -> None:
    record = load_trials(whole)[5]
    found = tags(record, {}, {"slow": {"speed": "low"}})
    assert (found["cell"], found["block"]) == ("slow", "1")
    assert found["factor.speed"] == "low"
    assert run_name(record) == "slow · seed 1"
    assert not any(name.startswith("searched.") for name in found)
    assert "tags.`cell`" in table_view(whole.request())["selectedColumns"]


def test_the_terminal_names_runs_by_cell_and_block(folder: StudyFolder) -> None:
    file = io.StringIO()
    made(folder, StudyConsole(Console(file=file, width=200)), cells={"usual": {}}, ceiling=None, blocks={"seed": [3]})
    lines = file.getvalue().splitlines()
    assert lines[0] == "usual · seed 3: started"
    assert lines[-1].startswith("usual · seed 3: complete  mIoU ")


def shown(*what: Any) -> str:
    console = Console(file=(file := io.StringIO()), width=200)
    for each in what:
        console.print(each)
    return file.getvalue()


def with_scores(folder: StudyFolder, scores: dict[str, list[float]], mode: str = "max") -> Comparison:
    """The comparison if the runs had come to these objectives."""
    request = folder.request()
    of_runs = {
        digest: score for cell, row in scores.items() for digest, score in zip(request["runs"][cell], row, strict=True)
    }
    records = [replace(record, objective=of_runs[record.fingerprint]) for record in load_trials(folder)]
    return compare({**request, "objectives": [{"metric": "val/miou", "mode": mode}]}, records)


SCORES = {"usual": [0.50, 0.52], "all": [0.61, 0.64], "slow": [0.50, 0.53]}


def test_the_table_calls_better_only_what_excludes_zero(whole: StudyFolder) -> None:
    comparison = with_scores(whole, SCORES)
    rows = shown(cells_table(comparison)).splitlines()
    assert [cell.verdict for cell in comparison.cells] == ["better", "reference", "no difference shown"]
    # t(0.975, 1) = 12.706, and half an interval is t times half of the distance of the two values
    # p of t = 11.5 / 0.5 with one degree of freedom: 1 - 2 atan(23) / π
    best = ["all", "2", "62.5 ± 19.1", "+11.5 (+5.1 to +17.9)", "0.028", "better"]
    assert re.split(r"  +", rows[1].strip())[:6] == best
    assert re.split(r"  +", rows[2].strip())[:4] == ["usual", "2", "51.0 ± 12.7", "reference"]
    slow = ["slow", "2", "51.5 ± 19.1", "+0.5 (-5.9 to +6.9)", "0.500", "no difference shown"]
    assert re.split(r"  +", rows[3].strip())[:6] == slow


def test_the_table_marks_what_failed_and_what_is_missing(finished: StudyFolder) -> None:
    made(finished, cells={**CELLS, "hopeless": HOPELESS})
    row = shown(cells_table(compared(finished))).splitlines()[4]
    assert re.split(r"  +", row.strip()) == ["hopeless", "0 of 2", "-", "not compared", "2 diverged"]


def test_the_table_says_over_how_many_blocks_a_difference_is_taken(finished: StudyFolder) -> None:
    lost = next(record for record in load_trials(finished) if (record.cell, record.block) == ("usual", 0))
    finished.trial(lost.fingerprint).result.unlink()
    row = shown(cells_table(compared(finished))).splitlines()[3]
    assert re.search(r"slow +2 .*, n 1 +one block: no interval", row)


@pytest.mark.parametrize(("gain", "enough"), [(0.11, True), (0.081, True), (0.079, False)])
def test_too_little_headroom_is_warned_of(whole: StudyFolder, gain: float, enough: bool) -> None:
    comparison = with_scores(whole, {**SCORES, "all": [0.50 + gain, 0.52 + gain]})
    line = headroom_line(comparison)
    assert comparison.has_headroom is enough
    assert line is not None
    assert line.plain.startswith("headroom +")
    assert ("hardly what limits" in line.plain) is not enough


def test_of_an_objective_to_be_small_less_is_better(whole: StudyFolder) -> None:
    comparison = with_scores(whole, {**SCORES, "slow": [0.40, 0.42001]}, "min")
    assert [cell.verdict for cell in comparison.cells] == ["worse", "reference", "better"]


def test_the_fingerprints_of_the_table_are_those_of_the_runs(whole: StudyFolder) -> None:
    study = study_of()
    runs = {(run.cell, run.block): fingerprint(run.config) for run in study.runs(small_tree())}
    assert {(record.cell, record.block): record.fingerprint for record in load_trials(whole)} == runs
