"""A study that adds blocks: the driver's order of runs, with ends that are written instead of trained."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from guidedmix_core import ConfigError, Tree, build
from orchestrator.ablation import AblationStudy
from orchestrator.cells_table import cells_table
from orchestrator.comparison import compare
from orchestrator.driver import driving
from orchestrator.folder import StudyFolder, now, write_json
from orchestrator.notes import notes
from orchestrator.proposals import Job
from orchestrator.results import load_trial, load_trials
from orchestrator.study import identity
from tests.runs import small_tree

STUDY: dict[str, Any] = {
    "base": "small",
    "reference": "usual",
    "ceiling": "all",
    "cells": {"all": {"split.labeled": 1.0}, "usual": {}, "slow": {"optim.lr": 1e-5}, "noisy": {"optim.lr": 0.1}},
    "blocks": {"seed": [0, 1, 2]},
    "sequential": {"max_blocks": 5},
    "analysis": {"correction": "none"},
}
GAINS = {
    "all": (0.2, 0.21, 0.19),
    "usual": (0.0,) * 5,
    "slow": (-0.2, -0.201, -0.199),
    "noisy": (0.01, -0.02, 0.005, 0.0, -0.01),
}


def study_of(**changes: Any) -> AblationStudy:
    return build(Tree({**STUDY, **changes}, {}), AblationStudy)


def end(job: Job) -> None:
    """As a complete run leaves it."""
    assert job.cell is not None
    assert job.block is not None
    score = 0.5 + 0.01 * job.block + GAINS[job.cell][job.block]
    what = {"state": "complete", "objective": score, "step": 4, "steps": 4, "seconds": 1.0, "best": None}
    what |= {"metrics": {"val/miou": score}, "failure": None, "started": now(), "ended": now(), "stages": []}
    write_json(job.folder.result, {"fingerprint": job.fingerprint, **what})


def made(folder: StudyFolder, most: int = 99, at_once: int = 1, **changes: Any) -> list[tuple[str | None, int | None]]:
    """The runs of one start, in order; it is cut off after so many."""
    order: list[tuple[str | None, int | None]] = []
    with driving(study_of(**changes), small_tree(), folder, []) as driver:
        out: list[Job] = []
        while len(order) < most:
            while len(out) < at_once and (job := driver.next()) is not None:
                order.append((job.cell, job.block))
                out.append(job)
            if not out:
                break
            end(job := out.pop(0))
            driver.ended(job, load_trial(job.folder))
    return order


LISTED = [(cell, block) for block in range(3) for cell in ("usual", "all", "slow", "noisy")]
ADDED = [("usual", 3), ("noisy", 3), ("usual", 4), ("noisy", 4)]


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "demo")


def test_only_what_is_undecided_and_the_reference_get_another_block(folder: StudyFolder) -> None:
    assert made(folder, at_once=5) == [*LISTED, *ADDED]
    assert folder.events()[-1]["event"] == "study_ended"
    assert folder.request()["planned"] == 16
    assert made(folder) == []


def test_blocks_that_are_added_count_on_in_every_path(folder: StudyFolder) -> None:
    made(folder, blocks={"seed": [0, 1, 2], "split.seed": [7, 5, 6]})
    last = next(record for record in load_trials(folder) if (record.cell, record.block) == ("noisy", 4))
    assert (last.params["seed"], last.params["split.seed"]) == (4, 9)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    made(finished := StudyFolder(tmp_path_factory.mktemp("studies") / "demo"))
    return finished


@pytest.mark.parametrize("cut", [5, 13])
def test_an_interrupted_study_takes_the_same_way(folder: StudyFolder, cut: int) -> None:
    assert made(folder, most=cut) + made(folder) == [*LISTED, *ADDED]


def test_the_table_says_when_and_why_a_cell_was_decided(finished: StudyFolder) -> None:
    comparison = compare(finished.request(), load_trials(finished))
    Console(file=(file := io.StringIO()), width=120).print(cells_table(comparison))
    rows = {line.split()[0]: line.split() for line in file.getvalue().splitlines()}
    assert "decided" in rows["cell"]
    assert [rows[cell][1] for cell in ("all", "usual", "slow", "noisy")] == ["3", "5", "3", "5"]
    assert "worse after 3" in " ".join(rows["slow"])
    assert "no difference shown open" in " ".join(rows["noisy"])
    assert any("repeated looks, after 3 to 5 blocks" in note for note in notes(comparison))
    # 2 / 2^5 times three looks; if there may be more blocks, 2 / 2^8 times six is the first below 0.05
    assert any("can't go below 0.188; it takes 8 to reach 0.05" in note for note in notes(comparison))


def test_repeated_intervals_are_wider_than_those_of_one_look(finished: StudyFolder) -> None:
    request, records = finished.request(), load_trials(finished)
    cells = {cell.name: cell for cell in compare(request, records).cells}
    plain = {cell.name: cell for cell in compare({**request, "sequential": None}, records).cells}
    wide, narrow = cells["noisy"].versus, plain["noisy"].versus
    assert wide is not None
    assert narrow is not None
    assert (wide.half or 0) > 1.2 * (narrow.half or 9)
    assert cells["all"].versus == plain["all"].versus  # the ceiling has its listed blocks, and one look


def test_before_the_first_look_nothing_is_claimed(folder: StudyFolder) -> None:
    made(folder, most=11)
    verdicts = {cell.name: cell.verdict for cell in compare(folder.request(), load_trials(folder)).cells}
    assert (verdicts["slow"], verdicts["noisy"]) == ("no look yet", "no look yet")


def test_what_was_declared_before_the_first_look_is_the_study() -> None:
    def identity_of(**changes: Any) -> str:
        return identity(study_of(**changes), small_tree())

    other = [
        {"sequential": {"max_blocks": 6}},
        {"blocks": {"seed": [0, 1, 2, 3]}},
        {"analysis": {"correction": "holm"}},
        {"analysis": {"correction": "none", "margin": 0.5}},
        {"sequential": None},
    ]
    assert len({identity_of(), *(identity_of(**changes) for changes in other)}) == 6
    assert identity_of(analysis={"correction": "none", "image_resamples": None}) == identity_of()
    assert identity_of(cells={**STUDY["cells"], "more": {"optim.lr": 0.2}}) == identity_of()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"blocks": {"seed": [0]}}, "expected 2 to max_blocks=5 listed ones before the first look, not 1"),
        ({"blocks": {"seed": list(range(6))}}, "expected 2 to max_blocks=5 listed ones before the first look, not 6"),
        ({"blocks": {"seed": [0, 1], "split.labeled_list": ["a.txt", "b.txt"]}}, "'a.txt' has no next one; list 5"),
        ({"sequential": {"max_blocks": 2}}, "sequential.max_blocks=2"),
        ({"analysis": {"margin": 0.003}}, "0.003 points of val/miou; 0.3 is 0.3 points, a share of 0.003"),
        ({"analysis": {"correction": "bonferroni"}}, 'analysis.correction="bonferroni"'),
        ({"analysis": {"interval": 95}}, "analysis.interval=95"),
    ],
)
def test_a_request_that_can_not_be_judged_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        study_of(**changes)
    assert problem in str(raised.value)
