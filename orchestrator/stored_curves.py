"""The curves that `rungs` compares: the complete trials of a search, or the mean of each cell of an ablation."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import fmean

from guidedmix_core import ConfigError
from orchestrator.comparison import compare
from orchestrator.folder import StudyFolder
from orchestrator.results import TrialRecord, curves, load_trials, objectives_of
from orchestrator.rungs import MIN_RUNS, Curve, Report
from orchestrator.study import Objective


@dataclass(frozen=True)
class StoredCurves:
    """All of one length, so that a step is the same share of each. Steps are a run's own, as a scheduler sees them."""

    curves: list[Curve]
    unit: str
    """What a curve is: `trial`, or `cell` with the number of blocks it is the mean of."""
    objective: Objective
    stopped: int
    """Trials whose end is not known, because a scheduler stopped them."""
    left_out: dict[str, int]
    """How many others are not here, by reason."""


def stored_curves(folder: StudyFolder) -> StoredCurves:
    """ConfigError if fewer than three runs, or cells, are complete."""
    request, records = folder.request(), load_trials(folder)
    goal = objectives_of(request)[0]
    if request["kind"] == "ablate":
        found, unit, left_out = _cells(folder, request, records, goal)
        stopped = 0
    else:
        trials = [record for record in records if record.role == "trial"]
        found = [(f"trial {trial.number}", _curve(folder, trial, goal)) for trial in trials if _is_whole(trial)]
        stopped = sum(trial.state == "stopped" for trial in trials)
        left_out = dict(Counter(trial.state for trial in trials if trial.state in ("failed", "running")))
        unit = "trial"
    lengths = Counter(reports[-1].step for _, reports in found)
    length = max(lengths, key=lambda step: (lengths[step], step), default=0)
    if other := sum(lengths.values()) - lengths[length]:
        apart = ", stages apart: a scheduler hears of a run when its own steps begin"
        left_out[f"of another length{apart if any(record.stages for record in records) else ''}"] = other
    kept = [Curve(name, reports) for name, reports in found if reports[-1].step == length]
    if len(kept) < MIN_RUNS:
        counted = "1 is" if len(kept) == 1 else f"{len(kept)} are"
        raise ConfigError(
            f"{folder.place}: ranks can be compared from {MIN_RUNS} complete {unit.split()[0]}s on, {counted} "
            "complete; let the study come to its end, or give it more"
        )
    return StoredCurves(kept, unit, goal, stopped, left_out)


def _cells(
    folder: StudyFolder, request: dict, records: list[TrialRecord], goal: Objective
) -> tuple[list[tuple[str, tuple[Report, ...]]], str, dict[str, int]]:
    """Of the cells that are complete in every block: in others a lucky block would weigh more. The ceiling is no rival,
    so it is not here."""
    comparison = compare(request, records)
    rivals = [cell for cell in comparison.cells if cell is not comparison.ceiling]
    whole = [cell for cell in rivals if len(cell.complete) == comparison.blocks]
    whole = [cell for cell in whole if len({run.steps for run in cell.complete.values()}) == 1]
    found = []
    for cell in whole:
        runs = [{report.step: report for report in _curve(folder, run, goal)} for run in cell.complete.values()]
        steps = sorted(set.intersection(*(set(run) for run in runs)))
        found.append((cell.name, tuple(_mean([run[step] for run in runs]) for step in steps)))
    missing = len(rivals) - len(whole)
    blocks = f"{comparison.blocks} block{'' if comparison.blocks == 1 else 's'}"
    return found, f"cell (mean of {blocks})", {"not complete in every block": missing} if missing else {}


def _mean(reports: list[Report]) -> Report:
    """Known once the last of its runs has reported."""
    times, values = [report.time for report in reports], [report.value for report in reports]
    return Report(max(times), reports[0].step, fmean(values))


def _is_whole(record: TrialRecord) -> bool:
    return record.state == "complete" and record.objective is not None


def _curve(folder: StudyFolder, record: TrialRecord, goal: Objective) -> tuple[Report, ...]:
    sign = 1 if goal.mode == "max" else -1
    rows = [row for row in curves(folder, record.fingerprint) if goal.metric in row]
    return tuple(Report(row["time"], row["step"], sign * row[goal.metric]) for row in rows)
