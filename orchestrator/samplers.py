"""Optuna's samplers, pruners and distributions by the names a study gives them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, create_trial

from orchestrator.distributions import Choice, Domain, Int, Log, Parameters, Quantized
from orchestrator.study import SearchStudy


def make_sampler(study: SearchStudy, number: int, complete: list[FrozenTrial]) -> BaseSampler:
    """The sampler by name, for the proposal with this number. What it draws depends on the number and on the results
    it knows, not on how often the study was started. `complete`: at this start."""
    settings = study.search
    seed = int(np.random.SeedSequence((settings.seed, number)).generate_state(1)[0])
    startup = settings.startup_trials
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        match settings.sampler:
            case "tpe":  # without group, a parameter with a condition is sampled as if the others did not exist
                return TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, group=True)
            case "gp":
                return GPSampler(seed=seed, n_startup_trials=startup)
            case "cmaes":  # its state is lost with Optuna's file; it starts again from where the best trials are
                return CmaEsSampler(
                    seed=seed,
                    n_startup_trials=startup,
                    warn_independent_sampling=False,
                    source_trials=_numbers_only(study.parameters, complete) or None,
                )
            case "qmc":  # one sequence for the whole study; a start goes through its known points again
                alone = RandomSampler(seed=seed)
                return QMCSampler(
                    seed=settings.seed, scramble=True, independent_sampler=alone, warn_independent_sampling=False
                )
            case "random" | "grid":
                return RandomSampler(seed=seed)


def make_pruner(study: SearchStudy, steps: int) -> BasePruner:
    match study.scheduler.name:
        case "asha":
            first = study.scheduler.rung(steps, 0)
            return SuccessiveHalvingPruner(min_resource=first, reduction_factor=study.scheduler.eta)
        case "median":
            return MedianPruner(n_warmup_steps=study.scheduler.rung(steps, 0))
        case "none":
            return NopPruner()


def distribution(domain: Domain) -> BaseDistribution:
    match domain:
        case Choice():
            return CategoricalDistribution([_spelled(value) for value in domain.choice])
        case Int():
            return IntDistribution(*domain.int)
        case Quantized() if all(isinstance(number, int) for number in domain.quantized):
            low, high, step = (int(number) for number in domain.quantized)
            return IntDistribution(low, high, step=step)
        case Quantized():
            low, high, step = domain.quantized
            return FloatDistribution(low, high, step=step)
        case _:
            return FloatDistribution(*domain.extremes(), log=isinstance(domain, Log))


def suggested(trial: Trial, path: str, domain: Domain) -> Any:
    """The parameter's value at this trial, as the run takes it."""
    found = distribution(domain)
    if isinstance(domain, Choice):
        spelled = [_spelled(value) for value in domain.choice]
        return domain.choice[spelled.index(trial.suggest_categorical(path, spelled))]
    if isinstance(found, IntDistribution):
        return trial.suggest_int(path, found.low, found.high, step=found.step)
    assert isinstance(found, FloatDistribution)
    value = float(trial.suggest_float(path, found.low, found.high, step=found.step, log=found.log))
    if isinstance(domain, Quantized):
        return min(domain.values(), key=lambda exact: abs(exact - value))  # 0.30000000000000004 is 0.3
    return value


def encoded(parameters: Parameters, point: Mapping[str, Any]) -> dict[str, Any]:
    """As Optuna stores it: a choice that is a list or a mapping as text."""
    return {path: _spelled(value) if isinstance(parameters[path], Choice) else value for path, value in point.items()}


def _numbers_only(parameters: Parameters, trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """The trials without the choices, which CMA-ES leaves to chance."""
    times = 1 if len(trials) >= 10 else 10  # its warm start takes the best tenth, and refuses if that is none
    numbers = [path for path in parameters if not isinstance(parameters[path], Choice)]
    return [
        create_trial(
            values=trial.values,
            params={path: trial.params[path] for path in numbers},
            distributions={path: trial.distributions[path] for path in numbers},
        )
        for trial in trials * times
    ]


def _spelled(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, tuple, dict)) else value
