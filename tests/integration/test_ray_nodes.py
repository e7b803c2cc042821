"""Several nodes on one machine, the study in an object store: runs spread, and a node may die under them."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import ray._raylet
import torch
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from guidedmix_core import Tree, build
from orchestrator import ray_session
from orchestrator.ablation import AblationStudy
from orchestrator.executors import inline, ray_tune
from orchestrator.folder import StudyFolder, read_json, read_lines
from orchestrator.listeners import Listener
from orchestrator.results import TrialRecord, load_trials
from tests.runs import small_tree
from tests.s3 import objects, s3_server

pytestmark = [
    pytest.mark.timeout(900),  # a Ray starts slowly on a busy machine
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of botocore
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # Ray leaves sockets of dead nodes
]

STUDY: dict[str, Any] = {
    "base": "small",
    "reference": "usual",
    "cells": {"usual": {}, "fast": {"optim.lr": 0.02}},
    "blocks": {"seed": [0]},
}
LONG: dict[str, Any] = {"train.steps": 240, "evaluate.every": 60, "evaluate.telemetry_images": 0}
IN_PAIRS = {"cells": {"usual": {}}, "scaling": {"workers": 2}}
WITH_STAGE = {**LONG, "stages": [{"method": "supervised", "steps": 20}]}


def study_of(**changes: Any) -> AblationStudy:
    return build(Tree({**STUDY, **changes}, {}), AblationStudy)


def rows(folder: StudyFolder) -> dict[str, list[dict[str, Any]]]:
    """The curves of all runs, without times."""
    return {
        trial.fingerprint: [
            {key: value for key, value in row.items() if not key.startswith("time")}
            for row in read_lines(trial.metrics)
        ]
        for trial in folder.trials()
    }


class Nodes:
    """A head that trains nothing, and nodes of one CPU."""

    def __init__(self) -> None:
        noticed_soon = {"_system_config": {"health_check_period_ms": 1000}}
        head = {"num_cpus": 0, "include_dashboard": False, **noticed_soon}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes = [self.add(), self.add()]

    def add(self) -> Any:
        return self.cluster.add_node(num_cpus=1, object_store_memory=ray_session.OBJECT_STORE)

    def kill_one(self) -> None:
        """Its raylet and with it all processes of the node; another one comes instead."""
        self.cluster.remove_node(self.nodes.pop(0), allow_graceful=False)
        self.nodes.append(self.add())


class NodeKiller(Listener):
    """A node dies when the first run has reported."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes, self.is_done = nodes, False
        self.out: set[str] = set()
        self.at_once = 0

    def trial_started(self, record: TrialRecord) -> None:
        self.out.add(record.fingerprint)
        self.at_once = max(self.at_once, len(self.out))

    def trial_reported(self, record: TrialRecord, metrics: Any) -> None:
        if not self.is_done:
            self.is_done = True
            self.nodes.kill_one()

    def trial_ended(self, record: TrialRecord) -> None:
        self.out.discard(record.fingerprint)


class SpotNotice(Listener):
    """After the first report one of two busy nodes is announced to go; it goes when a run has left, or time is up."""

    def __init__(self, nodes: Nodes, place: str, every: int) -> None:
        self.nodes, self.place, self.every = nodes, place, every
        self.thread: threading.Thread | None = None

    def trial_reported(self, record: TrialRecord, metrics: Any) -> None:
        if self.thread is None:
            self.thread = threading.Thread(target=self.take_away)
            self.thread.start()

    def take_away(self) -> None:
        node = self.nodes.nodes.pop(0)
        client = ray._raylet.GcsClient(address=self.nodes.cluster.address)
        reason = autoscaler_pb2.DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION
        deadline = time.time() + 120
        assert client.drain_node(node.node_id, reason, "spot", int(1000 * deadline))[0]
        while time.time() < deadline and not self.a_run_has_left():
            time.sleep(0.5)
        self.nodes.cluster.remove_node(node, allow_graceful=False)

    def a_run_has_left(self) -> bool:
        """Between two reports, where no other checkpoint is."""
        last = [content for name, content in objects(self.place).items() if name.endswith("last.pt")]
        return any(torch.load(io.BytesIO(content), weights_only=True)["step"] % self.every for content in last)


@pytest.fixture(scope="module")
def studies() -> Iterator[str]:
    with s3_server() as uri:
        yield uri


@pytest.fixture(scope="module")
def nodes(studies: str) -> Iterator[Nodes]:
    """The processes of the nodes know where the store is."""
    nodes = Nodes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", nodes.cluster.address)
        with ray_session.cluster() as is_ours:
            assert not is_ours
            yield nodes
    nodes.cluster.shutdown()


@pytest.mark.parametrize(("changes", "base"), [({}, LONG), (IN_PAIRS, WITH_STAGE)], ids=["one_worker", "two_workers"])
def test_a_node_that_dies_costs_steps_and_nothing_else(
    changes: dict[str, Any],
    base: dict[str, Any],
    nodes: Nodes,
    studies: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    folder = StudyFolder(f"{studies}/{request.node.callspec.id}")
    killer = NodeKiller(nodes)
    ray_tune.run(study_of(**changes), small_tree(base), folder, [killer], "cpu")

    undisturbed = StudyFolder(tmp_path / "undisturbed" / "study")
    inline.run(study_of(**changes), small_tree(base), undisturbed)
    assert [record.state for record in load_trials(folder)] == ["complete"] * len(load_trials(undisturbed))
    if changes:  # two workers sum in another order
        assert [[row["step"] for row in run] for run in rows(folder).values()] == [[60, 120, 180, 240]]
    else:
        assert killer.at_once == 2
        assert rows(folder) == rows(undisturbed)
    restarts = [read_json(trial.environment)["restarts"] for trial in folder.trials()]
    assert sum(map(len, restarts)) >= 1, "no run was on the node that died"
    assert len([event for event in folder.events() if event["event"] == "trial_ended"]) == len(load_trials(folder))
    stored = objects(f"{studies}/{folder.name}")
    assert [name for name in stored if name.endswith(".lease")] == []
    assert stored["study.yaml"] == folder.study_yaml.read_bytes()
    assert ray_session.placement_groups() == set()
    assert ray.available_resources()["CPU"] == 2


def test_a_node_that_is_announced_to_go_costs_no_step_and_no_restart(nodes: Nodes, studies: str) -> None:
    folder = StudyFolder(f"{studies}/spot")
    every = 600
    base = {**LONG, "train.steps": 3 * every, "evaluate.every": every}
    notice = SpotNotice(nodes, f"{studies}/spot", every)
    ray_tune.run(study_of(failures={"restarts": 0}), small_tree(base), folder, [notice], "cpu")
    assert notice.thread is not None
    notice.thread.join()
    nodes.nodes.append(nodes.add())
    assert [record.state for record in load_trials(folder)] == ["complete", "complete"]
    assert [[row["step"] for row in run] for run in rows(folder).values()] == [[every, 2 * every, 3 * every]] * 2
    (restart,) = [restart for trial in folder.trials() for restart in read_json(trial.environment)["restarts"]]
    assert restart["step"] % every, "it went on from a report, not from where it was when it heard"
