"""A cluster with a dashboard: the terminal says where it is, and Prometheus finds the runs."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray.cluster_utils import Cluster

from guidedmix_core import Tree, build
from orchestrator.ablation import AblationStudy
from orchestrator.executors import ray_tune
from orchestrator.folder import StudyFolder, TrialFolder, read_json
from orchestrator.listeners import Listener
from orchestrator.results import TrialRecord
from tests.runs import small_tree

pytestmark = [
    pytest.mark.timeout(900),  # a Ray starts slowly on a busy machine
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # Ray leaves sockets of dead nodes
]

STUDY: dict[str, Any] = {
    "base": "small",
    "reference": "usual",
    "cells": {"usual": {}, "slow": {"optim.lr": 1e-5}},
    "blocks": {"seed": [0]},
}
GAUGE = re.compile(r"^ray_guidedmix_(\w+)\{(.*)\} (\S+)$", re.MULTILINE)


class Prometheus(Listener):
    """Asks the node's agent for gauges while a run waits at its last report."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str, str], float] = {}

    def trial_reported(self, record: TrialRecord, metrics: Any) -> None:
        deadline = time.monotonic() + 120
        while self.found.get(("mine", spelled(record.label), "step")) != metrics["step"]:
            assert time.monotonic() < deadline, self.found
            time.sleep(0.3)
            self.scrape()

    def scrape(self) -> None:
        node = ray.nodes()[0]
        address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        with urllib.request.urlopen(address, timeout=10) as page:
            for name, tags, value in GAUGE.findall(page.read().decode()):
                tag = dict(re.findall(r'(\w+)="([^"]*)"', tags))
                self.found[tag["study"], tag["run"], name] = float(value)


def spelled(label: str | None) -> str:
    return str(label).replace(" · ", ", ")


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    often = {"_system_config": {"metrics_report_interval_ms": 300}}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": True, **often})
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.usefixtures("head")
def test_prometheus_finds_each_run_and_the_terminal_says_where_the_dashboard_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, prometheus = StudyFolder(tmp_path / "mine"), Prometheus()
    ray_tune.run(build(Tree(STUDY, {}), AblationStudy), small_tree(), folder, [prometheus], "cpu")
    ends = {record["label"]: record for record in map(_result, folder.trials())}
    names = {name for _, _, name in prometheus.found}
    assert names == {"step", "objective", "loss", "steps_per_second"}
    for label, end in ends.items():
        assert prometheus.found["mine", spelled(label), "step"] == 4
        assert prometheus.found["mine", spelled(label), "objective"] == pytest.approx(end["objective"])
    assert len(ends) == 2
    assert re.search(r"Ray's dashboard: http://127\.0\.0\.1:\d+\n", capsys.readouterr().out)


def _result(trial: TrialFolder) -> dict[str, Any]:
    return {**read_json(trial.result), "label": read_json(trial.trial)["label"]}
