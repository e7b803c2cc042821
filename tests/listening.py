"""Reporters for tests: one remembers everything, one stops the run, one dies."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from guidedmix_core.reports import Report, StageReport


class Listening:
    """Remembers every loss and report; asks to stop at a step, or leaves after so many, if one is given."""

    def __init__(self, stop_at: int | None = None, leave_at: int | None = None) -> None:
        self.stop_at, self.leave_at = stop_at, leave_at
        self.beats = 0
        self.losses: list[dict[str, float]] = []
        self.reports: list[Report] = []
        self.stages: list[StageReport] = []

    def staged(self, stage: StageReport) -> None:
        self.stages.append(stage)

    def progress(self, step: int, steps: int, losses: Mapping[str, Tensor]) -> None:
        self.losses.append({name: float(loss) for name, loss in losses.items()})

    def alive(self) -> None:
        self.beats += 1

    def leaves(self) -> bool:
        return self.leave_at is not None and len(self.losses) >= self.leave_at

    def stops(self) -> bool:
        return False

    def evaluated(self, report: Report) -> bool:
        self.reports.append(report)
        return self.stop_at is not None and report.step >= self.stop_at
