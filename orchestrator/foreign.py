"""Runs that another tool logged to MLflow, as rows of a comparison: equal parameters but for the seed are one row."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from guidedmix_core import ConfigError, nearest
from orchestrator.standings import Entry, Standing
from orchestrator.stats import estimate
from orchestrator.units import is_share

SEEDS = ("seed", "random_state", "rng")
"""The last word of a parameter's name, or the end of it, that says that it draws and does not decide."""


@dataclass(frozen=True)
class ForeignRun:
    """What MLflow has of a run."""

    id: str
    status: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    """The last value of each."""


def is_seed(name: str) -> bool:
    """`seed`, `split.seed`, `train/random_seed`, `random_state`."""
    last = name.replace("/", ".").replace(":", ".").rpartition(".")[2].lower()
    return any(last == word or last.endswith(f"_{word}") for word in SEEDS)


def entry_of(
    name: str,
    runs: Sequence[ForeignRun],
    metric: str,
    mode: Literal["max", "min"] | None,
    ignored: Collection[str] = (),
) -> Entry:
    """A row for each setting of the other parameters, the best first; by name if the mode is not known. ConfigError if
    no finished run has a finite value of the metric.

    `ignored`: parameters that decide nothing, such as the folder of the output.
    """
    finished = [run for run in runs if run.status == "FINISHED" and _is_finite(run.metrics.get(metric))]
    if not finished:
        raise ConfigError(f"mlflow:{name}: no finished run has a finite {metric!r}; {_cure(runs, metric)}")
    groups: dict[tuple[tuple[str, str], ...], list[ForeignRun]] = defaultdict(list)
    for run in finished:
        groups[tuple(sorted(pair for pair in run.params.items() if _decides(pair[0], ignored)))].append(run)
    varied = _varied([dict(key) for key in groups])
    scale = 100.0 if is_share(metric) and any(run.metrics[metric] > 1 for run in finished) else 1.0
    rows = [_row(dict(key), found, varied, metric, scale) for key, found in groups.items()]
    sign = {"max": -1, "min": 1, None: 0}[mode]
    rows.sort(key=lambda row: (sign * row.value.mean if row.value else 0.0, row.name))
    return Entry(name, None, tuple(rows), tuple(_notes(name, runs, finished, groups.values(), metric, scale, varied)))


def _row(
    params: Mapping[str, str], runs: Sequence[ForeignRun], varied: Sequence[str], metric: str, scale: float
) -> Standing:
    words = [f"{path}={params[path]}" for path in varied if path in params]
    value = estimate([run.metrics[metric] / scale for run in runs])
    return Standing(", ".join(words) or "all runs", "group", value, tuple(run.id for run in runs))


def _notes(
    name: str,
    runs: Sequence[ForeignRun],
    finished: Sequence[ForeignRun],
    groups: Collection[Sequence[ForeignRun]],
    metric: str,
    scale: float,
    varied: Sequence[str],
) -> list[str]:
    """What the runs don't carry, and what was made of them."""
    said = [f"{name}: data, split, classes and evaluation are not known to MLflow, so nothing of them is verified"]
    if left := len(runs) - len(finished):
        said.append(f"{name}: {left} of {len(runs)} runs are left out: not finished, or without a finite {metric}")
    if scale != 1:
        said.append(f"{name}: {metric} has values above 1, so all are read as percent")
    seeds = [[_seed(run) for run in found] for found in groups]
    if any(len(found) > 1 and not all(found) for found in seeds):
        said.append(f"{name}: runs without a seed among their parameters are taken to be independent")
    if any(len(set(found)) < len(found) for found in seeds if all(found)):
        said.append(f"{name}: some rows have runs of one and the same seed; n counts runs")
    if len(groups) > 1 and all(len(found) == 1 for found in groups):
        listed = ", ".join(varied[:8])
        said.append(
            f"{name}: no two runs have equal parameters; if one of these decides nothing, --ignore it: {listed}"
        )
    return said


def _is_finite(value: float | None) -> bool:
    """MLflow's databases keep an infinite value as the largest number."""
    return value is not None and abs(value) < sys.float_info.max


def _cure(runs: Sequence[ForeignRun], metric: str) -> str:
    known = {key for run in runs for key in run.metrics}
    if metric in known:
        return "its runs that have it did not finish, or diverged"
    return nearest(metric, known) if known else f"its {len(runs)} runs have no metric at all"


def _decides(name: str, ignored: Collection[str]) -> bool:
    return name not in ignored and not is_seed(name)


def _seed(run: ForeignRun) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(pair for pair in run.params.items() if is_seed(pair[0])))


def _varied(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """The parameters that tell the rows apart."""
    paths = dict.fromkeys(path for setting in settings for path in setting)
    return [path for path in paths if len({setting.get(path) for setting in settings}) > 1]
