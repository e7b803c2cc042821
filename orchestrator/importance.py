"""How much of reaching the best trials went with each parameter, and how sure that is.

PED-ANOVA (Watanabe, Bansal and Hutter, IJCAI 2023, arXiv 2304.10255) asks how differently a parameter is distributed
among the best trials and among all of them. The interval is a percentile bootstrap over trials; it says nothing about
the noise of seeds.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, create_trial

MIN_TRIALS = 8
MIN_TOP = 5
"""Optuna's documentation asks for at least five trials in the top share."""


@dataclass(frozen=True)
class Importance:
    """A parameter's share of the whole, and the bootstrap interval of that share."""

    path: str
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Importances:
    """The most important first. `refusal` says why there are none."""

    rows: tuple[Importance, ...]
    trials: int
    top: float
    """The share of trials that counts as best."""
    refusal: str | None = None


def importances(
    params: Sequence[Mapping[str, Any]],
    values: Sequence[float],
    mode: Literal["max", "min"],
    *,
    logarithmic: frozenset[str] = frozenset(),
    resamples: int = 100,
    coverage: float = 0.9,
) -> Importances:
    """Of trials with these parameters and objective values.

    `logarithmic` names the parameters that were searched on a log scale. A parameter that a trial does not have (a
    condition left it out) is absent from that trial's mapping.
    """
    count, top = len(values), top_share(len(values))
    distributions = _distributions(params, logarithmic)
    if count < MIN_TRIALS:
        return Importances(
            (), count, top, f"Parameter importance needs at least {MIN_TRIALS} finished trials; there are {count}."
        )
    if not distributions:
        return Importances((), count, top, "No parameter took more than one value, so none can be important.")
    if len(set(values)) == 1:
        return Importances(
            (), count, top, "All finished trials have the same objective, so no parameter can be important."
        )
    trials = [_trial(each, value, distributions) for each, value in zip(params, values, strict=True)]
    rng = np.random.default_rng(0)
    with _quiet():
        shares = _shares(trials, list(distributions), mode, top)
        drawn = [
            _shares([trials[i] for i in rng.integers(count, size=count)], list(distributions), mode, top)
            for _ in range(resamples)
        ]
    tails = ((1 - coverage) / 2, (1 + coverage) / 2)
    rows = [_row(path, share, np.quantile([each[path] for each in drawn], tails)) for path, share in shares.items()]
    return Importances(tuple(sorted(rows, key=lambda row: -row.share)), count, top)


def top_share(count: int) -> float:
    """A quarter of the trials; more when that would be fewer than five; never more than half."""
    return min(0.5, max(0.25, MIN_TOP / max(count, 1)))


def _row(path: str, share: float, interval: np.ndarray) -> Importance:
    # A resample repeats trials, which shifts small shares upward; the interval must still hold its estimate.
    return Importance(path, share, float(min(interval[0], share)), float(max(interval[1], share)))


def _shares(
    trials: Sequence[FrozenTrial], paths: list[str], mode: Literal["max", "min"], top: float
) -> dict[str, float]:
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # it imports scikit-learn

    study = optuna.create_study(direction="maximize" if mode == "max" else "minimize")
    study.add_trials(trials)
    seen = [path for path in paths if any(path in trial.params for trial in trials)]
    shares = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=top), params=seen)
    return {path: float(shares.get(path, 0.0)) for path in paths}


def _trial(params: Mapping[str, Any], value: float, distributions: Mapping[str, BaseDistribution]) -> FrozenTrial:
    known = {path: distribution for path, distribution in distributions.items() if path in params}
    plain = {
        path: _spelled(params[path]) if isinstance(distribution, CategoricalDistribution) else float(params[path])
        for path, distribution in known.items()
    }
    return create_trial(params=plain, distributions=known, value=value)


def _distributions(params: Sequence[Mapping[str, Any]], logarithmic: frozenset[str]) -> dict[str, BaseDistribution]:
    """Over the range that was visited; a parameter that never changed has none."""
    found: dict[str, BaseDistribution] = {}
    for path in dict.fromkeys(path for each in params for path in each):
        values = [each[path] for each in params if path in each]
        spelled = sorted({_spelled(value) for value in values})
        if len(spelled) < 2:
            continue
        if all(_is_number(value) for value in values):
            log = path in logarithmic and min(values) > 0
            found[path] = FloatDistribution(float(min(values)), float(max(values)), log=log)
        else:
            found[path] = CategoricalDistribution(spelled)
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _spelled(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna announces each study it makes, and warns where a resample is degenerate."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(level)
