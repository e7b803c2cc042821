"""Shared stages: which runs need which, in what order runs are handed out, and that sharing changes no number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from guidedmix_core import StageFolder, Tree, build, digest, dump, lineage
from guidedmix_core.config import Evaluate
from orchestrator.ablation import AblationStudy
from orchestrator.driver import driving
from orchestrator.executors.inline import run
from orchestrator.folder import StudyFolder
from orchestrator.results import load_trials
from orchestrator.stage_tree import Chain, Need, StageStore, first_free, in_order, needs_of
from tests.runs import small_run, small_tree

WARM = {"stages": [{"method": "supervised", "steps": 2}], "train.steps": 2}
CELLS: dict[str, Any] = {
    "cold": {},
    "warm": WARM,
    "warm_slow": {**WARM, "optim.lr": 0.002, "method.labeled": {"normalize": "all"}},
    "warm_mean": {**WARM, "method.name": "mean_teacher"},
}


def study_of(**changes: Any) -> AblationStudy:
    request = {"base": "small", "reference": "cold", "cells": CELLS, "blocks": {"seed": [0, 1]}, **changes}
    return build(Tree(request, {}), AblationStudy)


def need(name: str, steps: int = 10) -> Need:
    return Need(name, None, "supervised", steps)


def chain(*stages: str, block: int = 0, is_first: bool = False, steps: int = 10) -> Chain:
    return Chain(block, is_first, tuple(map(need, stages)), steps)


def store_of(root: Path, *trained: dict[str, Any]) -> StageStore:
    """A store that has the first stage of these runs."""
    for changes in trained:
        first = small_run(changes).up_to(0)
        folder = StageFolder(root / lineage(first))
        folder.path.mkdir(parents=True)
        folder.config.write_text(yaml.safe_dump(dump(first.model_copy(update={"evaluate": Evaluate()}))))
        folder.weights.touch()
    return StageStore(root)


def test_runs_that_begin_alike_need_the_same_stage_whatever_follows_and_however_they_are_judged() -> None:
    (one,), (other,) = needs_of(small_run(WARM)), needs_of(small_run({**WARM, "method.name": "mean_teacher"}))
    (judged,) = needs_of(small_run({**WARM, "evaluate.every": 1}))
    (longer,) = needs_of(small_run({**WARM, "stages": [{"method": "supervised", "steps": 3}]}))
    assert one == other == judged
    assert longer.lineage != one.lineage
    assert (one.method, one.steps) == ("supervised", 2)


def test_a_later_stage_is_named_by_all_before_it_and_masks_are_a_need_of_their_own() -> None:
    retrained = {"method": {"name": "st_plus_plus", "reliable_share": 0.5}, "steps": 3}
    config = small_run({"method.name": "st_plus_plus", "stages": [{"method": "supervised", "steps": 3}, retrained]})
    needs = needs_of(config)
    assert [(each.method, each.steps, each.masks is None) for each in needs] == [
        ("supervised", 3, True),
        ("supervised", 0, False),
        ("st_plus_plus", 3, True),
        ("st_plus_plus", 0, False),
    ]
    assert len(set(needs)) == 4


def test_each_block_begins_with_its_reference_then_makes_shared_stages_then_the_longest() -> None:
    chains = [
        chain(steps=5),
        chain(is_first=True, steps=1),
        chain(steps=9),
        chain("a", steps=3),
        chain("a", steps=7),
        chain("alone", steps=6),
        chain(block=1, steps=2),
        chain(block=1, is_first=True, steps=2),
    ]
    assert in_order(chains) == [1, 3, 2, 4, 5, 0, 7, 6]


def test_runs_of_one_length_stay_as_in_the_file() -> None:
    assert in_order([chain() for _ in range(4)]) == [0, 1, 2, 3]


def test_a_run_is_held_back_while_another_makes_its_stage(tmp_path: Path) -> None:
    store = StageStore(tmp_path)
    waiting = {4: chain("a", "b"), 5: chain("c"), 6: chain()}
    assert first_free(waiting, [], store) == 4
    assert first_free(waiting, [chain("a")], store) == 5
    assert first_free(waiting, [chain("a"), chain("c")], store) == 6
    assert first_free({4: chain("a")}, [chain("a")], store) is None
    assert first_free({}, [], store) is None


def test_a_run_is_free_as_soon_as_its_stage_is_there(tmp_path: Path) -> None:
    needs = needs_of(small_run(WARM))
    runs = [Chain(0, False, needs, 4)]
    assert first_free(dict(enumerate(runs)), runs, store_of(tmp_path / "none")) is None
    assert first_free(dict(enumerate(runs)), runs, store_of(tmp_path / "there", WARM)) == 0


def test_no_worker_gets_a_run_that_would_wait_for_a_lock(tmp_path: Path) -> None:
    """With room for four runs: the reference, one that makes the stage, and what needs none of it."""
    with driving(study_of(), small_tree(), StudyFolder(tmp_path / "s"), []) as driver:
        jobs = [driver.next() for _ in range(5)]
        assert [(job.cell, job.block) for job in jobs if job] == [("cold", 0), ("warm", 0), ("cold", 1), ("warm", 1)]
        assert jobs[4] is None
        made = jobs[1]
        assert made is not None
        first = lineage(made.config.up_to(0))
        store_of(tmp_path / "stages", {**WARM, "seed": 0})
        assert (tmp_path / "stages" / first / "weights.pt").exists()
        assert [(job.cell, job.block) for _ in range(2) if (job := driver.next())] == [
            ("warm_slow", 0),
            ("warm_mean", 0),
        ]
        assert driver.next() is None


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    folder = StudyFolder(tmp_path_factory.mktemp("shared") / "study")
    run(study_of(blocks={"seed": [0]}), small_tree(), folder, [], "cpu")
    return folder


def test_a_stage_is_trained_once_and_named_in_its_file_as_in_the_plan(shared: StudyFolder) -> None:
    (stage,) = shared.stages.iterdir()
    states = {record.cell: [each["state"] for each in record.stages] for record in load_trials(shared)}
    assert states == {"cold": [], "warm": ["trained"], "warm_slow": ["reused"], "warm_mean": ["reused"]}
    assert digest(yaml.safe_load((stage / "stage.yaml").read_text())) == lineage(small_run(WARM).up_to(0))
    assert StageStore(shared.stages).has(needs_of(small_run(WARM))[0])


@pytest.mark.parametrize("cell", ["warm_slow", "warm_mean"])
def test_a_run_that_shares_its_stage_is_to_the_bit_the_run_that_does_not(
    shared: StudyFolder, tmp_path: Path, cell: str
) -> None:
    """Alone in another folder it trains the stage itself."""
    alone = StudyFolder(tmp_path / "alone")
    cells = {cell: CELLS[cell]}
    run(study_of(reference=cell, cells=cells, blocks={"seed": [0]}), small_tree(), alone, [], "cpu")
    (own,) = load_trials(alone)
    (forked,) = [record for record in load_trials(shared) if record.cell == cell]
    assert [stage["state"] for stage in own.stages] == ["trained"]
    assert measured(own.metrics) == measured(forked.metrics)
    assert_same(weights(alone, own.fingerprint), weights(shared, forked.fingerprint))


def measured(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith("time/")}


def weights(folder: StudyFolder, fingerprint: str) -> dict[str, torch.Tensor]:
    return torch.load(folder.trial(fingerprint).checkpoint / "last.pt", weights_only=True)["nets"]


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
