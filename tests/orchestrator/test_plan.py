"""What a plan says of a study: its runs, what became of them, its stages, its cost, and what it can show."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
import yaml

from guidedmix_core import ConfigError, RunConfig, Tree, build, dump, fingerprint, override
from orchestrator import costs
from orchestrator.ablation import AblationStudy
from orchestrator.clusters import Cluster, Machine
from orchestrator.clusters.local import Local
from orchestrator.comparison import compare
from orchestrator.costs import Rate, cost_class, evaluations
from orchestrator.folder import StudyFolder, append_line, write_json
from orchestrator.notes import notes
from orchestrator.packing import packed
from orchestrator.plan import Needed, Plan, needed_by, over_budget, plan_study
from orchestrator.plan_table import as_json, facts, title, warnings
from orchestrator.planned_runs import TRIALS, complete_elsewhere
from orchestrator.resources import Budget, Scaling
from orchestrator.results import load_trials
from orchestrator.study import Objective, SearchStudy
from orchestrator.summary import write_summary
from orchestrator.trial import hand_out
from tests.orchestrator.ablation_folder import SCORES, write_ablation
from tests.runs import small_run, small_tree

HERE = Machine(gpus=0, gpu=None, gpu_bytes=None, cpu="cpu (test)", cpus=4)
GPUS = Machine(gpus=2, gpu="GPU", gpu_bytes=80e9, cpu="cpu (test)", cpus=4)
WARM = {"stages": [{"method": "supervised", "steps": 3}], "train.steps": 2}
CELLS: dict[str, Any] = {"usual": {}, "warm": WARM, "mean": {**WARM, "method.name": "mean_teacher"}}


def study_of(**changes: Any) -> AblationStudy:
    request = {"base": "small", "reference": "usual", "cells": CELLS, "blocks": {"seed": [0, 1]}, **changes}
    return build(Tree(request, {}), AblationStudy)


def plan_of(
    folder: StudyFolder, study: Any = None, machine: Machine = HERE, cluster: Cluster | None = None, **scaling: Any
) -> Plan:
    study = study or study_of(scaling=scaling)
    needed = needed_by(study.scaling, "auto")
    return plan_study(study, small_tree(), folder, needed, machine, cluster or Local(), None)


def config_of(cell: str, seed: int = 0) -> RunConfig:
    return build(override(small_tree(), {**CELLS[cell], "seed": seed}, "test"))


def begin(folder: StudyFolder, cell: str, seed: int) -> Path:
    config = config_of(cell, seed)
    trial = folder.trial(fingerprint(config))
    hand_out(trial, config, label=cell, cell=cell, block=seed)
    folder.append({"event": "trial_started", "fingerprint": trial.fingerprint})
    return trial.path


def end(folder: StudyFolder, cell: str, seed: int, state: str = "complete", seconds: float = 8.0) -> None:
    """A run that has ended, as its trial and the driver write it."""
    trial = folder.trial(begin(folder, cell, seed).name)
    config = config_of(cell, seed)
    trial.config.write_text(yaml.safe_dump(dump(config)))
    write_json(trial.environment, {"device": HERE.cpu})
    trial.counts.touch()
    trial.metrics.touch()
    steps = config.train.steps
    ended = {"state": state, "objective": 0.4, "step": steps, "steps": steps, "seconds": seconds}
    rest = {"metrics": {"val/miou": 0.4}, "best": None, "failure": None, "started": "then", "ended": "now"}
    write_json(trial.result, {"fingerprint": trial.fingerprint, **ended, **rest})
    folder.append({"event": "trial_ended", "fingerprint": trial.fingerprint, "state": state})


def claim(folder: StudyFolder, study: AblationStudy | None = None) -> None:
    study = study or study_of()
    request = {"kind": "ablate", "objectives": [dump(goal) for goal in study.objectives], "run": dump(small_run())}
    rest = {**dump(study), **study.plan(small_tree())}
    folder.claim({**request, **{key: value for key, value in rest.items() if key not in ("objective",)}}, "identity")


def probed(
    folder: StudyFolder, *cells: str, step: float = 1.0, evaluation: float = 10.0, peak: int | None = None
) -> None:
    """As after a probe of the first runs of these cells, on any device that is asked for."""
    seconds = {"step_seconds": step, "evaluation_seconds": evaluation}
    row = {**seconds, "peak_bytes": peak, "device_bytes": peak and int(80e9)}
    rows = {cost_class(dump(config_of(cell))): row for cell in cells}
    write_json(folder.path.parent / costs.PROBES, {HERE.cpu: rows, str(GPUS.gpu): rows})


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "study")


def test_of_a_study_that_was_never_begun_every_run_is_new_and_nothing_is_written(folder: StudyFolder) -> None:
    plan = plan_of(folder)
    assert [(cell.name, cell.states, cell.steps_left) for cell in plan.cells] == [
        ("usual", {"new": 2}, 8),
        ("warm", {"new": 2}, 4),
        ("mean", {"new": 2}, 4),
    ]
    assert not folder.path.exists()


def test_what_became_of_runs_is_counted(folder: StudyFolder) -> None:
    claim(folder)
    end(folder, "usual", 0)
    end(folder, "warm", 0, "failed")
    path = begin(folder, "usual", 1)
    append_line(path / "metrics.jsonl", {"step": 3, "time": "now", "val/miou": 0.1})
    plan = plan_of(folder)
    assert plan.states == {"complete": 1, "failed": 1, "begun": 1, "new": 3}
    usual = plan.cells[0]
    assert (usual.states, usual.steps_left) == ({"complete": 1, "begun": 1}, 1)
    assert "remove their folders to repeat them" in facts(plan)["failed"]


def test_a_run_whose_end_the_journal_lacks_is_known_by_its_record(folder: StudyFolder) -> None:
    claim(folder)
    end(folder, "usual", 0)
    folder.journal.unlink()
    assert plan_of(folder).states["complete"] == 1


def test_a_run_whose_folder_was_removed_is_new_again(folder: StudyFolder) -> None:
    claim(folder)
    end(folder, "usual", 0)
    trial = folder.trial(fingerprint(config_of("usual")))
    for path in trial.path.iterdir():
        path.unlink()
    trial.path.rmdir()
    assert plan_of(folder).states == {"new": 6}


def test_runs_that_would_be_taken_over_from_another_study_beside_are_found(folder: StudyFolder, tmp_path: Path) -> None:
    """A failed run is not, nor one whose files were removed, nor any if the study wants its own."""
    other = StudyFolder(tmp_path / "other")
    claim(other)
    end(other, "usual", 0)
    end(other, "usual", 1, "failed")
    end(other, "warm", 0)
    other.trial(fingerprint(config_of("warm"))).counts.unlink()
    assert plan_of(folder).states == {"elsewhere": 1, "new": 5}
    assert plan_of(folder, study_of(reuse=False)).states == {"new": 6}
    wanted = [fingerprint(config_of("usual", seed)) for seed in (0, 1)]
    assert complete_elsewhere(folder, wanted, Objective()) == {wanted[0]}


def test_equal_cells_share_their_runs(folder: StudyFolder) -> None:
    plan = plan_of(folder, study_of(cells={**CELLS, "same": {"optim.lr": 0.002}}))
    assert [cell.name for cell in plan.cells] == ["usual", "warm", "mean"]


def test_a_stage_that_cells_share_is_counted_once_a_block(folder: StudyFolder) -> None:
    """Two cells x two blocks need a stage of three steps; two are made instead of four."""
    plan = plan_of(folder)
    (group,) = plan.stages
    assert (group.method, group.steps, group.count, group.runs, group.cells) == (
        "supervised",
        3,
        2,
        4,
        ("warm", "mean"),
    )
    assert plan.steps_left == 8 + 4 + 4 + 2 * 3
    assert plan.steps_saved == 2 * 3


def test_a_whole_chain_stands_as_a_tree(folder: StudyFolder) -> None:
    first = {"method": "supervised", "steps": 3}
    again = {"method": {"name": "st_plus_plus", "reliable_share": 0.5}, "steps": 3}
    cells = {
        "usual": {},
        "once": {"method.name": "st_plus_plus", "stages": [first]},
        "twice": {"method.name": "st_plus_plus", "stages": [first, again]},
    }
    (root,) = plan_of(folder, study_of(cells=cells)).stages
    assert (root.method, root.cells, root.runs) == ("supervised", ("once", "twice"), 4)
    masks = {(group.method, group.steps, group.cells) for group in root.then}
    assert masks == {("supervised", 0, ("once",)), ("supervised", 0, ("twice",))}
    (twice,) = [group for group in root.then if group.cells == ("twice",)]
    assert [(group.method, group.steps) for group in twice.then] == [("st_plus_plus", 3)]


def test_hours_are_steps_and_evaluations_times_what_a_probe_measured(folder: StudyFolder) -> None:
    """usual: 4 steps and 2 evaluations; the others 2 and 1; the stages 3 and 1. Seconds: 2x24 + 4x12 + 2x13."""
    probed(folder, "usual", "warm", "mean")
    plan = plan_of(folder)
    assert plan.seconds_left == 2 * 24 + 4 * 12 + 2 * 13
    assert plan.hours == pytest.approx(122 / 3600)
    assert plan.seconds_saved == 2 * 13
    assert plan.wall_seconds == pytest.approx(122 / 4)
    assert not plan.unmeasured


def test_a_run_that_is_begun_counts_what_is_left_of_it(folder: StudyFolder) -> None:
    probed(folder, "usual", "warm", "mean")
    claim(folder)
    append_line(begin(folder, "usual", 1) / "metrics.jsonl", {"step": 2, "time": "now", "val/miou": 0.1})
    assert plan_of(folder).cells[0].seconds_left == 24 + (2 + 10)


def test_complete_runs_count_more_than_a_probe(folder: StudyFolder) -> None:
    probed(folder, "usual", "warm", "mean")
    claim(folder)
    end(folder, "usual", 0, seconds=100.0)
    write_summary(folder)
    usual = plan_of(folder).cells[0]
    assert (usual.run_seconds, usual.seconds_left, usual.source) == (100.0, 100.0, "run")


def test_complete_runs_of_another_study_tell_the_cost_but_not_those_of_another_device(
    folder: StudyFolder, tmp_path: Path
) -> None:
    other = StudyFolder(tmp_path / "other")
    claim(other)
    end(other, "usual", 1, seconds=40.0)
    write_summary(other)
    study = study_of(blocks={"seed": [0, 2]})
    assert plan_of(folder, study).cells[0].run_seconds == 40.0
    assert plan_of(folder, study, Machine(0, None, None, "cpu (other)", 4)).cells[0].run_seconds is None


def test_a_part_that_nobody_measured_makes_the_sum_unknown_and_says_how_to_measure(folder: StudyFolder) -> None:
    probed(folder, "usual")
    plan = plan_of(folder)
    assert (plan.seconds_left, plan.hours) == (None, None)
    assert {run.method.name for run in plan.unmeasured.values()} == {"mean_teacher"}
    assert "--probe measures" in facts(plan)["cost"]


@pytest.mark.parametrize(
    "change",
    [{"seed": 5}, {"split.labeled": 2}, {"optim.lr": 0.5}, {"method.threshold": 0.3}, {"train.steps": 9}, WARM],
)
def test_what_costs_nothing_changes_no_cost_class(change: dict[str, Any]) -> None:
    mean = {"method.name": "mean_teacher"}
    assert cost_class(dump(small_run({**mean, **change}))) == cost_class(dump(small_run(mean)))


@pytest.mark.parametrize(
    "change",
    [
        {"method.name": "supervised"},
        {"method.weight": 0.0},
        {"train.batch_size": 8},
        {"evaluate.every": 1},
        {"data.num_val": 9},
    ],
)
def test_what_costs_something_is_another_cost_class(change: dict[str, Any]) -> None:
    mean = {"method.name": "mean_teacher"}
    assert cost_class(dump(small_run({**mean, **change}))) != cost_class(dump(small_run(mean)))


@pytest.mark.parametrize(("steps", "since", "number"), [(4, 0, 2), (5, 0, 3), (5, 2, 2), (5, 3, 2), (1, 0, 1)])
def test_a_run_is_judged_at_each_period_and_at_its_end(steps: int, since: int, number: int) -> None:
    assert evaluations(small_run({"train.steps": steps, "evaluate.every": 2}), since) == number


def test_a_rate_adds_evaluations_to_steps() -> None:
    assert Rate(0.5, 3.0, "probe").seconds(10, 2) == 11.0


def test_the_price_is_that_of_the_cluster_and_its_gpus_bound_how_many_run_at_once(folder: StudyFolder) -> None:
    probed(folder, "usual", "warm", "mean", peak=int(20e9))
    cluster = Local(gpus=3, gpu_memory_gb=80.0, price_per_gpu_hour=36.0, currency="EUR")
    plan = plan_of(folder, None, GPUS, cluster, gpus_per_worker=1.0)
    assert (plan.needed, plan.at_once) == (Needed(1.0, 1.0), 3)
    assert plan.price == pytest.approx(122 / 3600 * 36)
    assert plan.fit_a_gpu == math.floor(80e9 / (20e9 * 1.1 + 0.6e9)) == 3
    assert facts(plan)["price"].endswith("1.22 EUR")


def test_packed_runs_share_a_gpu_as_their_measured_memory_lets(folder: StudyFolder) -> None:
    study = study_of(scaling={"pack": "auto"})
    probed(folder, "usual", peak=int(20e9))
    with pytest.raises(ConfigError, match=r"scaling.pack=auto: the memory of 2 of 6 runs was never measured on a GPU"):
        packed(study, small_tree(), folder)
    probed(folder, "usual", "warm", "mean", peak=int(20e9))
    assert packed(study, small_tree(), folder) == Scaling(gpus_per_worker=1 / 3)
    plan = plan_of(folder, study, GPUS)
    assert (plan.needed, plan.at_once) == (Needed(1 / 3, 1.0), 6)
    probed(folder, "usual", "warm", "mean", peak=int(79e9))
    with pytest.raises(ConfigError, match="does not fit"):
        packed(study, small_tree(), folder)
    assert packed(study_of(), small_tree(), folder) == Scaling()


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"gpus_per_worker": 0.4}, "0.4 of a GPU: expected 0, a whole number, or 1/n"),
        ({"gpus_per_worker": 1.5}, "1.5 of a GPU"),
        ({"gpus_per_worker": 0.5, "workers": 2}, "takes whole GPUs"),
        ({"pack": "auto", "gpus_per_worker": 0.5}, "auto says itself"),
        ({"pack": "auto", "workers": 2}, "auto says itself"),
    ],
)
def test_a_share_of_a_gpu_that_can_not_be_is_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        study_of(scaling=given)
    assert study_of(scaling={"gpus_per_worker": 0.33}).scaling.gpus_per_worker == 0.33


def test_a_machine_that_is_too_small_is_told(folder: StudyFolder) -> None:
    plan = plan_of(folder, gpus_per_worker=1.0)
    assert plan.at_once == 0
    assert "No run fits: one needs 1 GPUs" in warnings(plan)[0]


@pytest.mark.parametrize(("device", "gpus"), [("auto", 0.5), ("cpu", 0.0), ("cuda", 0.5)])
def test_the_device_is_the_executors(device: str, gpus: float) -> None:
    assert needed_by(Scaling(gpus_per_worker=0.5), device).gpus == gpus
    assert needed_by(Scaling(workers=2), "cuda") == Needed(2.0, 2.0)


def test_above_a_budget_the_plan_says_what_and_by_how_much(folder: StudyFolder) -> None:
    probed(folder, "usual", "warm", "mean", step=3600.0, evaluation=0.0)
    plan = plan_of(folder)
    (problem,) = over_budget(plan, Budget(cpu_hours=10.0))
    assert problem.startswith("budget.cpu_hours=10: 6 runs are left and take 22 CPU-hours; raise budget.cpu_hours")
    assert over_budget(plan, Budget(cpu_hours=22.0, gpu_hours=0.0, price=0.0)) == []


def test_what_was_never_measured_passes_no_budget(folder: StudyFolder) -> None:
    (problem,) = over_budget(plan_of(folder), Budget(cpu_hours=1e9))
    assert "never measured on this device" in problem
    assert "--probe" in problem


def test_without_a_price_no_price_can_be_kept(folder: StudyFolder) -> None:
    probed(folder, "usual", "warm", "mean")
    (problem,) = over_budget(plan_of(folder, None, GPUS, gpus_per_worker=1.0), Budget(price=1.0))
    assert problem.startswith("budget.price=1: the cluster's file has no price_per_gpu_hour")


def test_a_finished_study_is_within_any_budget(folder: StudyFolder) -> None:
    study = study_of(cells={"usual": {}}, blocks={"seed": [0]})
    claim(folder, study)
    end(folder, "usual", 0)
    assert over_budget(plan_of(folder, study), Budget(cpu_hours=0.0)) == []


def test_without_past_noise_the_effect_is_that_of_an_assumed_one(folder: StudyFolder) -> None:
    effect = plan_of(folder, study_of(blocks={"seed": [0, 1, 2]})).effect
    assert effect is not None
    assert effect.alone == pytest.approx(0.0261, abs=1e-4)
    assert effect.corrected == pytest.approx(0.0370, abs=1e-4)  # two comparisons: at 0.025
    assert effect.noise.source.startswith("assumed")


@pytest.mark.parametrize(
    ("cells", "comparisons"),
    [
        ({}, 2),
        ({"same": {"optim.lr": 0.002}}, 2),  # as usual has it
        ({"all": {"split.labeled": 1.0}}, 2),  # the ceiling
        ({"slow": {"optim.lr": 1e-5}}, 3),
    ],
)
def test_what_is_corrected_for_is_what_differs_from_the_reference(
    folder: StudyFolder, cells: dict[str, Any], comparisons: int
) -> None:
    study = study_of(cells={**CELLS, **cells}, ceiling="all" if "all" in cells else None)
    effect = plan_of(folder, study).effect
    assert effect is not None
    assert effect.comparisons == comparisons


def test_the_cells_of_a_design_are_corrected_for(folder: StudyFolder) -> None:
    factors = {"lr": {"usual": {}, "slow": {"optim.lr": 1e-5}}, "flip": {"on": {}, "off": {"augment.flip": 0.0}}}
    study = study_of(cells={"more": {"optim.lr": 0.1}}, factors=factors, design="leave_one_out", reference="full")
    assert "after correcting for 3 comparisons" in facts(plan_of(folder, study))["shows"]


def test_without_a_correction_there_is_one_figure_at_the_level_of_the_analysis(folder: StudyFolder) -> None:
    effects = [
        plan_of(folder, study_of(analysis=analysis)).effect
        for analysis in ({}, {"correction": "none"}, {"correction": "none", "interval": 0.9})
    ]
    usual, alone, wide = [effect and (effect.alone, effect.corrected) for effect in effects]
    assert usual is not None
    assert alone == (usual[0], None)
    assert wide is not None
    assert wide[0] < usual[0]
    plan = plan_of(folder, study_of(analysis={"correction": "none"}))
    assert "correcting" not in facts(plan)["shows"]


def test_of_a_study_that_adds_blocks_cost_and_effect_are_those_of_the_most_blocks(folder: StudyFolder) -> None:
    probed(folder, "usual", "warm", "mean", step=3600.0, evaluation=0.0)
    study = study_of(blocks={"seed": [0, 1, 2]}, sequential={"max_blocks": 5}, budget={"cpu_hours": 1.0})
    plan = plan_of(folder, study, cluster=Local(price_per_gpu_hour=1.0), machine=GPUS)
    said = facts(plan)
    assert title(plan) == "study: 3 cells over 3 to 5 blocks"
    assert said["left"] == "15 runs, 55 steps at most"
    assert said["cost"].startswith("55.0 CPU-hours at most, if no cell is decided before the last block")
    assert "with 3 to 5 blocks and a look after each" in said["shows"]
    assert "15 runs are left and take at most 55 CPU-hours" in over_budget(plan, study.budget)[0]


def test_repeated_looks_have_their_price_in_what_can_be_shown(folder: StudyFolder) -> None:
    looks = study_of(blocks={"seed": [0, 1, 2]}, sequential={"max_blocks": 10})
    once = study_of(blocks={"seed": list(range(10))})
    found = [plan_of(folder, study).effect for study in (looks, once)]
    first, second = [effect.alone / effect.noise.sd for effect in found if effect is not None]
    assert first == pytest.approx(1.288, abs=0.01)
    assert second == pytest.approx(0.996, abs=0.001)


def test_differences_are_told_in_the_unit_of_the_objective(folder: StudyFolder) -> None:
    study = study_of(objective={"metric": "train/loss", "mode": "min"})
    assert facts(plan_of(folder, study))["shows"].startswith("not known")
    plan = plan_study(study, small_tree(), folder, needed_by(study.scaling, "auto"), HERE, Local(), 0.4)
    assert plan.metric == "train/loss"
    assert "(sd 0.4, given)" in facts(plan)["shows"]
    assert "points" not in facts(plan)["shows"]


def test_one_is_no_plural(folder: StudyFolder) -> None:
    plan = plan_of(folder, study_of(cells={"usual": {}}, blocks={"seed": [0]}))
    assert title(plan).endswith(": 1 cell over 1 block")
    assert facts(plan)["left"].startswith("1 run, ")


def test_one_block_shows_nothing(folder: StudyFolder) -> None:
    plan = plan_of(folder, study_of(blocks={"seed": [0]}))
    assert plan.effect is None
    assert "one block has no spread" in facts(plan)["shows"]


def test_the_noise_is_that_of_the_middle_cell(tmp_path: Path, folder: StudyFolder) -> None:
    """mean_teacher - supervised: .041 .035 .034 .044; guidedmix: .004 -.011 .012 -.001; unstable: -.121 -.090."""
    path = write_ablation(tmp_path / "old")
    request = yaml.safe_load((path / "study.yaml").read_text())
    request["run"]["data"] = {"name": "shapes"}
    (path / "study.yaml").write_text(yaml.safe_dump(request))
    write_summary(StudyFolder(path))
    rows = {row["label"]: row["objective"] for row in json.loads((path / "summary.json").read_text())["trials"]}
    spreads = {
        cell: statistics.stdev(rows[f"{cell} · seed {block}"] - rows[f"supervised · seed {block}"] for block in blocks)
        for cell, blocks in (("mean_teacher", range(4)), ("guidedmix", range(4)), ("unstable", (0, 2)))
    }
    assert spreads["mean_teacher"] < spreads["guidedmix"] < spreads["unstable"]
    effect = plan_of(folder, study_of(blocks={"seed": [0, 1, 2]})).effect
    assert effect is not None
    assert effect.noise.sd == pytest.approx(spreads["guidedmix"] * math.sqrt(3 / 2.3659739))  # chi-squared of 3
    assert effect.noise.source == "measured in old: 3 cells, the median"


def test_what_so_many_blocks_show_is_the_same_in_the_plan_and_in_the_report(
    tmp_path: Path, folder: StudyFolder
) -> None:
    path = write_ablation(tmp_path / "old", scores={**SCORES, "unstable": (0.35, 0.41, 0.37, 0.47)})
    request = yaml.safe_load((path / "study.yaml").read_text())
    request["run"]["data"] = {"name": "shapes"}
    (path / "study.yaml").write_text(yaml.safe_dump(request))
    write_summary(StudyFolder(path))
    effect = plan_of(folder, study_of(blocks={"seed": [0, 1, 2, 3]})).effect
    assert effect is not None
    said = notes(compare(request, load_trials(StudyFolder(path))))[-1]
    assert said.startswith(f"4 blocks show a difference of {100 * effect.alone:.1f} points four times in five")
    assert said.endswith("(of the cells, the median).")


def test_a_study_without_headroom_is_warned_of(folder: StudyFolder) -> None:
    claim(folder)
    write_json(folder.summary, {"trials": [], "headroom": {"diff": 0.01, "ci": None, "enough": False}})
    assert "labels are hardly what limits this schedule." in warnings(plan_of(folder))[0]


def test_of_a_search_the_trials_that_are_left_count_as_the_base_run(folder: StudyFolder) -> None:
    request = {"base": "small", "parameters": {"optim.lr": {"log": [1e-3, 1e-1]}}, "search": {"trials": 5}}
    study = build(Tree({**request, "references": {"slow": {"optim.lr": 1e-5}}}, {}), SearchStudy)
    probed(folder, "usual")
    plan = plan_of(folder, study)
    assert [(cell.name, cell.states, cell.steps_left) for cell in plan.cells] == [
        ("slow", {"new": 1}, 4),
        (TRIALS, {"new": 5}, 20),
    ]
    assert plan.seconds_left == 6 * 24
    assert plan.effect is None
    assert "at most, if no run is stopped early" in facts(plan)["cost"]


def test_a_plan_is_json(folder: StudyFolder) -> None:
    content = json.loads(json.dumps(as_json(plan_of(folder))))
    assert content["states"] == {"new": 6}
    assert content["unmeasured"] == ["supervised", "mean_teacher"]
