"""What an exception means for a trial: the class of its failure, in words a table can count."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from guidedmix_core import ConfigError, TrialFailed

Reason = Literal["diverged", "oom", "data", "checkpoint", "request", "preempted", "infrastructure", "bug"]

UNREPAIRABLE: frozenset[Reason] = frozenset({"data", "request", "bug"})
"""Reasons that other trials of the study will most likely meet too."""


@dataclass(frozen=True)
class Failure:
    reason: Reason
    message: str
    step: int | None

    def as_record(self) -> dict[str, Any]:
        return asdict(self)


def classify(error: BaseException, step: int | None = None) -> Failure:
    """The failure an exception stands for; `step` is the last step known to be done, if the exception does not say."""
    if isinstance(error, TrialFailed):
        return Failure(error.reason, str(error), step if error.step is None else error.step)
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))  # such as the stage in which it happened
    return Failure(_reason(error), f"{type(error).__name__}: {error}{notes}", step)


def _reason(error: BaseException) -> Reason:
    text = str(error)
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return "oom"
    if isinstance(error, RuntimeError) and ("out of memory" in text or "DefaultCPUAllocator: can't allocate" in text):
        return "oom"  # cuBLAS, cuDNN and the allocator of the CPU have no class of their own
    if isinstance(error, ConfigError):
        return "request"
    if getattr(error, "preempted", False):  # as Ray marks the loss of a node that was announced
        return "preempted"
    if isinstance(error, (OSError, torch.distributed.DistError)) or type(error).__module__.startswith("ray."):
        return "infrastructure"
    return "bug"
