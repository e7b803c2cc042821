"""What a run tells while it goes, and what it gives at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64
from torch import Tensor

from guidedmix_core.evaluation import Panel


@dataclass(frozen=True)
class Report:
    """One evaluation: the number of steps done, and every metric by its path (`val/miou`, `train/loss`,
    `pseudo/coverage`, …)."""

    step: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class StageReport:
    """How it stands with one stage of a run's chain: `waits` while another process trains it, `trains` here, then it is
    there, `trained` here or `reused`."""

    index: int
    address: str
    """The name of its folder: the fingerprint of all that led to it."""
    method: str
    steps: int
    state: Literal["waits", "trains", "trained", "reused"]
    seconds: float | None = None
    """What training it took, here or elsewhere."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Of its last step."""

    @property
    def name(self) -> str:
        return f"stage {self.index} ({self.method}, {self.steps} steps)"


@runtime_checkable
class Reporter(Protocol):
    """Who listens to a run. What a subclass does not define is heard in silence, and asks for nothing."""

    def staged(self, stage: StageReport) -> None:
        """Whenever it stands otherwise with a stage. The steps of one that trains here are told as progress."""

    def progress(self, step: int, steps: int, losses: Mapping[str, Tensor]) -> None:
        """After every step; the losses stay on the device unless they are read."""

    def alive(self) -> None:
        """Now and then between steps: another image was judged or labeled, another process is still waited for."""

    def leaves(self) -> bool:
        """After every step, asked of the first worker. True: this process must go. The run saves where it is and raises
        `Preempted`."""
        return False

    def stops(self) -> bool:
        """Before the first step of a run that goes on from a report, asked of the first worker. True: it ends there."""
        return False

    def evaluated(self, report: Report) -> bool:
        """After every evaluation, when its checkpoint is written. True asks the run to stop here."""
        return False


@dataclass(frozen=True)
class Result:
    """A run's end: `stopped` if it was asked to stop before its last step. Counts are those of the last evaluation."""

    step: int
    steps: int
    metrics: dict[str, float]
    best: Report
    stopped: bool
    seconds: float
    ids: tuple[str, ...]
    counts: Int64[np.ndarray, "N K 3"]
    panels: list[Panel] = field(repr=False)
