"""How many runs at once: what the nodes have, what the cluster may grow to, and what can never be."""

from __future__ import annotations

from typing import Any

import pytest

from guidedmix_core import ConfigError
from orchestrator import scaling
from orchestrator.resources import Scaling
from orchestrator.scaling import Group, at_once

HEAD = {"CPU": 2.0}
T4 = {"CPU": 8.0, "GPU": 2.0, "accelerator_type:T4": 1.0}
A100 = {"CPU": 16.0, "GPU": 8.0, "accelerator_type:A100": 1.0}
GPU = Group(workers=1, cpus=1, gpus=1)


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch):
    def are(*resources: dict[str, float]) -> None:
        alive: list[dict[str, Any]] = [{"Alive": True, "Resources": each} for each in resources]
        dead = {"Alive": False, "Resources": A100}
        monkeypatch.setattr(scaling.ray, "nodes", lambda: [*alive, dead])

    return are


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        (GPU, 10),
        (Group(workers=1, cpus=1, gpus=0.5), 20),
        (Group(workers=1, cpus=4, gpus=1), 6),  # the CPUs of a node bound its runs, too
        (Group(workers=1, cpus=1, gpus=1, accelerator="T4"), 2),
        (Group(workers=4, cpus=1, gpus=1), 2),
        (Group(workers=1, cpus=1, gpus=8), 1),
        (Group(workers=1, cpus=1, gpus=0), 26),
    ],
)
def test_as_many_as_fit_on_the_nodes_that_live(group: Group, expected: int, nodes: Any) -> None:
    nodes(HEAD, T4, A100)
    assert at_once(Scaling(), group) == expected
    assert at_once(Scaling(concurrent=2), group) == min(2, expected)


def test_a_cluster_that_grows_counts_as_grown(nodes: Any) -> None:
    nodes(HEAD)
    assert at_once(Scaling(), GPU, grown=12) == 12
    assert at_once(Scaling(concurrent=3), GPU, grown=12) == 3
    assert at_once(Scaling(), Group(workers=4, cpus=1, gpus=1), grown=12) == 3


def test_of_a_cluster_that_grows_nobody_knows_how_far_the_user_says_it(nodes: Any) -> None:
    nodes(HEAD)
    assert at_once(Scaling(concurrent=6), GPU, may_grow=True) == 6
    with pytest.raises(ConfigError, match="if it grows, say to how many runs at once"):
        at_once(Scaling(), GPU, may_grow=True)
    with pytest.raises(ConfigError, match="a run needs 1 GPU"):
        at_once(Scaling(concurrent=6), GPU)


@pytest.mark.parametrize(
    ("group", "said"),
    [
        (
            Group(2, 1, 8),
            "a run needs 2 workers of 8 GPU, 1 CPU each, the cluster has 2 CPU and 2 nodes of 8 CPU, 2 GPU",
        ),
        (Group(1, 1, 1, "H100"), "a run needs 1 GPU of type H100, 1 CPU, the cluster has 2 CPU and 2 nodes of .* (T4)"),
        (Group(1, 64, 0), "a run needs 64 CPU, the cluster has"),
    ],
)
def test_what_can_never_be_is_refused_with_what_there_is(group: Group, said: str, nodes: Any) -> None:
    nodes(HEAD, T4, T4)
    with pytest.raises(ConfigError, match=said.replace("(", r"\(").replace(")", r"\)")):
        at_once(Scaling(), group)
