"""Is early stopping safe here? How soon the order of a study's runs shows, and whom successive halving would stop.

Everything comes from curves of runs that reached their end. Their final values are taken for the truth, though they
hold the noise of one seed each, or of a few.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from orchestrator.stats import COVERAGE
from orchestrator.study import SchedulerSettings

MIN_RUNS = 3
MIN_FOR_INTERVAL = 10
"""Below, the interval's approximation is poor (Bonett and Wright 2000)."""
CHANCE = {5: 1.0, 6: 0.886, 7: 0.786, 8: 0.738, 9: 0.700}
"""By number of runs: the Spearman that ranks without any agreement reach, or its negative, once in twenty times."""
TOP = 3
FIRST_RUNGS, ETAS = (0.1, 0.25, 0.5), (2, 3, 4)
ORDERS = 200
"""Random orders of the runs: halving stops by those that came before."""


@dataclass(frozen=True)
class Report:
    """An evaluation of a run. `time` as in the record."""

    time: str
    step: int
    value: float


@dataclass(frozen=True)
class Curve:
    """A run that reached its end, its reports by step. A larger value is better: of what is minimized, the negative."""

    name: str
    reports: tuple[Report, ...]

    @property
    def steps(self) -> int:
        return self.reports[-1].step

    @property
    def end(self) -> float:
        return self.reports[-1].value


@dataclass(frozen=True)
class Agreement:
    """The order of the runs at a step beside that at their end."""

    step: int
    spearman: float | None
    """None where all values are equal."""
    interval: tuple[float, float] | None
    """Of Spearman's: tanh(atanh(r) ± z sqrt((1 + r²/2) / (n - 3))), Bonett and Wright 2000. None for fewer than ten
    runs, and where the orders are the same or opposite: then it would have no width."""
    kendall: float | None
    """tau-b, which knows ties."""
    place: int
    """At this step, of the run that is best at the end; 1 is the first."""


@dataclass(frozen=True)
class Replay:
    """What successive halving would have done to runs that nobody stopped."""

    first_rung: float
    eta: int
    rungs: tuple[int, ...]
    stopped: dict[str, int]
    """By name: the step."""
    best: str
    """At the end of all runs."""
    top: tuple[str, ...]
    saved: float
    """The share of all steps that would not have been trained."""
    regret: float
    """The best end of all runs minus the best of those that would have reached theirs."""
    lost_in_orders: float
    """Of random orders, run after run: the share in which the best is stopped."""

    @property
    def keeps_best(self) -> bool:
        return self.best not in self.stopped


def agreements(curves: Sequence[Curve]) -> list[Agreement]:
    """At every step at which all runs reported, but the last."""
    ends, best = [curve.end for curve in curves], _ranking(curves)[0]
    found = []
    for step, values in _common(curves).items():
        spearman, kendall = _correlations(values, ends)
        place = 1 + sum(value > values[best] for value in values)
        found.append(Agreement(step, spearman, _interval(spearman, len(curves)), kendall, place))
    return found


def replay(curves: Sequence[Curve], scheduler: SchedulerSettings) -> Replay:
    """The reports of all runs in the order of their times, each judged as the search's pruner would.

    The recorded times hold: that the place of a stopped run would have been free for the next one is left out.
    """
    steps, ranking = curves[0].steps, _ranking(curves)
    best = ranking[0]
    reports = [(report.time, i, report) for i, curve in enumerate(curves) for report in curve.reports]
    in_time = [(i, report) for _, i, report in sorted(reports, key=lambda entry: (entry[0], entry[1], entry[2].step))]
    stopped = stops(in_time, steps, scheduler)
    trained = sum(stopped.get(i, curve.steps) for i, curve in enumerate(curves))
    survivors = [curve.end for i, curve in enumerate(curves) if i not in stopped]
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(curves)) for _ in range(ORDERS)]
    lost = sum(
        best in stops(((int(i), report) for i in order for report in curves[i].reports), steps, scheduler)
        for order in orders
    )
    return Replay(
        first_rung=scheduler.first_rung,
        eta=scheduler.eta,
        rungs=tuple(_rungs(steps, scheduler)),
        stopped={curves[i].name: step for i, step in stopped.items()},
        best=curves[best].name,
        top=tuple(curves[i].name for i in ranking[:TOP]),
        saved=1 - trained / (steps * len(curves)),
        regret=curves[best].end - max(survivors),
        lost_in_orders=lost / ORDERS,
    )


def replays(curves: Sequence[Curve], asked: SchedulerSettings) -> list[Replay]:
    """Over a grid of settings; what is asked for is one of them."""
    pairs = {(asked.first_rung, asked.eta), *product(FIRST_RUNGS, ETAS)}
    return [replay(curves, SchedulerSettings(first_rung=first, eta=eta)) for first, eta in sorted(pairs)]


def stops(reports: Iterable[tuple[int, Report]], steps: int, scheduler: SchedulerSettings) -> dict[int, int]:
    """Which runs are stopped, and at which step, if (run, report) come in this order.

    Asynchronous successive halving as Optuna's pruner does it, which judges the search: a run enters a rung with its
    first value from there on, and goes on if that is among the best 1/eta of all that have entered so far, itself
    included; while they are fewer than eta, if it is the best. No run is stopped at its end.
    """
    rungs: list[list[float]] = [[] for _ in _rungs(steps, scheduler)]
    entered: dict[int, int] = {}
    stopped: dict[int, int] = {}
    for run, report in reports:
        if run in stopped or report.step >= steps:
            continue
        while run not in stopped and report.step >= scheduler.rung(steps, entered.get(run, 0)):
            values = rungs[entered.get(run, 0)]
            insort(values, report.value)
            entered[run] = entered.get(run, 0) + 1
            if report.value < values[-max(len(values) // scheduler.eta, 1)]:
                stopped[run] = report.step
    return stopped


def _rungs(steps: int, scheduler: SchedulerSettings) -> list[int]:
    """Those before the end."""
    found: list[int] = []
    while (step := scheduler.rung(steps, len(found))) < steps:
        found.append(step)
    return found


def _ranking(curves: Sequence[Curve]) -> list[int]:
    """Best end first; the earlier one of equals."""
    return sorted(range(len(curves)), key=lambda i: (-curves[i].end, i))


def _common(curves: Sequence[Curve]) -> dict[int, list[float]]:
    """By step, the values of all runs."""
    rows = [{report.step: report.value for report in curve.reports} for curve in curves]
    steps = sorted(set.intersection(*(set(row) for row in rows)))
    return {step: [row[step] for row in rows] for step in steps[:-1]}


def _correlations(values: Sequence[float], ends: Sequence[float]) -> tuple[float | None, float | None]:
    """Spearman's rho and Kendall's tau-b."""
    if min(values) == max(values) or min(ends) == max(ends):
        return None, None
    from scipy.stats import kendalltau, spearmanr  # slow to import

    rho, tau = (float(np.asarray(measure(values, ends))[0]) for measure in (spearmanr, kendalltau))
    return rho, tau


def _interval(spearman: float | None, n: int) -> tuple[float, float] | None:
    if spearman is None or n < MIN_FOR_INTERVAL or abs(spearman) > 1 - 1e-12:
        return None
    from scipy.special import ndtri

    half = float(ndtri((1 + COVERAGE) / 2)) * math.sqrt((1 + spearman**2 / 2) / (n - 3))
    middle = math.atanh(spearman)
    return math.tanh(middle - half), math.tanh(middle + half)
