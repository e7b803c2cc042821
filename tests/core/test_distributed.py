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


def work(rank: int, meeting: str, config: RunConfig, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=meeting, rank=rank, world_size=2, timeout=datetime.timedelta(seconds=60)
    )
    try:
        train(config, Listening(), Checkpoints(Path(folder)), device="cpu")
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("method", ["supervised", "mean_teacher"])
def test_two_workers_give_the_weights_of_one_on_the_concatenated_batch(method: str, tmp_path: Path) -> None:
    alone = {"method.mixer": "none"} if method == "mean_teacher" else {}  # boxes are drawn for each worker's part
    config = small_run({"method.name": method, **NO_BATCHNORM, **alone})
    one = train(config, Listening(), Checkpoints(tmp_path / "one"), device="cpu")
    mp.spawn(work, args=(f"file://{tmp_path}/meeting", config, str(tmp_path / "two")), nprocs=2)
    weights, both = (read_checkpoint(tmp_path / name / "last.pt") for name in ("one", "two"))
    for name, weight in weights["nets"].items():
        torch.testing.assert_close(both["nets"][name], weight)
    assert both["metrics"]["val/miou"] == pytest.approx(one.metrics["val/miou"], abs=1e-3)
