"""The rows of the page's tables, ready to be written: leaderboard, classes, failures, provenance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.chains import stage_words
from orchestrator.folder import read_json
from orchestrator.report.facts import Facts
from orchestrator.report.panels import Swatch
from orchestrator.report.wording import count, difference, duration, metric_value, moment, parameter
from orchestrator.results import TrialRecord

MAIN_PACKAGES = ("torch", "torchvision", "timm", "ray", "optuna", "mlflow", "numpy")


MOST_COUNTED = 6
MOST_FAILURES = 40
"""Told one by one; the others are in `runs.csv`."""


@dataclass(frozen=True)
class LeaderboardRow:
    rank: str
    name: str
    kind: str
    """best, trial or reference: how the row looks."""
    state: str
    values: list[str]
    params: list[tuple[str, str]]
    """(dotted path, value) in the order of the columns; a reference's own changes are in `changes`."""
    changes: str
    steps: str
    time: str
    is_front: bool


@dataclass(frozen=True)
class ClassRow:
    name: str
    color: str
    best: float | None
    reference: float | None
    difference: str
    is_worse: bool
    precision: str
    recall: str


def leaderboard(facts: Facts) -> list[LeaderboardRow]:
    """Complete trials with the references between them at their place, then stopped, running and failed trials."""
    ranked = [trial for trial in facts.ranking if trial.state == "complete"]
    others = [trial for trial in facts.ranking if trial.state != "complete"]
    ranks = {trial.fingerprint: str(i) for i, trial in enumerate(ranked, start=1)}
    between = [record for record in facts.references if record.role == "reference"]
    placed = [record for record in between if record.state == "complete" and record.objective is not None]
    if len(facts.goals) == 1:
        ranked = sorted([*ranked, *placed], key=lambda record: -facts.sign * (record.objective or 0.0))
    else:
        ranked = [*ranked, *placed]
    unplaced = [record for record in between if record not in placed]
    return [
        _leaderboard_row(facts, record, ranks.get(record.fingerprint, "")) for record in [*ranked, *others, *unplaced]
    ]


def class_rows(facts: Facts, legend: list[Swatch]) -> list[ClassRow]:
    """IoU of every class at the last evaluation: the best trial beside the reference."""
    colors = {swatch.name: swatch.color for swatch in legend}
    return (
        []
        if facts.best is None
        else [_class_row(facts, facts.best, name, colors.get(name, "")) for name in facts.classes]
    )


def failures(facts: Facts) -> list[dict[str, str]]:
    """The first ones, and in the last row how many there are besides."""
    found = []
    failed = [record for record in facts.records if record.state == "failed"]
    for record in failed[:MOST_FAILURES]:
        failure = record.failure or {}
        step = failure.get("step")
        found.append(
            {
                "name": facts.name(record),
                "reason": str(failure.get("reason", "unknown")),
                "step": "–" if step is None else f"{step:,}",
                "message": str(failure.get("message", "")),
            }
        )
    if left := len(failed) - MOST_FAILURES if len(failed) > MOST_FAILURES else 0:
        found.append({"name": f"{left} more", "reason": "", "step": "–", "message": "See report/runs.csv."})
    return found


def provenance(facts: Facts) -> list[tuple[str, str]]:
    """What the study was made with, as (name, words). Missing records leave their rows out."""
    study = read_json(facts.folder.provenance) if facts.folder.provenance.exists() else {}
    run = facts.best or next(iter(facts.records), None)
    made = read_json(facts.home(run).environment) if run is not None and facts.home(run).environment.exists() else {}
    here = study or made
    skipped = made.get("skipped") or ()
    rows = {
        "Command": _command(here.get("command")),
        "Code": _git(facts, here.get("git")),
        "Device": _joined(made.get("device") or here.get("device"), made.get("host")),
        "System": _joined(here.get("platform"), f"Python {here['python']}" if here.get("python") else None),
        "Packages": ", ".join(
            f"{name} {version}" for name, version in (here.get("packages") or {}).items() if name in MAIN_PACKAGES
        ),
        "Data": _joined(
            f"fingerprint {made['data']}" if made.get("data") else None,
            f"{len(skipped)} unreadable skipped" if skipped else None,
        ),
        "Stages": stage_words(run.stages) if run else "",
        "Restarts": f"{len(made['restarts'])} of {facts.name(run)}" if run and made.get("restarts") else "",
        "Study": _joined(facts.folder.name, f"identity {facts.request['identity']}"),
        "Recorded": moment(here.get("time")) if here.get("time") else "",
    }
    return [(name, words) for name, words in rows.items() if words]


def provenance_of_runs(facts: Facts) -> list[tuple[str, str]]:
    """Code, machines and data of all runs that have begun, which may be more than one of each; none if none has."""
    made = [found for record in facts.records if (found := facts.environments[record.fingerprint])]
    code = Counter(_git(facts, each.get("git")) for each in made)
    places = Counter(_joined(each.get("device"), each.get("host")) for each in made)
    data = Counter(str(each["data"]) for each in made if each.get("data"))
    rows = {"Code of the runs": code, "Machines": places, "Data of the runs": data}
    return [(name, _counted(found)) for name, found in rows.items() if any(found)]


def devices(facts: Facts) -> str:
    """On what the runs were trained: `NVIDIA H200`; empty if none has begun."""
    found = dict.fromkeys(facts.environments[record.fingerprint].get("device") for record in facts.records)
    return ", ".join(str(device) for device in found if device)


def all_packages(facts: Facts) -> Mapping[str, str]:
    return (read_json(facts.folder.provenance) if facts.folder.provenance.exists() else {}).get("packages") or {}


def _leaderboard_row(facts: Facts, record: TrialRecord, rank: str) -> LeaderboardRow:
    is_reference = record.role == "reference"
    params = (
        []
        if is_reference
        else [(path, parameter(record.params[path]) if path in record.params else "–") for path in facts.parameters]
    )
    alias = f" ({record.label})" if record.label is not None and not is_reference else ""
    is_best = record is facts.best and facts.is_search
    return LeaderboardRow(
        rank=rank,
        name=f"{facts.name(record)}{alias}" if is_reference else f"{record.number}{alias}",
        kind="reference" if is_reference else "best" if is_best else "trial",
        state=record.state,
        values=[metric_value(goal.metric, facts.value(record, goal)) for goal in facts.goals],
        params=params,
        changes=", ".join(f"{path} = {parameter(value)}" for path, value in record.params.items())
        if is_reference
        else "",
        steps=f"{record.step:,}" if record.step == record.steps else f"{record.step:,} / {record.steps:,}",
        time=duration(record.seconds),
        is_front=record.fingerprint in facts.front and len(facts.goals) > 1,
    )


def _class_row(facts: Facts, run: TrialRecord, name: str, color: str) -> ClassRow:
    metric = f"val/iou/{name}"
    own, other = run.metrics.get(metric), facts.reference.metrics.get(metric) if facts.reference else None
    gap = own - other if own is not None and other is not None else None
    return ClassRow(
        name=name,
        color=color,
        best=own,
        reference=other,
        difference="" if gap is None else difference(metric, gap),
        is_worse=gap is not None and difference(metric, gap).startswith("−"),
        precision=metric_value("precision", run.metrics.get(f"pseudo/precision/{name}")),
        recall=metric_value("recall", run.metrics.get(f"pseudo/recall/{name}")),
    )


def _command(command: Any) -> str:
    """As it was typed, without the place of the program."""
    if not isinstance(command, list) or not command:
        return str(command or "")
    program = Path(str(command[0])).name.replace("__main__.py", "python -m orchestrator")
    return " ".join([program, *map(str, command[1:])])


def _git(facts: Facts, git: Mapping[str, Any] | None) -> str:
    if not git:
        return ""
    commit = f"commit {str(git.get('sha', ''))[:12]}"
    if not git.get("dirty"):
        return f"{commit}, clean"
    patch = facts.folder.code / f"{git.get('diff')}.patch"
    kept = f"code/{patch.name}" if patch.exists() else f"digest {git.get('diff')}"
    return f"{commit}, with uncommitted changes ({kept})"


def _counted(found: Counter[str]) -> str:
    """The most common first: `a (12 runs); b (1 run)`; of very many some, the rest is in `runs.csv`."""
    said = [f"{words} ({count(number, 'run')})" for words, number in found.most_common(MOST_COUNTED) if words]
    left = len(found) - MOST_COUNTED
    return "; ".join([*said, *([f"{left} more in report/runs.csv"] if left > 0 else [])])


def _joined(*words: object) -> str:
    return " · ".join(str(word) for word in words if word)
