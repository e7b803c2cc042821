"""Two workers (gloo) train what one does on the concatenated batch."""

from __future__ import annotations

import datetime
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from guidedmix_core.batch import Batch, StepLosses
from guidedmix_core.checkpoint import Checkpoints, read_checkpoint
from guidedmix_core.components import names
from guidedmix_core.config import RunConfig
from guidedmix_core.errors import TrialFailed
from guidedmix_core.loaders import open_data
from guidedmix_core.losses import mean_over_workers
from guidedmix_core.methods import Student
from guidedmix_core.methods.supervised import Supervised
from guidedmix_core.place import Place
from guidedmix_core.rng import At
from guidedmix_core.schema import flatten
from guidedmix_core.stages import Start
from guidedmix_core.trainer import Run, train
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
        torch.save(with_batchnorm(Path(folder) / "statistics"), Path(folder) / f"statistics {rank}.pt")
        torch.save(step_of_divergence(rank, Path(folder) / "diverged"), Path(folder) / f"diverged {rank}.pt")
    finally:
        dist.destroy_process_group()


def with_batchnorm(folder: Path) -> dict[str, Tensor]:
    """All weights of this worker after two steps; teacher and student normalize."""
    config, place = small_run({"method.name": "classmix"}), Place.here("cpu")
    run = Run(config, place, Listening(), Checkpoints(folder), open_data(config), Start())
    run.begin()
    for _ in range(2):
        run.train_step()
    return run.nets.state_dict()


def step_of_divergence(rank: int, folder: Path) -> int | None:
    """Which step this worker names, if only the second one's loss is not finite, in the step before the report."""
    losses = Supervised.losses

    def bad(method: Supervised, nets: Student, batch: Batch, at: At) -> StepLosses:
        found = losses(method, nets, batch, at)
        is_bad = rank == 1 and at.step == 1
        return (
            StepLosses({name: term * torch.nan for name, term in found.terms.items()}, found.weights)
            if is_bad
            else found
        )

    with patch.object(Supervised, "losses", bad), pytest.raises(TrialFailed) as caught:
        train(small_run(), Listening(), Checkpoints(folder), device="cpu")
    return caught.value.step


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
    assert shared["metrics"]["train/loss"] == pytest.approx(one.metrics["train/loss"])


def test_the_mean_over_workers_is_that_of_the_batch_and_so_is_the_gradient_of_each_part(both: Path) -> None:
    for rank in range(2):
        mean, gradient = torch.load(both / f"mean {rank}.pt")
        assert (mean, gradient) == (-1, -1)  # alone, the first part's mean is 1 and its gradient 1


def test_where_batch_norm_is_not_synchronized_workers_keep_equal_statistics(both: Path) -> None:
    first, second = (torch.load(both / f"statistics {rank}.pt") for rank in range(2))
    assert any("running_var" in name for name in first)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_loss_that_is_bad_on_one_worker_alone_fails_them_all_at_the_same_report(both: Path) -> None:
    assert [torch.load(both / f"diverged {rank}.pt") for rank in range(2)] == [1, 1]
