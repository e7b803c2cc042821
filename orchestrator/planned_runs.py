"""The runs that a study asks for, and what became of them: here, or in another study beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from guidedmix_core import RunConfig, Tree, build, dump, fingerprint, override
from orchestrator.ablation import AblationStudy, CellRun
from orchestrator.comparison import asked_for
from orchestrator.costs import NEUTRAL, cost_class
from orchestrator.folder import StudyFolder
from orchestrator.results import TrialRecord, load_trial, load_trials
from orchestrator.reuse import is_whole
from orchestrator.study import Objective, SearchStudy, Study

State = Literal["complete", "stopped", "failed", "elsewhere", "begun", "new"]
"""`elsewhere`: complete in another study beside this one, from which it is taken over."""
LEFT: tuple[State, ...] = ("begun", "new")
"""What has still to be made."""
TRIALS = "trials"
"""The name under which a search's proposals are counted."""


@dataclass(frozen=True)
class PlannedRun:
    """A run that the study asks for. What a search will try is not known yet: it stands as the base run."""

    cell: str
    """Of a search: a reference's label, or `TRIALS`; and of what follows it, names made of these."""
    config: RunConfig
    cost: str
    """Its cost class."""
    state: State
    step: int
    """That it has reached; 0 unless it is begun."""


def planned_runs(study: Study, base: Tree, folder: StudyFolder) -> list[PlannedRun]:
    """Each once: of equal cells the first one has the run."""
    if isinstance(study, AblationStudy):
        return list(_of_cells(study, base, folder))
    assert isinstance(study, SearchStudy)
    return list(_of_search(study, base, folder))


def complete_elsewhere(folder: StudyFolder, wanted: Collection[str], objective: Objective) -> set[str]:
    """Those that `reuse` would take over from a study beside this one, if the data is still the same."""
    found: set[str] = set()
    for trials in sorted(folder.path.absolute().parent.glob("*/trials")):
        if trials.parent != folder.path.absolute():
            there = (set(wanted) - found).intersection(os.listdir(trials))
            found |= {
                run for run in there if (trials / run / "result.json").exists() and is_whole(trials / run, objective)
            }
    return found


def studies_beside(folder: StudyFolder) -> list[StudyFolder]:
    """The other studies of the folder above, by name."""
    above = folder.path.absolute().parent
    paths = sorted(above.iterdir()) if above.is_dir() else []
    others = [StudyFolder(path) for path in paths if path != folder.path.absolute()]
    return [other for other in others if other.study_yaml.exists()]


def run_states(folder: StudyFolder, wanted: Collection[str]) -> dict[str, tuple[State, int]]:
    """State and step of the runs that the folder has. Of ends that the journal has, no record is read."""
    place = folder.path / "trials"
    there = set(os.listdir(place)) if place.is_dir() else set()
    there.intersection_update(wanted)
    if not there:
        return {}
    last = {
        event["fingerprint"]: event for event in folder.events() if event["event"] in ("trial_started", "trial_ended")
    }
    found: dict[str, tuple[State, int]] = {}
    for run in there:
        trial, event = folder.trial(run), last.get(run)
        if event is not None and event["event"] == "trial_ended" and trial.result.exists():
            found[run] = (event["state"], 0)
        elif trial.trial.exists():
            found[run] = _reached(load_trial(trial))
    return found


def _reached(record: TrialRecord) -> tuple[State, int]:
    return ("begun", record.step) if record.state == "running" else (record.state, 0)


def _of_cells(study: AblationStudy, base: Tree, folder: StudyFolder) -> Iterator[PlannedRun]:
    runs = study.runs(base)
    first = {run.fingerprint: run for run in reversed(runs)}
    states = run_states(folder, first.keys())
    if study.reuse:
        missing = [run for run in first if run not in states]
        states |= dict.fromkeys(complete_elsewhere(folder, missing, study.objective), ("elsewhere", 0))
    known: dict[str, str] = {}
    for run in runs:
        if first[run.fingerprint] is run:
            state, step = states.get(run.fingerprint, ("new", 0))
            yield PlannedRun(run.cell, run.config, _cost(run, known), state, step)


def _cost(run: CellRun, known: dict[str, str]) -> str:
    """Runs whose parameters differ in neutral sections alone are of one cost class."""
    decisive = {path: value for path, value in run.params.items() if path.partition(".")[0] not in NEUTRAL}
    key = json.dumps(decisive, sort_keys=True)
    if key not in known:
        known[key] = cost_class(dump(run.config))
    return known[key]


def _of_search(study: SearchStudy, base: Tree, folder: StudyFolder) -> Iterator[PlannedRun]:
    records = asked_for(folder.request(), load_trials(folder)) if folder.study_yaml.exists() else []
    made = {record.fingerprint: record for record in records}

    def planned(cell: str, config: RunConfig, record: TrialRecord | None) -> PlannedRun:
        cost = cost_class(dump(config))
        if record is None:
            return PlannedRun(cell, config, cost, "new", 0)
        return PlannedRun(cell, config, cost, *_reached(record))

    def several(cell: str, config: RunConfig, tried: list[TrialRecord], wanted: int) -> Iterator[PlannedRun]:
        for record in tried[:wanted]:
            yield planned(cell, config, record)
        new = planned(cell, config, None)
        for _ in range(wanted - len(tried)):
            yield new

    usual, trials = build(base), study.search.trials
    configs = {
        label: build(override(base, study.references[label], f"references.{label}")) for label in study.references
    }
    names = {label: fingerprint(config) for label, config in configs.items()}
    missing = [digest for digest in names.values() if digest not in made] if study.reuse else []
    elsewhere = complete_elsewhere(folder, missing, study.objectives[0])
    for label, config in configs.items():
        found = planned(label, config, made.get(names[label]))
        yield replace(found, state="elsewhere") if names[label] in elsewhere else found
    yield from several(TRIALS, usual, [record for record in records if record.role == "trial"], trials)
    for label in study.reference_parameters:
        tuning = [record for record in records if record.role == "tuning" and record.cell == label]
        yield from several(f"{label} · {TRIALS}", configs[label], tuning, trials)
    if study.confirm is not None:
        fresh = [record for record in records if record.role == "confirm"]
        blocks, judged = len(study.confirm.block_values), override(base, study.confirm.changes, "confirm")
        for label in study.confirm.against:
            own = [record for record in fresh if record.cell == label]
            config = build(override(judged, study.references[label], f"references.{label}"))
            yield from several(f"{label}, fresh", config, own, blocks)
        winners = [record for record in fresh if record.cell not in study.confirm.against]
        yield from several("best trials, fresh", build(judged), winners, study.confirm.top * blocks)
