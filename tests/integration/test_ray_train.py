"""A run on two workers through Ray Train (gloo): the weights of one worker, and all leave together when told to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import ray
import torch
from ray.util.placement_group import placement_group_table

from guidedmix_core import Tree, build
from orchestrator import ray_session
from orchestrator.executors import ray_tune
from orchestrator.folder import StudyFolder, TrialFolder, read_lines
from orchestrator.results import TrialRecord, load_trials
from orchestrator.study import Objective, SearchStudy
from orchestrator.trial import run_trial
from tests.runs import small_run, small_tree

pytestmark = [
    pytest.mark.timeout(900),  # a group of workers starts slowly on a busy machine
]

RUN = {
    "segmentor.norm": "none",  # a worker's BatchNorm sees its own part of the batch
    "segmentor.backbone.norm": "none",
    "segmentor.dropout": 0.0,
    "optim.optimizer": "sgd",
    "train.steps": 8,
    "stages": [{"method": "supervised", "steps": 2, "optim": {"lr": 1e-7}}],
}
POINTS = [{"optim.lr": 0.01}, {"optim.lr": 1e-7}]  # learns, lags behind
STUDY = {
    "base": "small",
    "parameters": {"optim.lr": {"log": [1e-9, 1.0]}},
    "search": {"sampler": "random", "trials": 2, "start_from": POINTS},
    "scheduler": {"name": "asha", "first_rung": 0.25, "eta": 2},
    "scaling": {"workers": 2, "cpus_per_worker": 0.5, "concurrent": 1},
}


@dataclass(frozen=True)
class Study:
    """Two runs on two workers each, and what Ray holds after them."""

    folder: StudyFolder
    records: list[TrialRecord]
    group_states: set[str]
    cpus_in_use: float

    def trial(self, number: int) -> TrialFolder:
        return self.folder.trial(self.records[number].fingerprint)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = StudyFolder(tmp_path_factory.mktemp("studies") / "pair")
    with ray_session.cluster():
        ray_tune.run(build(Tree(STUDY, {}), SearchStudy), small_tree(RUN), folder, [], "cpu")
        states = {group["state"] for group in placement_group_table().values()}
        in_use = ray.cluster_resources()["CPU"] - ray.available_resources()["CPU"]
    return Study(folder, load_trials(folder), states, in_use)


def test_two_workers_give_the_weights_of_one(study: Study, tmp_path: Path) -> None:
    alone = StudyFolder(tmp_path / "study").trial("alone")
    run_trial(small_run({**RUN, **POINTS[0]}), alone, Objective(), device="cpu")
    one, two = (torch.load(trial.checkpoint / "last.pt", weights_only=True) for trial in (alone, study.trial(0)))
    assert study.records[0].state == "complete"
    for name, weight in one["nets"].items():
        torch.testing.assert_close(two["nets"][name], weight)


def test_a_group_trains_a_stage_together_and_the_next_one_reuses_it(study: Study) -> None:
    assert [record.stages[0]["state"] for record in study.records] == ["trained", "reused"]


def test_all_workers_leave_at_the_report_that_stopped_the_run(study: Study) -> None:
    assert (study.records[1].state, study.records[1].step) == ("stopped", 2)
    assert [row["step"] for row in read_lines(study.trial(1).metrics)] == [2]


def test_nothing_stays_reserved(study: Study) -> None:
    assert study.group_states == {"REMOVED"}
    assert study.cpus_in_use == 0
