"""What an exception means for a trial: the class of its failure, in words a table can count; and what is done then.

    diverged         the loss or the objective is not finite   failed
    oom              memory ran out                            again in smaller micro-batches (`halving`), then failed
    hang             no sign of life (`watchdog`)              failed
    preempted        the machine is taken away                 goes on from its checkpoint, as often as it takes
    infrastructure   the process died, or Ray ended it: its    goes on, `restarts` times, then failed
                     node's memory was full
    data, checkpoint, request, bug                             failed; but checkpoint, of a reference: the study stops

A disk that is full stops the study at once, and fails no run: the same command goes on when there is room.
Whatever else it is, the study stops when its first runs all fail alike, and a failed run is made again by
`--retry-failed`.
"""

from __future__ import annotations

import errno
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from pydantic import Field

from guidedmix_core import Config, ConfigError, TrialFailed

Reason = Literal["diverged", "oom", "hang", "data", "checkpoint", "request", "preempted", "infrastructure", "bug"]

UNREPAIRABLE: frozenset[Reason] = frozenset({"data", "request", "bug"})
"""Reasons that other trials of the study will most likely meet too."""
OF_THE_MACHINE: frozenset[Reason] = frozenset({"hang", "preempted", "infrastructure"})
"""Reasons that leave the checkpoint as good as it was."""
OF_A_LOST_GROUP = ("gloo", "NCCL", "Connection closed by peer", "Default process group has not been initialized")
"""What torch.distributed says, in errors of no class of their own, to the workers that are left when one has died."""
OF_A_BROKEN_DEVICE = ("uncorrectable ECC error", "unspecified launch failure")
"""What CUDA says where the device, and not the run, is the likeliest cause."""
OF_FULL_MEMORY = (
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "DefaultCPUAllocator: can't allocate",
)
"""What cuBLAS, cuDNN and the allocator of the CPU say, in errors of no class of their own."""
CURES: dict[str, str] = {
    "diverged": "lower optim.lr, or give optim.warmup_steps or optim.clip_norm",
    "oom": "lower train.batch_size or augment.crop, or raise train.accumulate",
    "hang": "the traceback tells where each thread was; if one step may take so long, raise failures.hang_minutes",
}


class Failures(Config):
    """What is done about a run that fails."""

    halvings: int = Field(
        2,
        ge=0,
        description="oom: how often a run starts again with micro-batches of half the size, train.accumulate doubled; "
        "0: it has failed at once",
    )
    hang_minutes: float | None = Field(
        20, gt=0, description="hang: a run that neither trains nor judges for so long has failed; null: it may wait"
    )
    restarts: int = Field(
        2,
        ge=0,
        description="infrastructure: how often a run goes on from its checkpoint after its process died; preemption "
        "is not counted",
    )
    stop_after: int = Field(3, ge=1, description="the study stops when its first runs, so many, have failed alike")


USUAL = Failures()


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


def is_disk_full(error: BaseException) -> bool:
    """No run's own failure: the next one would meet it, too."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def counted(reasons: Iterable[str]) -> str:
    """`2 diverged, 1 oom`; empty without any."""
    return ", ".join(f"{number} {reason}" for reason, number in Counter(reasons).most_common())


def adjustment_words(adjusted: Mapping[str, Any]) -> str:
    """Of a record's `adjusted`: what was done, and what that means for a comparison."""
    seen = "BatchNorm saw the smaller ones: " if adjusted["sees_batches"] else ""
    paired = "paired only with runs made so, too" if adjusted["sees_batches"] else "compared as the others"
    parts = f"{adjusted['accumulate']} micro-batches a step, of {adjusted['micro_batch']} labeled images each"
    return f"memory ran out, so made in {parts}; {seen}{paired}"


def kind(failure: Mapping[str, Any]) -> tuple[str, str]:
    """Equal for failures that are alike: the reason, and the message's first line without numbers and addresses."""
    first = failure["message"].partition("\n")[0]
    return failure["reason"], re.sub(r"0x[0-9a-f]+|\b[0-9a-f]{16}\b|\d+(\.\d+)?(e[+-]?\d+)?", "#", first)


def _reason(error: BaseException) -> Reason:
    text = str(error)
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return "oom"
    if isinstance(error, RuntimeError) and any(words in text for words in OF_FULL_MEMORY):
        return "oom"
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return "oom"
    if isinstance(error, ConfigError):
        return "request"
    if getattr(error, "preempted", False):  # as Ray marks the loss of a node that was announced
        return "preempted"
    if isinstance(error, (RuntimeError, ValueError)) and any(words in text for words in OF_A_LOST_GROUP):
        return "infrastructure"
    if isinstance(error, RuntimeError) and any(words in text for words in OF_A_BROKEN_DEVICE):
        return "infrastructure"
    if isinstance(error, (OSError, torch.distributed.DistError)) or type(error).__module__.startswith("ray."):
        return "infrastructure"
    return "bug"
