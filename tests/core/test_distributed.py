"""Two workers (gloo) train what one does on the concatenated batch."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from guidedmix_core.checkpoint import Checkpoints, read_checkpoint
from guidedmix_core.config import RunConfig
from guidedmix_core.trainer import train
from tests.listening import Listening
from tests.runs import small_run

NO_BATCHNORM = {
    "segmentor.norm": "none",
    "segmentor.backbone.norm": "none",
    "segmentor.dropout": 0.0,
    "optim.optimizer": "sgd",
}


ALONE: dict[str, dict[str, Any]] = {  # boxes are drawn for each worker's part
    "supervised": {},
    "mean_teacher": {"method.mixer": "none"},
    "st_plus_plus": {"method.cutout.probability": 0.0, "method.reliable_share": 0.5, "method.scales": [1.0]},
}


def run_of(method: str) -> RunConfig:
    return small_run({"method.name": method, **NO_BATCHNORM, **ALONE[method]})


def work(rank: int, meeting: str, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=meeting, rank=rank, world_size=2, timeout=datetime.timedelta(seconds=60)
    )
    try:
        for method in ALONE:
            train(run_of(method), Listening(), Checkpoints(folder / method), device="cpu")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs' folders, each trained by the same two workers."""
    folder = tmp_path_factory.mktemp("two")
    mp.spawn(work, args=(f"file://{folder}/meeting", folder), nprocs=2)
    return folder


@pytest.mark.parametrize("method", ALONE)
def test_two_workers_give_the_weights_of_one_on_the_concatenated_batch(
    method: str, by_two: Path, tmp_path: Path
) -> None:
    """They share out stages, too, and the images whose pseudo masks are stored."""
    one = train(run_of(method), Listening(), Checkpoints(tmp_path), device="cpu")
    weights, both = (read_checkpoint(folder / "last.pt") for folder in (tmp_path, by_two / method))
    for name, weight in weights["nets"].items():
        torch.testing.assert_close(both["nets"][name], weight)
    assert both["metrics"]["val/miou"] == pytest.approx(one.metrics["val/miou"], abs=1e-3)
