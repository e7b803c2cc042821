"""What to try next, and what to stop: Optuna's samplers and pruners over the record in the study folder.

Optuna's own file is a cache for `optuna-dashboard`: each start makes it anew from the journal and the results. So a run
that has ended is known, one that was interrupted is handed out again, and none is left running that nobody runs.
"""

from __future__ import annotations

import json
import math
import warnings
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from orchestrator.distributions import Choice, Domain, Int, Log, Parameters, Quantized
from orchestrator.folder import StudyFolder
from orchestrator.results import TrialRecord, curves, load_trials
from orchestrator.space import grid, is_active, is_countable, ordered
from orchestrator.study import SearchStudy

MAX_REPEATS = 100
"""Proposals in a row, beyond the number of trials, that were all asked before: then the space counts as exhausted."""
MAX_COUNTED = 4096
"""A space of at most so many points is searched for its last free ones."""


@dataclass(frozen=True)
class Proposal:
    """The number of a trial, and its parameters: dotted path to value."""

    number: int
    params: dict[str, Any]


@dataclass(frozen=True)
class _Outcome:
    """How Optuna is told of a trial: never with a value that is not finite."""

    state: TrialState
    values: list[float] | None
    curve: dict[int, float]


class Search:
    """The search as the folder tells it. One process asks, reports and tells; `steps` is the length of a run.

    The caller journals each proposal as `asked`, with number, params and fingerprint, before its run begins. Numbers count
    from 0. A proposal whose run has no result yet is handed out again by the next start, under its number.
    """

    def __init__(self, study: SearchStudy, folder: StudyFolder, steps: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._request, self._parameters, self._folder, self._steps = study, study.parameters, folder, steps
        self._asked: dict[str, Proposal] = {}  # by their parameters
        self._outcomes: dict[int, _Outcome] = {}
        self._interrupted: deque[Proposal] = deque()
        self._out: dict[int, Trial] = {}
        self._reported: dict[int, set[int]] = {}  # steps, by number
        self._stopped: set[int] = set()
        self._points = deque(grid(self._parameters) if study.search.sampler == "grid" else ())
        self._points.extendleft(reversed(study.search.start_from))
        history = self._history()
        sampler = _sampler(study, len(self._asked), [trial for trial in history if trial.state == TrialState.COMPLETE])
        self._study = _fresh_study(folder, study, sampler, _pruner(study, steps))
        self._study.add_trials(history)

    def ask(self) -> Proposal | None:
        """The next run: one that was interrupted, a start point, then what the sampler proposes.

        A point is handed out once: where the sampler repeats itself, it hears the known result and proposes again. None if
        all trials are handed out, or the space has no other point.
        """
        if self._interrupted:
            return self._hand_out(self._study.ask(), self._interrupted.popleft())
        for _ in range(MAX_REPEATS + len(self._asked)):
            if len(self._asked) >= self._request.search.trials or not self._enqueue():
                return None
            trial = self._study.ask()
            params = self._suggest(trial)
            known = self._asked.get(_key(params))
            if known is None:
                return self._hand_out(trial, Proposal(len(self._asked), params))
            self._repeat(trial, known)
        return None

    def report(self, number: int, step: int, value: float) -> bool:
        """Whether the run should stop here. `value` is the first objective; a step reported twice counts once.

        A value that is not finite stops the run. A run at its last step is complete, never stopped.
        """
        if not math.isfinite(value) or number in self._stopped:
            return True
        if len(self._request.objectives) > 1:
            return False
        trial = self._out[number]
        if step not in self._reported[number]:
            self._reported[number].add(step)
            trial.report(value, step)
        if step < self._steps and trial.should_prune():
            self._stopped.add(number)
        return number in self._stopped

    def tell(self, number: int, record: TrialRecord) -> None:
        """The end of a run that was handed out: complete, stopped or failed."""
        outcome = self._outcomes[number] = self._outcome(record)
        trial, reported = self._out.pop(number), self._reported.pop(number)
        for step in sorted(outcome.curve.keys() - reported):
            trial.report(outcome.curve[step], step)
        self._close(trial, outcome)

    def _history(self) -> list[FrozenTrial]:
        """The trials of the folder as Optuna knows them; those without an end wait to be asked again."""
        records = {record.fingerprint: record for record in load_trials(self._folder)}
        history = []
        for event in self._folder.events():
            if event["event"] != "asked" or event.get("role") == "reference" or _key(event["params"]) in self._asked:
                continue
            proposal = Proposal(event["number"], event["params"])
            record = records.get(event["fingerprint"])
            self._asked[_key(proposal.params)] = proposal
            if record is None or record.state == "running":
                self._interrupted.append(proposal)
                history.append(self._waiting(proposal, event["fingerprint"]))
            else:
                self._outcomes[proposal.number] = self._outcome(record)
                history.append(self._ended(proposal))
        return history

    def _ended(self, proposal: Proposal) -> FrozenTrial:
        outcome = self._outcomes[proposal.number]
        return create_trial(
            state=outcome.state,
            values=outcome.values,
            params=_encoded(self._parameters, proposal.params),
            distributions={path: _distribution(self._parameters[path]) for path in proposal.params},
            user_attrs={"number": proposal.number},
            system_attrs=self._rungs(outcome.curve),
            intermediate_values=outcome.curve,
        )

    def _waiting(self, proposal: Proposal, fingerprint: str) -> FrozenTrial:
        """As `enqueue_trial` adds one, and it remembers what it reported before it was interrupted."""
        curve = self._curve(fingerprint)
        self._reported[proposal.number] = set(curve)
        return create_trial(
            state=TrialState.WAITING,
            system_attrs={"fixed_params": _encoded(self._parameters, proposal.params), **self._rungs(curve)},
            intermediate_values=curve,
        )

    def _hand_out(self, trial: Trial, proposal: Proposal) -> Proposal:
        self._suggest(trial)
        trial.set_user_attr("number", proposal.number)
        self._asked[_key(proposal.params)] = proposal
        self._out[proposal.number] = trial
        self._reported.setdefault(proposal.number, set())
        return proposal

    def _repeat(self, trial: Trial, known: Proposal) -> None:
        """A point that was asked before gets its known result, if there is one yet, and the next proposal is a free point."""
        outcome = self._outcomes.get(known.number, _Outcome(TrialState.FAIL, None, {}))
        if outcome.state == TrialState.PRUNED:
            last = max(outcome.curve)
            trial.report(outcome.curve[last], last)
        self._close(trial, outcome)

    def _close(self, trial: Trial, outcome: _Outcome) -> None:
        """A stopped trial's value is its last report: Optuna takes it from there."""
        values = outcome.values if outcome.state == TrialState.COMPLETE else None
        self._study.tell(trial, values, state=outcome.state)
