"""How many runs are out at once: what fits now, or what a cluster that grows was said to have room for."""

from __future__ import annotations

import pytest
import ray

from guidedmix_core import ConfigError
from orchestrator.scaling import Group, at_once
from orchestrator.study import Scaling

ONE_GPU = Group(workers=1, cpus=1.0, gpus=1.0)


@pytest.mark.parametrize(
    ("gpus", "concurrent", "is_ours", "expected"),
    [
        (4, None, False, 4),
        (4, 2, False, 2),
        (0, None, False, 1),  # the first run makes an autoscaler begin
        (0, 6, False, 6),  # and so many make it go on
        (4, 6, True, 4),
    ],
)
def test_runs_at_once(
    gpus: int, concurrent: int | None, is_ours: bool, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 16.0, "GPU": float(gpus)})
    assert at_once(Scaling(gpus_per_worker=1.0, concurrent=concurrent), ONE_GPU, is_ours) == expected


def test_a_machine_without_room_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 16.0})
    with pytest.raises(ConfigError, match="a run needs 1 CPU, 1 GPU"):
        at_once(Scaling(gpus_per_worker=1.0), ONE_GPU, is_ours=True)
