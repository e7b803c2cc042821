"""What to try next, and what to stop: Optuna's samplers and pruners over the record in the study folder.

Optuna's own file is a cache for `optuna-dashboard`: each start makes it anew from the journal and the results. So a run
that has ended is known, one that was interrupted is handed out again, and none is left running that nobody runs.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from orchestrator.distributions import Parameters
from orchestrator.folder import StudyFolder
from orchestrator.proposals import Proposal
from orchestrator.results import TrialRecord, curves, load_trials
from orchestrator.samplers import distribution, encoded, make_pruner, make_sampler, suggested
from orchestrator.space import grid, is_active, is_countable, ordered
from orchestrator.study import SearchStudy

MAX_REPEATS = 10
"""Proposals in a row, beyond the number of trials, that were all asked before: then the space counts as exhausted."""
RUNG = "completed_rung_"
"""How Optuna names what it notes of a trial in each rung."""
MAX_COUNTED = 4096
"""A space of at most so many points is searched for its last free ones."""


@dataclass(frozen=True)
class _Outcome:
    """How Optuna is told of a trial: never with a value that is not finite."""

    state: TrialState
    values: list[float] | None
    curve: dict[int, float]


class Search:
    """The search as the folder tells it. One process asks, reports and tells; `steps` is the length of a run.

    With the label of a reference, it is that reference's own search: over its parameters, with a history of its own.

    The caller journals each proposal as `asked`, with number, params and fingerprint, before its run begins. A proposal
    whose run has no result yet is handed out again by the next start, under its number. Numbers count from 0. That a
    run is asked to stop is journaled here, as `stop_asked`, so that the next start asks it again.
    """

    def __init__(self, study: SearchStudy, folder: StudyFolder, steps: int, reference: str | None = None) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._reference, self._fixed = reference, study.references[reference] if reference else {}
        self._asker = {"role": "tuning" if reference else "trial", "cell": reference}
        study = study.of_reference(reference) if reference else study
        self._request, self._parameters, self._folder, self._steps = study, study.parameters, folder, steps
        self._asked: dict[str, Proposal] = {}  # by their parameters
        self._interrupted: deque[Proposal] = deque()
        self._out: dict[int, Trial] = {}
        self._reported: dict[int, set[int]] = {}  # steps, by number
        self._stops: dict[int, int] = {}  # the rungs that a run had entered when it was asked to stop, by number
        self._points = chain(study.search.start_from, grid(self._parameters) if study.search.sampler == "grid" else ())
        self._free = _points_of_a_small_space(self._parameters)
        history = self._history()
        self._complete = [trial for trial in history if trial.state == TrialState.COMPLETE]
        self._study = _fresh_study(folder, reference, study, self._sampler(), make_pruner(study, steps))
        self._study.add_trials(history)

    def ask(self) -> Proposal | None:
        """The next run: one that was interrupted, a start point, then what the sampler proposes.

        A point is handed out once: where the sampler repeats itself, it proposes again.
        None if all trials are handed out, or the space has no other point.
        """
        if self._interrupted:
            return self._hand_out(self._study.ask(), self._interrupted.popleft())
        self._study.sampler = self._sampler()
        for _ in range(MAX_REPEATS + len(self._asked)):
            if len(self._asked) >= self._request.search.trials or self._free == {} or not self._enqueue():
                return None
            trial = self._study.ask()
            params = self._suggest(trial)
            if _key(params) not in self._asked:
                return self._hand_out(trial, Proposal(self._next, params))
            self._study.tell(trial, state=TrialState.FAIL)  # which no sampler and no pruner counts
        if not self._free:
            return None
        point = next(iter(self._free.values()))
        self._study.enqueue_trial(encoded(self._parameters, point))
        return self._hand_out(self._study.ask(), Proposal(self._next, point))

    def report(self, number: int, step: int, value: float) -> bool:
        """Whether the run should stop here. `value` is the first objective; a step reported twice counts once.

        A value that is not finite stops the run. A run at its last step is complete, never stopped.
        """
        if not math.isfinite(value) or number in self._stops:
            return True
        if len(self._request.objectives) > 1:
            return False
        trial = self._out[number]
        if step not in self._reported[number]:
            self._reported[number].add(step)
            trial.report(value, step)
        if step < self._steps and trial.should_prune():
            entered = self._study.get_trials(deepcopy=False)[trial.number].system_attrs
            self._stops[number] = sum(key.startswith(RUNG) for key in entered)
            self._folder.append({"event": "stop_asked", **self._asker, "number": number, "rungs": self._stops[number]})
        return number in self._stops

    def tell(self, number: int, record: TrialRecord) -> None:
        """The end of a run that was handed out: complete, stopped or failed."""
        outcome = self._outcome(record)
        trial, reported = self._out.pop(number), self._reported.pop(number)
        for step in sorted(outcome.curve.keys() - reported):
            trial.report(outcome.curve[step], step)
        # A stopped trial's value is its last report: Optuna takes it from there.
        self._study.tell(trial, outcome.values if outcome.state == TrialState.COMPLETE else None, state=outcome.state)

    def _history(self) -> list[FrozenTrial]:
        """The trials of the folder as Optuna knows them; those without an end wait to be asked again."""
        records = {record.fingerprint: record for record in load_trials(self._folder)}
        events, history = self._folder.events(), []
        asked = [event for event in events if event["event"] == "asked" and self._is_own(event)]
        numbers = {event["fingerprint"]: event["number"] for event in asked}
        for event in events:
            if event["event"] == "stop_asked" and self._is_own(event):
                self._stops[event["number"]] = event["rungs"]
            elif event["event"] == "trial_retried":  # it begins anew
                self._stops.pop(numbers.get(event["fingerprint"], -1), None)
        for event in asked:
            params = {path: value for path, value in event["params"].items() if path not in self._fixed}
            if _key(params) in self._asked:
                continue
            proposal = Proposal(event["number"], params)
            record = records.get(event["fingerprint"])
            self._remember(proposal)
            if record is None or record.state == "running":
                self._interrupted.append(proposal)
                history.append(self._waiting(proposal, event["fingerprint"]))
            else:
                history.append(self._ended(proposal, self._outcome(record)))
        return history

    def _is_own(self, event: Mapping[str, Any]) -> bool:
        return {key: event.get(key) for key in self._asker} == self._asker

    def _ended(self, proposal: Proposal, outcome: _Outcome) -> FrozenTrial:
        return create_trial(
            state=outcome.state,
            values=outcome.values,
            params=encoded(self._parameters, proposal.params),
            distributions={path: distribution(self._parameters[path]) for path in proposal.params},
            user_attrs={"number": proposal.number},
            system_attrs=self._rungs(outcome.curve, self._stops.get(proposal.number)),
            intermediate_values=outcome.curve,
        )

    def _waiting(self, proposal: Proposal, fingerprint: str) -> FrozenTrial:
        """As `enqueue_trial` adds one, and it remembers what it reported before it was interrupted: all but the last
        report, for a run that goes on tells that once more, and what was decided then may be lost."""
        curve = dict(sorted(self._curve(fingerprint).items())[:-1])
        self._reported[proposal.number] = set(curve)
        return create_trial(
            state=TrialState.WAITING,
            system_attrs={"fixed_params": encoded(self._parameters, proposal.params), **self._rungs(curve)},
            intermediate_values=curve,
        )

    def _sampler(self) -> BaseSampler:
        return make_sampler(self._request, self._next, self._complete)

    @property
    def _next(self) -> int:
        """The number of the next new proposal."""
        return 1 + max((proposal.number for proposal in self._asked.values()), default=-1)

    def _hand_out(self, trial: Trial, proposal: Proposal) -> Proposal:
        self._suggest(trial)
        trial.set_user_attr("number", proposal.number)
        self._remember(proposal)
        self._out[proposal.number] = trial
        self._reported.setdefault(proposal.number, set())
        if self._reference is None:
            return proposal
        label = f"{self._reference} · trial {proposal.number}"
        return Proposal(proposal.number, {**self._fixed, **proposal.params}, label, self._reference)

    def _remember(self, proposal: Proposal) -> None:
        self._asked[_key(proposal.params)] = proposal
        if self._free is not None:
            self._free.pop(_key(proposal.params), None)

    def _enqueue(self) -> bool:
        """The next start point, or point of the grid, that was not asked yet. False: the grid has come to its end."""
        for point in self._points:
            if not any(point.items() <= asked.params.items() for asked in self._asked.values()):
                self._study.enqueue_trial(encoded(self._parameters, point))
                return True
        return self._request.search.sampler != "grid"

    def _suggest(self, trial: Trial) -> dict[str, Any]:
        """The parameters that exist at this point, in the order in which conditions need them."""
        params: dict[str, Any] = {}
        for path in ordered(self._parameters):
            if is_active(self._parameters[path], params):
                params[path] = suggested(trial, path, self._parameters[path])
        return params

    def _outcome(self, record: TrialRecord) -> _Outcome:
        """Stopped is pruned with its last value; failed, or without a finite value, is failed and has none."""
        if record.state == "running":
            raise ValueError(f"trial {record.number} is running: only a run that has ended can be told")
        several = len(self._request.objectives) > 1
        metrics = [goal.metric for goal in self._request.objectives]
        values = [record.metrics.get(metric) for metric in metrics] if several else [record.objective]
        curve = self._curve(record.fingerprint)
        finite = [float(value) for value in values if value is not None and math.isfinite(value)]
        if record.state == "failed" or len(finite) < len(values) or (several and record.state == "stopped"):
            return _Outcome(TrialState.FAIL, None, curve)
        if record.state == "stopped":
            return _Outcome(TrialState.PRUNED, finite, {**curve, record.step: finite[0]})
        return _Outcome(TrialState.COMPLETE, finite, curve)

    def _curve(self, fingerprint: str) -> dict[int, float]:
        """The first objective by step. Optuna keeps no curves of several objectives."""
        goal, *others = self._request.objectives
        rows = [] if others else curves(self._folder, fingerprint)
        return {row["step"]: row[goal.metric] for row in rows if goal.metric in row}

    def _rungs(self, curve: Mapping[int, float], most: int | None = None) -> dict[str, float]:
        """The value with which a run entered each rung, where Optuna's successive halving looks for it. One report may
        pass several rungs; a run that is stopped there has entered but `most`."""
        if self._request.scheduler.name != "asha":
            return {}
        rungs: dict[str, float] = {}
        for step in sorted(curve):
            while len(rungs) != most and self._request.scheduler.rung(self._steps, len(rungs)) <= step < self._steps:
                rungs[f"{RUNG}{len(rungs)}"] = curve[step]
        return rungs


def _fresh_study(
    folder: StudyFolder, reference: str | None, study: SearchStudy, sampler: BaseSampler, pruner: BasePruner
) -> optuna.Study:
    """In one file; the study's own search comes first and begins it anew."""
    path = folder.optuna_journal
    if reference is None:
        path.unlink(missing_ok=True)
        lock = path.with_name(f"{path.name}.lock")  # a killed driver leaves it; the study has its own lock
        lock.unlink(missing_ok=True)
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(path))),
        study_name=f"{folder.name} · {reference}" if reference else folder.name,
        directions=["maximize" if goal.mode == "max" else "minimize" for goal in study.objectives],
        sampler=sampler,
        pruner=pruner,
    )


def _points_of_a_small_space(parameters: Parameters) -> dict[str, dict[str, Any]] | None:
    """All points by their key; None if they can't be counted or are many."""
    if not is_countable(parameters):
        return None
    points = list(islice(grid(parameters), MAX_COUNTED + 1))
    return {_key(point): point for point in points} if len(points) <= MAX_COUNTED else None


def _key(params: Mapping[str, Any]) -> str:
    """Equal for equal points. On one base, different points are different runs."""
    return json.dumps(params, sort_keys=True)
