"""Two workers (gloo) train what one does on the concatenated batch."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from guidedmix_core.checkpoint import Checkpoints, read_checkpoint
from guidedmix_core.components import names
from guidedmix_core.config import RunConfig
from guidedmix_core.losses import mean_over_workers
from guidedmix_core.schema import flatten
from guidedmix_core.trainer import train
from tests.listening import Listening
from tests.runs import small_run

NO_BATCHNORM = {
    "segmentor.norm": "none",
    "segmentor.backbone.norm": "none",
    "segmentor.dropout": 0.0,
    "optim.optimizer": "sgd",
    "optim.lr": 0.05,
}

WHOLE_IMAGE = {"method.cutmix.area": [1.0, 1.0], "method.cutmix.num_boxes": 1, "method.cutmix.probability": 1.0}
"""Boxes, pairs, classes and dropout are drawn for each worker's part; a box that is the whole image has no choice."""
WITHOUT_DRAWS: dict[str, dict[str, object]] = {
    "mean_teacher": {"method.mixer": "none"},
    "classmix": {"method.mixer": "none"},
    "cutmix_seg": {"method.mixer": "none"},
    "pcr": {"method.mixer": "none"},
    "u2pl": {"method.mixer": "none", "method.contrast.weight": 0},
    "fixmatch": WHOLE_IMAGE,
    "unimatch": {**WHOLE_IMAGE, "method.feature_weight": 0},
    "unimatch_v2": {"method.complementary_dropout": False, "method.cutmix.probability": 0.0},
    "augseg": {"method.cutmix": False},
    "guidedmix": {"method.mix.level": "none", "method.student_view": "strong"},
    "cps": WHOLE_IMAGE,
    "rrn": {**WHOLE_IMAGE, "method.dropout": 0.0, "method.start": 0, "method.threshold": 0.0},
    "supmix": {"method.rule": "none"},
    "st_plus_plus": {"method.cutout.probability": 0.0, "method.reliable_share": 0.5, "method.scales": [1.0]},
}
"""What a method draws for each part is switched off. A method that draws nothing needs no entry."""
UNSURE = {"method.threshold": 0.145, "method.pseudo.threshold": 0.145}
"""Fresh networks claim each of seven classes with about a seventh: some pixels teach, and others do not."""


def run_of(method: str) -> RunConfig:
    fields = flatten(small_run({"method.name": method}))
    unsure = {path: value for path, value in UNSURE.items() if path in fields}
    return small_run({"method.name": method, **NO_BATCHNORM, **unsure, **WITHOUT_DRAWS.get(method, {})})


def work(rank: int, meeting: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=meeting, rank=rank, world_size=2, timeout=datetime.timedelta(seconds=60)
    )
    try:
        for method in names("methods"):
            train(run_of(method), Listening(), Checkpoints(Path(folder) / method), device="cpu")
        part = torch.tensor((1.0, -3.0)[rank], requires_grad=True)
        mean = mean_over_workers(part)
        mean.abs().backward()
        torch.save((mean.detach(), part.grad), Path(folder) / f"mean {rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two workers trained: a folder for each method. To start them takes longer than all they do."""
    folder = tmp_path_factory.mktemp("two")
    mp.start_processes(work, (f"file://{folder}/meeting", str(folder)), nprocs=2, start_method="forkserver")
    return folder


@pytest.mark.parametrize("method", names("methods"))
def test_two_workers_give_the_weights_of_one_on_the_concatenated_batch(method: str, both: Path, tmp_path: Path) -> None:
    one = train(run_of(method), Listening(), Checkpoints(tmp_path), device="cpu")
    weights, shared = (read_checkpoint(folder / "last.pt") for folder in (tmp_path, both / method))
    for name, weight in weights["nets"].items():
        torch.testing.assert_close(shared["nets"][name], weight)
    assert shared["metrics"]["val/miou"] == pytest.approx(one.metrics["val/miou"], abs=1e-3)


def test_the_mean_over_workers_is_that_of_the_batch_and_so_is_the_gradient_of_each_part(both: Path) -> None:
    for rank in range(2):
        mean, gradient = torch.load(both / f"mean {rank}.pt")
        assert (mean, gradient) == (-1, -1)  # alone, the first part's mean is 1 and its gradient 1
