"""Two workers (gloo) train what one does on the concatenated batch."""

from __future__ import annotations

import datetime
from pathlib import Path

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

# What draws for each worker's part, as boxes do, is switched off.
METHODS = {
    "supervised": {},
    "mean_teacher": {"method.mixer": "none"},
    "pcr": {"method.mixer": "none", "method.threshold": 0.2},
    "u2pl": {"method.mixer": "none", "method.contrast.weight": 0},
}


def config_of(method: str) -> RunConfig:
    return small_run({"method.name": method, **NO_BATCHNORM, **METHODS[method]})


def work(rank: int, meeting: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=meeting, rank=rank, world_size=2, timeout=datetime.timedelta(seconds=60)
    )
    try:
        for method in METHODS:
            train(config_of(method), Listening(), Checkpoints(Path(folder) / method), device="cpu")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What they made of each method, trained one after the other: starting workers takes longer than the runs."""
    folder = tmp_path_factory.mktemp("two")
    mp.spawn(work, args=(f"file://{folder}/meeting", str(folder)), nprocs=2)
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_two_workers_give_the_weights_of_one_on_the_concatenated_batch(
    method: str, two_workers: Path, tmp_path: Path
) -> None:
    one = train(config_of(method), Listening(), Checkpoints(tmp_path), device="cpu")
    weights, both = (read_checkpoint(folder / "last.pt") for folder in (tmp_path, two_workers / method))
    for name, weight in weights["nets"].items():
        torch.testing.assert_close(both["nets"][name], weight)
    assert both["metrics"]["val/miou"] == pytest.approx(one.metrics["val/miou"], abs=1e-3)
