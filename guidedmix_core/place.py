"""Where a process computes and how exactly, and what the workers of a group tell each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
import torch.distributed as dist

Value = TypeVar("Value")


@dataclass(frozen=True)
class Place:
    """Where this process computes, and which of the workers it is."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @classmethod
    def here(cls, device: str) -> Place:
        """`auto` takes CUDA if there is one. Workers are those of torch.distributed, if it is initialized."""
        rank, world = (
            (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)
        )
        if device == "auto":
            device = f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
        return cls(torch.device(device), rank, world)

    def autocast(self, precision: Literal["fp32", "bf16"]) -> torch.autocast:
        """What `train.precision` means here."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16")

    def agree(self, value: Value) -> Value:
        """The first worker's value, on all of them."""
        if self.world == 1:
            return value
        answer = [value]
        dist.broadcast_object_list(answer)
        return answer[0]

    def gather(self, value: Value) -> list[Value]:
        """Every worker's value, on all of them."""
        if self.world == 1:
            return [value]
        gathered = [value] * self.world
        dist.all_gather_object(gathered, value)
        return gathered


@contextmanager
def exactness(exact: bool) -> Iterator[None]:
    """Deterministic kernels for a while, if asked for."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(exact, warn_only=True)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = exact, not exact
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
