"""After a search: its winner on fresh seeds beside the reference, and references that were searched as long."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from guidedmix_core import ConfigError, RunConfig, Tree, build
from orchestrator import folder as folder_module
from orchestrator.budgets import TunedRuns, budgets
from orchestrator.confirmation import Confirmation, confirmation
from orchestrator.confirmation_table import print_confirmation
from orchestrator.console import leaderboard
from orchestrator.driver import driving
from orchestrator.folder import StudyFolder, append_line, read_json, write_json
from orchestrator.mlflow_run import run_name, tags
from orchestrator.planned_runs import planned_runs
from orchestrator.proposals import Job
from orchestrator.report import write_exports, write_page
from orchestrator.results import load_trial, load_trials
from orchestrator.study import SearchStudy
from orchestrator.summary import Summary
from tests.runs import small_tree

FLIPS = [0.1, 0.2, 0.3, 0.4]
"""Of the search; the larger, the better."""
STUDY: dict[str, Any] = {
    "base": "small",
    "parameters": {"augment.flip": {"choice": FLIPS}},
    "search": {"sampler": "grid", "trials": 4},
    "scheduler": {"name": "none"},
    "references": {"plain": {"augment.flip": 0.0}, "gray": {"augment.gray": 1.0}},
    "confirm": {"against": ["plain"], "blocks": {"seed": [10, 11, 12]}},
}
TUNED = {"reference_parameters": {"gray": {"optim.power": {"choice": [0.5, 0.7, 0.9]}}}}


def study_of(**changes: Any) -> SearchStudy:
    return build(Tree({**STUDY, **changes}, {}), SearchStudy)


def score(config: RunConfig) -> float:
    """In the search, seed 0: 0.5 + flip. A fresh run: 0.1 less, and a hundredth more or less by its seed."""
    flip, gray = config.augment.flip, config.augment.gray
    value = config.optim.power - 0.4 if gray == 1.0 else 0.5 + flip
    noise = {0: 0.0, 10: -0.11, 11: -0.10, 12: -0.09}.get(config.seed, -0.2)
    return value + noise * (1 if flip else 0)


def finish(job: Job, value: float | None) -> None:
    """The records a run leaves: of one evaluation in the middle, and the end. None: it failed."""
    hand = job.folder
    steps = job.config.train.steps
    for step in (steps // 2, steps):
        append_line(hand.metrics, {"step": step, "time": "2026-01-01", "val/miou": (value or 0.0) * step / steps})
    end = {"objective": value, "step": steps, "steps": steps, "seconds": 60.0, "metrics": {"val/miou": value}}
    failure = {"reason": "diverged", "message": "nan", "step": 2} if value is None else None
    rest = {
        "best": None,
        "failure": failure,
        "started": "2026-01-01T00:00:00+00:00",
        "ended": "2026-01-01T00:01:00+00:00",
    }
    state = "failed" if value is None else "complete"
    write_json(hand.result, {"fingerprint": job.fingerprint, "state": state, **end, **rest})


def run(
    study: SearchStudy,
    folder: StudyFolder,
    score: Callable[[RunConfig], float | None] = score,
    at_most: int = 1000,
    at_once: int = 1,
) -> list[Job]:
    """What an executor does, without training; the jobs that were made. `at_most`: it is interrupted after so many."""
    made: list[Job] = []
    with suppress(KeyboardInterrupt), driving(study, small_tree(), folder, []) as driver:
        while True:
            while len(driver.out) < at_once and (job := driver.next()) is not None:
                driver.started(job)
                made.append(job)
            if not driver.out:
                break
            job = next(iter(driver.out.values()))
            finish(job, score(job.config))
            driver.ended(job, load_trial(job.folder))
            if len(made) == at_most:
                raise KeyboardInterrupt
    return made


def names(jobs: list[Job]) -> list[tuple[str, str | None, int | None]]:
    return [(job.role, job.cell, job.block) for job in jobs]


def found(folder: StudyFolder) -> Confirmation:
    result = confirmation(folder.request(), load_trials(folder))
    assert isinstance(result, Confirmation)
    return result


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "demo")


def test_the_winner_and_the_reference_are_run_in_each_block_once_the_search_has_ended(folder: StudyFolder) -> None:
    jobs = run(study_of(), folder)
    assert [job.role for job in jobs] == ["reference"] * 2 + ["trial"] * 4 + ["confirm"] * 6
    pairs = [(cell, block) for block in range(3) for cell in ("plain", "trial 3")]
    assert names(jobs)[6:] == [("confirm", *pair) for pair in pairs]
    assert [job.config.seed for job in jobs[6:]] == [10, 10, 11, 11, 12, 12]
    assert {job.config.augment.flip for job in jobs[6:] if job.cell == "trial 3"} == {0.4}
    assert folder.events()[-1]["event"] == "study_ended"
    assert read_json(folder.summary)["counts"]["planned"] == 12


def test_side_by_side_no_fresh_run_begins_before_the_last_trial_has_ended(folder: StudyFolder) -> None:
    jobs = run(study_of(), folder, at_once=3)
    assert [job.role for job in jobs] == ["reference"] * 2 + ["trial"] * 4 + ["confirm"] * 6
    kinds = [(event["event"], event["role"]) for event in folder.events() if event["event"].startswith("trial_")]
    assert kinds.index(("trial_started", "confirm")) > max(
        i for i, kind in enumerate(kinds) if kind == ("trial_ended", "trial")
    )


def test_the_gap_and_the_paired_difference_are_those_of_the_numbers(folder: StudyFolder) -> None:
    """0.9 in the search; fresh 0.79, 0.80, 0.81 against 0.5 in each block; t(0.975, 2) = 4.3027."""
    run(study_of(), folder)
    (winner,) = found(folder).winners
    half = 4.302653 * 0.01 / 3**0.5
    assert winner.trial.objective == pytest.approx(0.9)
    assert winner.cell.value is not None and winner.gap is not None
    assert winner.cell.value.mean == pytest.approx(0.8)
    assert winner.gap.mean == pytest.approx(0.1)
    assert winner.gap.interval == pytest.approx((0.1 - half, 0.1 + half), abs=1e-6)
    versus = winner.versus["plain"]
    assert versus is not None
    assert versus.mean == pytest.approx(0.3)
    assert versus.interval == pytest.approx((0.3 - half, 0.3 + half), abs=1e-6)
    summary = read_json(folder.summary)["confirmation"]
    assert summary["winners"][0]["search"] == pytest.approx(0.9)
    assert summary["winners"][0]["gap"]["diff"] == pytest.approx(0.1)
    assert summary["winners"][0]["vs"]["plain"]["n"] == 3
    assert summary["winners"][0]["params"] == {"augment.flip": 0.4}
    assert [cell["name"] for cell in summary["cells"]] == ["plain", "trial 3"]


def test_a_fresh_run_whose_batch_norm_saw_smaller_batches_is_no_pair_and_the_page_says_so(folder: StudyFolder) -> None:
    (job,) = [job for job in run(study_of(), folder) if (job.cell, job.block) == ("trial 3", 1)]
    made = {"halvings": 1, "accumulate": 2, "micro_batch": 4, "sees_batches": True}
    write_json(job.folder.result, {**read_json(job.folder.result), "adjusted": made})
    (winner,) = found(folder).winners
    versus = winner.versus["plain"]
    assert versus is not None and winner.gap is not None
    assert (versus.n, winner.gap.n) == (2, 3)
    assert "trial 3 · seed 11†: memory ran out" in write_page(folder).read_text()


def test_fresh_runs_are_no_trials_for_leaderboard_best_and_sampler(folder: StudyFolder) -> None:
    run(study_of(), folder, lambda config: 0.99 if config.seed else score(config))
    records = load_trials(folder)
    assert leaderboard(records, folder).row_count == 6
    assert read_json(folder.summary)["best"]["number"] == 3
    assert read_json(folder.summary)["best"]["role"] == "trial"
    more = study_of(parameters={"augment.flip": {"uniform": [0.1, 0.4]}}, search={"sampler": "tpe", "trials": 2})
    again = StudyFolder(folder.path.parent / "tpe")
    run(more, again)
    with driving(more, small_tree(), again, []) as driver:
        assert len(driver.source._study.trials) == 2  # pyright: ignore[reportAttributeAccessIssue]


def test_a_finished_confirmation_is_not_repeated_and_an_interrupted_one_goes_on(folder: StudyFolder) -> None:
    first = run(study_of(), folder, at_most=8)
    assert names(first)[6:] == [("confirm", "plain", 0), ("confirm", "trial 3", 0)]
    rest = run(study_of(), folder)
    assert [block for *_, block in names(rest)] == [1, 1, 2, 2]
    before = read_json(folder.summary)
    assert run(study_of(), folder) == []
    assert read_json(folder.summary) == before


def test_more_seeds_run_only_what_is_new(folder: StudyFolder) -> None:
    run(study_of(), folder)
    more = {**STUDY["confirm"], "blocks": {"seed": [10, 11, 12, 13]}}
    assert names(run(study_of(confirm=more), folder)) == [("confirm", "plain", 3), ("confirm", "trial 3", 3)]


def test_a_search_that_goes_on_may_have_another_winner_and_the_old_fresh_runs_leave_the_table(
    folder: StudyFolder,
) -> None:
    short = study_of(search={"sampler": "grid", "trials": 3})
    run(short, folder)
    assert [winner.cell.name for winner in found(folder).winners] == ["trial 2"]
    run(study_of(), folder, at_most=1)
    assert not found(folder).is_current
    assert found(folder).winners[0].cell.name == "trial 2"
    jobs = run(study_of(), folder)
    assert {cell for _, cell, _ in names(jobs)} == {"trial 3"}
    assert found(folder).is_current
    assert [winner.cell.name for winner in found(folder).winners] == ["trial 3"]
    assert len(folder.trials()) == 2 + 4 + 3 + 2 * 3
    assert len(read_json(folder.summary)["trials"]) == 2 + 4 + 2 * 3


def test_a_winner_whose_run_is_gone_is_said_made_again_and_chosen_anew(folder: StudyFolder) -> None:
    run(study_of(), folder)
    (winner,) = found(folder).winners
    shutil.rmtree(folder.trial(winner.trial.fingerprint).path)
    assert confirmation(folder.request(), load_trials(folder)) == (
        "the run of trial 3 is gone: the same command makes it again, and then chooses anew"
    )
    assert names(run(study_of(), folder)) == [("trial", None, None)]
    assert found(folder).is_current


def test_a_confirmation_can_be_asked_for_after_the_search(folder: StudyFolder) -> None:
    run(study_of(confirm=None), folder)
    assert "confirmation" not in read_json(folder.summary)
    assert [job.role for job in run(study_of(), folder)] == ["confirm"] * 6


def test_several_winners_and_several_references(folder: StudyFolder) -> None:
    confirm = {"top": 2, "against": ["gray", "plain"], "blocks": {"seed": [10, 11], "split.seed": [5, 6]}}
    jobs = run(study_of(confirm=confirm), folder)
    assert [cell for _, cell, _ in names(jobs)[6:10]] == ["gray", "plain", "trial 3", "trial 2"]
    assert [job.config.split.seed for job in jobs[6:]] == [5] * 4 + [6] * 4
    winners = found(folder).winners
    assert [winner.cell.name for winner in winners] == ["trial 3", "trial 2"]
    assert list(winners[0].versus) == ["gray", "plain"]


def test_fresh_runs_may_be_judged_by_images_by_which_nothing_was_chosen(folder: StudyFolder) -> None:
    jobs = run(study_of(**confirm(part="test")), folder)
    assert {(job.role, job.config.evaluate.part) for job in jobs} == {
        ("reference", "val"),
        ("trial", "val"),
        ("confirm", "test"),
    }
    assert read_json(folder.summary)["confirmation"]["parts"] == {"search": "val", "fresh": "test"}
    sentence = "The search was judged by the val part, the fresh runs are by the test part"
    assert sentence in terminal(folder)
    assert sentence in write_page(folder).read_text()


def test_the_part_that_judges_fresh_runs_is_opened_before_the_search_begins(folder: StudyFolder) -> None:
    parts = {changes.get("evaluate.part") for changes in study_of(**confirm(part="test")).variants()}
    assert parts == {None, "test"}


def test_that_search_and_fresh_runs_are_judged_by_the_same_images_is_said(folder: StudyFolder) -> None:
    run(study_of(), folder)
    assert read_json(folder.summary)["confirmation"]["parts"] == {"search": "val", "fresh": "val"}
    sentence = "Search and fresh runs are judged by the same images, the val part"
    assert sentence in terminal(folder)
    assert sentence in write_page(folder).read_text()


def test_a_winner_that_is_hardly_better_is_shown_to_be_so_by_a_margin(folder: StudyFolder) -> None:
    """Fresh 0.510, 0.511, 0.509 against 0.5: +1.0 ± 0.25 points, which lies inside 2 points and not inside 1."""
    noise = {10: 0.0, 11: 0.001, 12: -0.001}

    def close(config: RunConfig) -> float:
        return 0.5 + (0.01 + noise.get(config.seed, 0.0)) * (config.augment.flip == 0.4)

    run(study_of(**confirm(analysis={"margin": 2})), folder, close)
    (winner,) = found(folder).winners
    assert winner.cell.is_small
    assert "Shown to differ from plain by less than 2 points: trial 3." in terminal(folder)
    assert "Shown to differ from plain by less than 2 points: trial 3." in write_page(folder).read_text()
    run(study_of(**confirm(analysis={"margin": 1})), folder, close)
    assert not found(folder).winners[0].cell.is_small


def test_fresh_runs_are_judged_with_the_interval_that_is_asked_for(folder: StudyFolder) -> None:
    """t(0.95, 2) = 2.9200."""
    run(study_of(**confirm(analysis={"interval": 0.9})), folder)
    (winner,) = found(folder).winners
    half = 2.919986 * 0.01 / 3**0.5
    assert winner.gap is not None
    assert winner.gap.interval == pytest.approx((0.1 - half, 0.1 + half), abs=1e-6)
    assert "(90 % interval" in terminal(folder)


def test_three_fresh_blocks_earn_no_star_and_terminal_and_report_say_why(folder: StudyFolder) -> None:
    run(study_of(), folder)
    assert not found(folder).winners[0].cell.is_starred
    assert "No star: with 3 blocks" in terminal(folder).replace("\n", " ")
    assert "No star: with 3 blocks" in write_page(folder).read_text()


def test_nothing_complete_is_nothing_to_confirm_and_is_said(folder: StudyFolder, capsys) -> None:
    run(study_of(), folder, lambda config: None if config.augment.flip else score(config))
    assert read_json(folder.summary)["confirmation"] == {"refusal": "no trial is complete: there is nothing to confirm"}
    assert "there is nothing to confirm" in terminal(folder)
    assert "there is nothing to confirm" in write_page(folder).read_text()


def test_fewer_complete_trials_than_asked_for_are_confirmed_and_counted(folder: StudyFolder) -> None:
    confirm = {**STUDY["confirm"], "top": 3}
    run(study_of(confirm=confirm), folder, lambda config: None if config.augment.flip in (0.1, 0.2) else score(config))
    assert [winner.cell.name for winner in found(folder).winners] == ["trial 3", "trial 2"]
    assert found(folder).warnings == ["The best 3 were asked for, 2 trials are complete."]


def test_of_a_minimized_objective_the_least_is_confirmed(folder: StudyFolder) -> None:
    run(study_of(objective={"mode": "min"}), folder)
    assert found(folder).winners[0].cell.name == "trial 0"


def test_a_reference_with_parameters_is_searched_with_as_many_trials_and_its_best_is_confirmed(
    folder: StudyFolder,
) -> None:
    confirm = {"against": ["gray"], "blocks": {"seed": [10]}}
    space = {"gray": {"optim.power": {"choice": [0.5, 0.7, 0.8]}}}
    search = {"sampler": "grid", "trials": 3}
    jobs = run(study_of(reference_parameters=space, confirm=confirm, search=search), folder)
    tuning = [job for job in jobs if job.role == "tuning"]
    assert [(job.number, job.cell, job.label) for job in tuning] == [(i, "gray", f"gray · trial {i}") for i in range(3)]
    assert [job.params for job in tuning] == [{"augment.gray": 1.0, "optim.power": power} for power in (0.5, 0.7, 0.8)]
    fresh = {job.cell: job.config for job in jobs if job.role == "confirm"}
    assert fresh["gray"].optim.power == 0.8
    spent = budgets(TunedRuns(folder), folder.request(), load_trials(folder))
    gray = spent.references["gray"]
    assert gray is not None and gray.best is not None
    assert (gray.trials, spent.search.trials, gray.best.number) == (3, 3, 2)
    assert spent.references["plain"] is None
    assert read_json(folder.summary)["best"]["role"] == "trial"


def test_of_the_journal_only_what_is_new_is_read_for_another_summary(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(study_of(**TUNED), folder)
    read, record = [], folder_module._record
    monkeypatch.setattr(folder_module, "_record", lambda path, *line: read.append(path) or record(path, *line))
    summary = Summary(folder)
    first = summary.text()
    assert read.count(folder.journal) == len(folder.journal.read_text().splitlines())
    read.clear()
    folder.append({"event": "study_started"})
    assert (summary.text(), read) == (first, [folder.journal])


def test_a_reference_that_is_one_of_its_own_trials_is_run_once_and_keeps_its_place(folder: StudyFolder) -> None:
    """The base has optim.power 0.9: the reference itself is a point of its own space."""
    jobs = run(study_of(**TUNED, confirm=None), folder)
    assert len([job for job in jobs if job.role == "tuning"]) == 2
    gray = budgets(TunedRuns(folder), folder.request(), load_trials(folder)).references["gray"]
    assert gray is not None and gray.best is not None
    assert (gray.trials, gray.best.label, gray.best.role) == (3, "gray", "reference")


def test_a_tuned_reference_goes_on_where_it_was_interrupted(folder: StudyFolder) -> None:
    study = study_of(**TUNED)
    first = run(study, folder, at_most=7)
    assert names(first)[-1] == ("tuning", "gray", None)
    rest = run(study, folder)
    assert [job.number for job in rest if job.role == "tuning"] == [1]
    assert len({job.fingerprint for job in [*first, *rest]}) == len(first) + len(rest)


def test_trials_of_a_reference_are_stopped_by_their_own_peers(folder: StudyFolder) -> None:
    """The scheduler of the search, over the reference's trials alone: the first of them is never stopped."""
    scheduler = {"name": "asha", "first_rung": 0.5, "eta": 2}
    study = study_of(**TUNED, confirm=None, scheduler=scheduler)
    stops: dict[str, bool] = {}
    with driving(study, small_tree(), folder, []) as driver:
        while (job := driver.next()) is not None:
            driver.started(job)
            value = score(job.config) / (10 if job.role == "tuning" else 1)
            stops[f"{job.role} {job.number}"] = driver.reported(job, 2, {"val/miou": value})
            finish(job, value)
            driver.ended(job, load_trial(job.folder))
    assert {key: stop for key, stop in stops.items() if key.startswith("tuning")} == {
        "tuning 0": False,
        "tuning 1": False,
    }


def test_in_mlflow_fresh_runs_and_trials_of_a_reference_are_told_apart_by_tags(folder: StudyFolder) -> None:
    run(study_of(**TUNED), folder)
    records = [record for record in load_trials(folder) if record.role in ("tuning", "confirm")]
    shown = {run_name(record): tags(record, {}, {}) for record in records}
    tuned, fresh = shown["gray · trial 0"], shown["trial 3 · seed 10"]
    assert (tuned["guidedmix.role"], tuned["cell"], tuned["searched.optim.power"]) == (
        "tuning",
        "gray",
        "0.5",
    )
    assert "block" not in tuned
    assert [fresh[key] for key in ("guidedmix.role", "cell", "block")] == ["confirm", "trial 3", "0"]


def test_a_plan_counts_what_follows_the_search(folder: StudyFolder) -> None:
    study = study_of(**TUNED)
    counts = Counter(planned.cell for planned in planned_runs(study, small_tree(), folder))
    expected = {"plain": 1, "gray": 1, "trials": 4, "gray · trials": 4, "plain, fresh": 3, "best trials, fresh": 3}
    assert counts == expected
    assert sum(counts.values()) == study.plan(small_tree())["planned"]
    run(study, folder, at_most=10)
    made = planned_runs(study, small_tree(), folder)
    assert Counter(planned.cell for planned in made if planned.state == "complete")["best trials, fresh"] == 1


def terminal(folder: StudyFolder) -> str:
    from io import StringIO

    from rich.console import Console

    file = StringIO()
    print_confirmation(folder, Console(file=file, width=120))
    return file.getvalue()


def test_the_terminal_says_what_is_known_and_what_not(folder: StudyFolder) -> None:
    run(study_of(**TUNED, confirm={**STUDY["confirm"], "against": ["plain", "gray"]}), folder)
    said = terminal(folder)
    assert "plain is untuned: the search had 4 trials, the reference one." in said
    assert "gray was tuned, too: 3 trials, 4 in the search (3:00 min of training, 4:00 min in the search)." in said
    assert "Its best trial has 50.0." in said
    assert "fresh runs: 3 blocks of seed" in said
    assert (
        "trial 3: 90.0 in the search, 80.0 on 3 fresh blocks; the gap is +10.0 (95 % interval +7.5 to +12.5). "
        "Against plain: +30.0 (95 % interval +27.5 to +32.5)."
    ) in said
    assert "The best of 4 noisy values is chosen for its luck, too" in said
    assert "The labeled images are those of the search" in said


def test_the_report_has_the_fresh_runs_and_the_budgets(folder: StudyFolder) -> None:
    run(study_of(**TUNED), folder)
    page = write_page(folder).read_text()
    assert 'id="confirmation"' in page
    assert "plain is untuned: the search had 4 trials, the reference one." in page
    assert "gray was tuned, too: 3 trials, 4 in the search" in page
    assert "90.0 in the search, 80.0 on 3 fresh blocks" in page
    assert "biased towards the better" in page
    assert "p, sign flips" in page


def test_the_table_of_the_fresh_runs_is_written_for_papers_too(folder: StudyFolder) -> None:
    run(study_of(**confirm(part="test", analysis={"margin": 40})), folder)
    files = {file.name: file for file in write_exports(folder)}
    assert {"report.md", "table.tex", "cells.csv", "runs.csv", "forest.pdf"} <= files.keys()
    table = files["report.md"].read_text()
    assert "| trial 3 | 3 | 80.0 ± 2.5 | +30.0 | +27.5 to +32.5 |" in table
    assert "mIoU on the test part" in table
    assert "A block: seed 10, 11, 12. " in table
    assert "trial 3: augment.flip = 0.4. trial 3: 90.0 in the search, 80.0 on 3 fresh blocks" in table
    assert "quote the fresh mean" in table
    assert table.count("Shown to differ from plain by less than 40 points: trial 3.") == 1
    assert len(files["runs.csv"].read_text().splitlines()) == 1 + 12


def test_without_fresh_runs_a_search_has_its_runs_alone(folder: StudyFolder) -> None:
    run(study_of(), folder, at_most=6)
    (file,) = write_exports(folder)
    assert file.name == "runs.csv"


def test_a_search_without_references_says_nothing_of_budgets(folder: StudyFolder) -> None:
    run(study_of(references={}, confirm=None), folder)
    assert terminal(folder) == ""
    assert 'id="confirmation"' not in write_page(folder).read_text()


def refused(**changes: Any) -> str:
    with pytest.raises(ConfigError) as error:
        study_of(**changes).check(small_tree())
    return str(error.value)


def confirm(**changes: Any) -> dict[str, Any]:
    return {"confirm": {**STUDY["confirm"], **changes}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (confirm(blocks={"seed": [10, 0]}), "confirm.blocks.seed: 0 is what the search itself runs with"),
        (confirm(blocks={"seed": [1, 2], "split.seed": [0, 1]}), "confirm.blocks.split.seed: 0 is what the search"),
        (confirm(blocks={"seed": [1, 1]}), "confirm.blocks: 0 and 1 are the same runs"),
        (confirm(blocks={"seed": [1, 2], "split.seed": [1]}), "confirm.blocks.split.seed: 1 values, seed has 2"),
        (confirm(blocks={"seed": ["many"]}), 'seed="many": expected an integer'),
        (
            confirm(blocks={"augment.flip": [0.5]}),
            "augment.flip varies from block to block; the search can't change augment.flip as well",
        ),
        (confirm(blocks={}), "confirm.blocks"),
        (confirm(against=["plane"]), "confirm.against.0: no reference 'plane'; did you mean 'plain'?"),
        (confirm(against=["plain", "plain"]), "confirm.against.1: 'plain' is given twice"),
        (
            confirm(blocks={"evaluate.part": ["test"]}),
            "fresh runs are judged by one part of the data; give confirm.part",
        ),
        (confirm(analysis={"margin": 0.003}), "confirm.analysis.margin: 0.003 points of val/miou; 0.3 is 0.3 points"),
        ({"references": {"plain": {}, "trial 3": {}}}, "references.trial 3: the search and its trials are called so"),
        ({"references": {"plain": {}, "search": {}}}, "references.search: the search and its trials are called so"),
        (confirm(top=5), "confirm.top: 5 of 4 trials; expected at most search.trials"),
        (
            {"objective": [{"metric": "val/miou"}, {"metric": "time/seconds", "mode": "min"}]},
            "confirm: several objectives have no single winner; give one, or compare points of your choice with",
        ),
        (
            {"references": {"plain": {"seed": 3}}},
            "confirm.blocks.seed: seed varies from block to block; the reference 'plain' can't change seed as well",
        ),
        (
            {"reference_parameters": {"grey": TUNED["reference_parameters"]["gray"]}},
            "no reference 'grey'; did you mean",
        ),
        ({"reference_parameters": {"gray": {}}}, "reference_parameters.gray: no parameter"),
        (
            {"reference_parameters": {"gray": {"augment.gray": {"choice": [0.1, 0.2]}}}},
            "references.gray gives augment.gray; a parameter is what the reference leaves open",
        ),
        (
            {"reference_parameters": {"gray": {"optim.lr": {"log": [0.1, 1.0]}}}},
            "a grid needs parameters of int, choice",
        ),
        ({"reference_parameters": {"gray": {"optim.powr": {"choice": [1]}}}}, "optim.powr: unknown key"),
    ],
)
def test_what_cannot_be_confirmed_is_refused_before_anything_runs(changes: dict[str, Any], said: str) -> None:
    assert said in refused(**changes)


def test_a_study_without_spaces_of_references_keeps_its_identity() -> None:
    assert "reference_parameters" not in study_of().decisive()
    assert "reference_parameters" in study_of(**TUNED).decisive()
    assert "confirm" not in study_of().decisive()


def test_the_command_line_reaches_blocks_and_spaces_of_references(tmp_path: Path, monkeypatch) -> None:
    import yaml

    from orchestrator.study import load_study
    from tests.runs import SMALL

    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(yaml.safe_dump(SMALL))
    Path("search.yaml").write_text(yaml.safe_dump({**STUDY, "base": "small.yaml"}))
    changes = ["confirm.blocks.split.seed=[4,5,6]", "reference_parameters.gray.optim.power={choice: [0.5, 0.7]}"]
    study, _ = load_study("search.yaml", changes)
    assert study.confirm is not None
    assert study.confirm.blocks == {"seed": (10, 11, 12), "split.seed": (4, 5, 6)}
    assert list(study.reference_parameters["gray"]) == ["optim.power"]
    with pytest.raises(ConfigError, match=r"search\.yaml:\d+: confirm\.blocks\.seed: 11 is what the search itself"):
        load_study("search.yaml", ["seed=11"])
