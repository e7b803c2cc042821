"""What is left to be trained of a study: its runs' own steps, and the stages that they share, each once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from guidedmix_core import RunConfig, dump
from orchestrator.costs import Rate, cost_class, evaluations
from orchestrator.planned_runs import LEFT, PlannedRun
from orchestrator.stage_groups import StageGroup, stage_groups
from orchestrator.stage_tree import Need, StageStore, needs_of


@dataclass(frozen=True)
class CellPlan:
    """The runs of a cell; of a search, its trials or a reference."""

    name: str
    states: dict[str, int]
    steps_left: int
    """Without its stages."""
    run_seconds: float | None
    """Of a whole run without its stages; None if nothing is known."""
    seconds_left: float | None
    source: str | None
    """`run`, `probe`, or None if nothing is known."""


class Workload:
    """Steps and seconds; None where a rate is not known."""

    def __init__(self, runs: Sequence[PlannedRun], store: StageStore, rates: Mapping[str, Rate]) -> None:
        self.runs, self.rates = runs, rates
        self.users: dict[Need, list[str]] = {}
        self.parents: dict[Need, Need | None] = {}
        self.made: set[Need] = set()
        self.stages: dict[Need, tuple[str, RunConfig]] = {}
        """What has to be made: the cost class of each stage, and the stage as a run."""
        self.steps_alone = 0
        """Of the stages, if each run that is left made its own."""
        self.seconds_alone: float | None = 0.0
        for run in runs:
            if run.config.stages:
                self._add(run, store)

    @property
    def unmeasured(self) -> dict[str, RunConfig]:
        """By cost class, a run of each whose rate is not known and is needed."""
        own = {run.cost: run.config for run in reversed(self.runs) if run.state in LEFT}
        return {name: run for name, run in {**dict(self.stages.values()), **own}.items() if name not in self.rates}

    @property
    def peak_bytes(self) -> int | None:
        """Of the largest run that is left, if all of them were probed."""
        peaks = [self.rates[run.cost].peak_bytes if run.cost in self.rates else None for run in self._left(self.runs)]
        known = [peak for peak in peaks if peak is not None]
        return max(known) if known and len(known) == len(peaks) else None

    @property
    def stage_steps(self) -> int:
        return sum(need.steps for need in self.stages)

    @property
    def stage_seconds(self) -> float | None:
        return total(self._stage_seconds(cost, stage) for cost, stage in self.stages.values())

    def cells(self) -> tuple[CellPlan, ...]:
        groups: dict[str, list[PlannedRun]] = {}
        for run in self.runs:
            groups.setdefault(run.cell, []).append(run)
        return tuple(self._cell(name, runs) for name, runs in groups.items())

    def groups(self) -> tuple[StageGroup, ...]:
        return stage_groups(self.users, self.parents, self.made)

    def _cell(self, name: str, runs: Sequence[PlannedRun]) -> CellPlan:
        rate, first = self.rates.get(runs[0].cost), runs[0].config
        left = self._left(runs)
        return CellPlan(
            name,
            dict(Counter(run.state for run in runs)),
            sum(run.config.train.steps - run.step for run in left),
            None if rate is None else rate.seconds(first.train.steps, evaluations(first)),
            total(map(self._seconds, left)),
            None if rate is None else rate.source,
        )

    def _seconds(self, run: PlannedRun) -> float | None:
        if (rate := self.rates.get(run.cost)) is None:
            return None
        return rate.seconds(run.config.train.steps - run.step, evaluations(run.config, run.step))

    def _stage_seconds(self, cost: str, stage: RunConfig) -> float | None:
        """A stage is judged once, at its end."""
        rate = self.rates.get(cost)
        return None if rate is None else rate.seconds(stage.train.steps, 1)

    def _left(self, runs: Iterable[PlannedRun]) -> list[PlannedRun]:
        return [run for run in runs if run.state in LEFT]

    def _add(self, run: PlannedRun, store: StageStore) -> None:
        before: Need | None = None
        number = 0
        for need in needs_of(run.config):
            self.users.setdefault(need, []).append(run.cell)
            if need not in self.parents:
                self.parents[need] = before
                self.made |= {need} if store.has(need) else set()
            before = need
            if need.masks is not None:
                continue
            stage = run.config.up_to(number)
            number += 1
            if run.state in LEFT:
                self._count(need, stage)

    def _count(self, need: Need, stage: RunConfig) -> None:
        self.steps_alone += need.steps
        cost = self.stages[need][0] if need in self.stages else cost_class(dump(stage))
        seconds = self._stage_seconds(cost, stage)
        self.seconds_alone = total([self.seconds_alone, seconds])
        if need not in self.made:
            self.stages[need] = (cost, stage)


def total(parts: Iterable[float | None]) -> float | None:
    """None if a part is."""
    values = list(parts)
    return None if any(value is None for value in values) else sum(value for value in values if value is not None)
