"""What two workers (gloo) remember is equal on both, and what one would remember of the concatenated batch."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor

from guidedmix_core.contrast import Contrast, Parts, contrastive_loss
from guidedmix_core.entropy import quantile
from guidedmix_core.memory import ClassMemory
from guidedmix_core.prototypes import PrototypeBank
from guidedmix_core.rng import At, ambient, generator

K, D, UPDATES = 4, 6, 3


def some(key: str, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator("test", key))


def prototypes(mine: slice) -> Tensor:
    """After a start that only the first worker decides, and a few updates by this worker's images."""
    with ambient("test", "bank"):
        bank = PrototypeBank(K, 2, D)
    bank.begin([some(f"{mine.start} {k}", 9, D) for k in range(K)], "kmeans", generator("test", mine.start or 0))
    for step in range(UPDATES):
        feature = some(f"feature {step}", 4, D, 3, 3)[mine]
        label = torch.randint(0, K, (4, 3, 3), generator=generator("test", "label", step))[mine]
        bank.assign(feature, bank.cosines(feature), label, label >= 0)
        bank.update(0.9)
    return bank.vectors


def memory(mine: slice) -> Tensor:
    """The keys after this worker's share of a few steps."""
    bank = ClassMemory([5, 4, 4, 4], D)
    for step in range(UPDATES):
        valid = torch.rand(K, 4, generator=generator("test", "valid", step)) < 0.6
        bank.store(some(f"keys {step}", K, 4, D)[:, mine], valid[:, mine])
    return bank.keys


def threshold(mine: slice) -> Tensor:
    values, valid = some("values", 4, 5, 6), some("valid", 4, 5, 6) > -1
    return quantile(values[mine], valid[mine], 0.7)


def contrast_gradient(_: slice) -> Tensor:
    """Of a contrast that is the same on each worker: their mean must be the one worker's."""
    bank = ClassMemory([8] * K, D)
    bank.keys.copy_(F.normalize(some("bank", K, 8, D), dim=2))
    bank.written.fill_(8)
    own = torch.arange(12) % K == torch.arange(K).unsqueeze(1)
    rep = some("rep", 12, D).requires_grad_()
    rule = Contrast(queries=8, negatives=4)
    loss, _ = contrastive_loss(rep, some("teacher", 12, D), Parts(own, own, ~own), bank, rule, At(0, 0, 1))
    (gradient,) = torch.autograd.grad(loss, rep)
    if dist.is_initialized():
        dist.all_reduce(gradient)
        gradient /= dist.get_world_size()
    return gradient


RESULTS = {f.__name__: f for f in (prototypes, memory, threshold, contrast_gradient)}


def work(rank: int, meeting: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=meeting, rank=rank, world_size=2, timeout=datetime.timedelta(seconds=60)
    )
    try:
        mine = slice(0, 2) if rank == 0 else slice(2, 4)
        torch.save({name: result(mine) for name, result in RESULTS.items()}, Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("workers")
    mp.start_processes(work, (f"file://{folder}/meeting", str(folder)), nprocs=2, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", RESULTS)
def test_two_workers_have_what_one_would_have(name: str, both: list[dict[str, Tensor]]) -> None:
    assert torch.equal(both[0][name], both[1][name])
    torch.testing.assert_close(both[0][name], RESULTS[name](slice(0, 4)))
