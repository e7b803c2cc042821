"""The study in a few plain sentences and four numbers. It claims no more than one seed can show."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from orchestrator.budgets import Budgets, TunedRuns, budgets
from orchestrator.importance import Importances
from orchestrator.report.confirmed import fresh_sentences
from orchestrator.report.curves import harm
from orchestrator.report.facts import Facts
from orchestrator.report.wording import (
    count,
    difference,
    duration,
    listed,
    metric_title,
    metric_value,
    parameter,
    period,
)
from orchestrator.results import TrialRecord
from orchestrator.reuse import reused_words
from orchestrator.units import is_share

MOST_NAMED = 6
STATES = (("complete", "complete"), ("stopped", "stopped early"), ("failed", "failed"), ("running", "unfinished"))


@dataclass(frozen=True)
class Tile:
    number: str
    unit: str
    caption: str
    is_leading: bool = False


def tiles(facts: Facts) -> list[Tile]:
    """The numbers at the top: the best, what it is worth beside the reference, how many runs, how long."""
    found = []
    metric = facts.goal.metric
    if facts.best is not None:
        caption = (
            f"trial {facts.best.number}, the best trial"
            if facts.is_search
            else f"this run, after {facts.best.step:,} steps"
        )
        found.append(Tile(metric_value(metric, facts.best.objective), metric_title(metric), caption, is_leading=True))
        if facts.reference is not None:
            gap = (facts.best.objective or 0.0) - (facts.reference.objective or 0.0)
            unit = "points" if is_share(metric) else metric_title(metric)
            found.append(Tile(difference(metric, gap), unit, f"against {facts.name(facts.reference)}, one seed each"))
    if facts.is_search:
        states = [trial.state for trial in facts.trials]
        found.append(Tile(str(len(facts.trials)), f"of {count(planned(facts), 'trial')}", state_words(states)))
    found.append(
        Tile(
            duration(sum(record.seconds for record in facts.records)),
            "",
            "of training, all runs together" if facts.is_search else "of training",
        )
    )
    return found


def planned(facts: Facts) -> int:
    return max(facts.request.get("search", {}).get("trials") or facts.request["planned"], len(facts.trials))


def state_words(states: list[str]) -> str:
    """`7 complete, 3 stopped early`."""
    return ", ".join(f"{states.count(state)} {words}" for state, words in STATES if state in states) or "none started"


def when(facts: Facts) -> str:
    """From the journal's first event to its last end, or to the last sign of life."""
    events = facts.folder.events()
    if events:
        return period(events[0]["time"], events[-1]["time"])
    starts = sorted(record.started for record in facts.records if record.started)
    ends = sorted(record.ended for record in facts.records if record.ended)
    return period(starts[0], ends[-1] if ends else None) if starts else ""


def sentences(facts: Facts, importance: Importances | None) -> list[str]:
    """What a colleague should know after ten seconds."""
    said = [_result(facts)]
    if facts.best is not None:
        said += [_beside(facts, facts.best, _judged(facts))] if facts.is_search or _judged(facts) else []
        said += [
            *_budgets(facts).sentences(partial(metric_value, facts.goal.metric), duration),
            *fresh_sentences(facts),
        ]
        if facts.is_search and facts.best.params:
            values = [f"{facts.short[path]} = {parameter(value)}" for path, value in facts.best.params.items()]
            said.append(f"Its parameters: {listed(values)}.")
    if importance is not None and importance.rows:
        said.append(_important(facts, importance))
    if len(facts.goals) > 1 and facts.front:
        numbers = listed(
            str(trial.number)
            for trial in sorted(facts.trials, key=lambda trial: trial.number)
            if trial.fingerprint in facts.front
        )
        said.append(
            "On the Pareto front, where no complete trial is better in one objective and no worse in the others: "
            f"{numbers}."
        )
    return said


def flags(facts: Facts) -> list[str]:
    """What should worry the reader."""
    return [said for said in (harmed(facts), _fell(facts), *_budgets(facts).warnings, *reused(facts)) if said]


def reused(facts: Facts) -> list[str]:
    """Which studies made the runs that were taken over."""
    words = reused_words(facts.records, facts.folder)
    return [] if words is None else [f"Not trained here: {words}."]


def harmed(facts: Facts) -> str:
    """The runs whose target is worse than the plain prediction once any ramp is over; empty if there are none."""
    found = [
        (facts.name(record), pair)
        for record in facts.records
        if (pair := harm(facts.curves[record.fingerprint], record.steps))
    ]
    if not found:
        return ""
    named = [f"{name} ({100 * target:.1f} against {100 * plain:.1f} %)" for name, (target, plain) in found]
    if len(named) > MOST_NAMED:
        named = [*named[:MOST_NAMED], f"{len(named) - MOST_NAMED} more"]
    return (
        f"The term harms by construction in {listed(named)}: in the second half of training, what it teaches is right "
        "on fewer pixels, before unsure ones are dropped, than the student's plain prediction."
    )


def _fell(facts: Facts) -> str:
    """A best trial that was more than a point better on the way."""
    run, metric = facts.best, facts.goal.metric
    if run is None or run.best is None or run.objective is None or not is_share(metric):
        return ""
    fall = facts.sign * (run.best["metrics"].get(metric, run.objective) - run.objective)
    if fall <= 0.01:
        return ""
    name, step = facts.name(run).capitalize(), run.best["step"]
    return f"{name} was {100 * fall:.1f} points better at step {step:,} than at its end."


def _result(facts: Facts) -> str:
    goal = facts.goal
    if facts.best is None:
        if any(record.state == "running" for record in facts.trials):
            return "No trial has finished yet." if facts.is_search else "The run has not finished yet."
        failed = sum(record.state == "failed" for record in facts.trials)
        if failed and not facts.is_search:
            return "The run failed; the reason is below."
        return f"No trial is complete: {state_words([trial.state for trial in facts.trials])}."
    value = f"{metric_value(goal.metric, facts.best.objective)} {metric_title(goal.metric)}"
    if not facts.is_search:
        return f"The run reached {value} after {facts.best.step:,} steps."
    first = f", by {metric_title(goal.metric)}," if len(facts.goals) > 1 else ""
    return f"Best{first} is trial {facts.best.number}: {value} after {facts.best.step:,} steps."


def _beside(facts: Facts, winner: TrialRecord, references: list[TrialRecord]) -> str:
    if not references:
        return "There is no finished reference to compare it with."
    metric = facts.goal.metric
    points = " points" if is_share(metric) else ""
    gaps = []
    for reference in references:
        gap = difference(metric, (winner.objective or 0.0) - (reference.objective or 0.0))
        budget = (
            "" if reference.steps == winner.steps else f", given {reference.steps:,} steps and not {winner.steps:,}"
        )
        gaps.append(f"{gap}{points} against {reference.label} ({metric_value(metric, reference.objective)}{budget})")
    return f"That is {listed(gaps)}. One seed each: not a confirmed difference."


def _budgets(facts: Facts) -> Budgets:
    return budgets(TunedRuns(facts.folder), facts.request, facts.records)


def _important(facts: Facts, found: Importances) -> str:
    """A parameter is only named if its whole interval lies above an even share."""
    clear = [row for row in found.rows if row.low > 1 / len(found.rows)]
    if not clear:
        trials = count(found.trials, "finished trial")
        return f"{trials} do not show which parameter matters: no interval of importance lies above an even share."
    named = listed(
        f"{facts.short[row.path]} ({100 * row.share:.0f} %, interval {100 * row.low:.0f} to {100 * row.high:.0f} %)"
        for row in clear
    )
    return f"What told good trials from the others: {named} of the importance."


def _judged(facts: Facts) -> list[TrialRecord]:
    return [
        record
        for record in facts.references
        if record.state == "complete" and record.objective is not None and record is not facts.best
    ]
