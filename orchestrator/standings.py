"""What a study says in a table beside other studies: a row a cell, a reference, the winner of a search, or a run.

Of a search that has fresh runs of its winners these are shown, and not the lucky trial.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from guidedmix_core import ConfigError, nearest
from orchestrator.comparison import Cell, Comparison, asked_for, compare
from orchestrator.confirmation import Confirmation, confirmation
from orchestrator.folder import StudyFolder
from orchestrator.judging import is_part
from orchestrator.protocol import Protocol, protocol_of, settings_of, unlike, unlike_settings, unverified
from orchestrator.results import TrialRecord, best, load_trials, objectives, objectives_of
from orchestrator.stats import Estimate, estimate


@dataclass(frozen=True)
class Standing:
    """One row: the mean over the runs of one configuration, seeds and splits apart."""

    name: str
    role: str
    """cell, reference, ceiling, winner, run; of another tool's runs: group."""
    value: Estimate | None
    runs: tuple[str, ...]
    """Fingerprints, or another tool's ids, of what `value` is the mean of."""
    failed: int = 0
    steps: tuple[int, ...] = ()
    """Lengths of the runs: one, unless budgets are unequal."""
    differs: tuple[str, ...] = ()
    """In what it was judged otherwise than the first row of its own study, as a ceiling is."""


@dataclass(frozen=True)
class Entry:
    """A study, or an experiment of another tool."""

    name: str
    protocol: Protocol | None
    """That of the first row with a complete run. None: unknown."""
    standings: tuple[Standing, ...]
    notes: tuple[str, ...] = ()
    unlike: tuple[str, ...] = field(default=())
    """How its protocol differs from that of the first entry."""


def read_entry(folder: StudyFolder, metric: str) -> Entry:
    """Of any study. ConfigError if the folder is none, or if its complete runs lack the metric."""
    request = folder.request()
    records = asked_for(request, load_trials(folder))
    _check_metric(folder, records, metric)
    if request["kind"] == "ablate":
        return _of_ablation(folder, compare(request, records), metric)
    complete = [record for record in records if record.state == "complete"]
    if request["kind"] == "train":
        shown = [(folder.name, "run", record) for record in complete]
        return _of_runs(folder, shown, metric, ())
    fresh = confirmation(request, records)
    if isinstance(fresh, Confirmation) and any(winner.cell.complete for winner in fresh.winners):
        return _of_fresh(folder, request, fresh, metric)
    winner = best(records, objectives_of(request)[0])
    shown = [(f"trial {winner.number}", "winner", winner)] if winner else []
    shown += [(str(record.label), "reference", record) for record in complete if record.role == "reference"]
    tried = sum(record.role == "trial" for record in records)
    note = f"{folder.name}: the winner is the best of {tried} trials by the very images it is judged on, which flatters"
    return _of_runs(folder, shown, metric, (note,) if winner else ())


def metric_of(folder: StudyFolder) -> str:
    """What the study is about."""
    return objectives(folder)[0].metric


def mode_of(folders: Iterable[StudyFolder], metric: str) -> Literal["max", "min"] | None:
    """Which way the metric is better, by the first study that is about it. None if none is."""
    goals = (objective for folder in folders for objective in objectives(folder))
    return next((objective.mode for objective in goals if objective.metric == metric), None)


def judged(entries: Sequence[Entry], *, anyway: bool) -> list[Entry]:
    """Each with what it is unlike the first one in. ConfigError if something is, unless `anyway`."""
    first = next((entry for entry in entries if entry.protocol is not None), None)
    found = [_beside(first, entry) for entry in entries]
    odd = [entry for entry in found if entry.unlike]
    if odd and first is not None and not anyway:
        lines = [f"  {first.name} and {entry.name}: {'; '.join(entry.unlike)}" for entry in odd]
        said = "these numbers may not stand side by side:\n" + "\n".join(lines)
        raise ConfigError(f"{said}\nchoose studies of one protocol, or see them marked with --anyway")
    return found


def _beside(first: Entry | None, entry: Entry) -> Entry:
    if first is None or entry is first or first.protocol is None or entry.protocol is None:
        return entry
    notes = entry.notes
    if unknown := unverified(first.protocol, entry.protocol):
        notes += (f"{entry.name}: {' and '.join(unknown)} are not verified to be those of {first.name}",)
    differing = tuple(unlike(first.protocol, entry.protocol))
    return Entry(entry.name, entry.protocol, entry.standings, notes, differing)


def _of_ablation(folder: StudyFolder, comparison: Comparison, metric: str) -> Entry:
    roles = {comparison.reference.name: "reference"}
    if comparison.ceiling is not None:
        roles[comparison.ceiling.name] = "ceiling"
    return _of_cells(folder, comparison, metric, roles)


def _of_fresh(folder: StudyFolder, request: dict[str, Any], fresh: Confirmation, metric: str) -> Entry:
    """The winners of a search and the references, in the blocks that the search has not seen."""
    cells = {cell.name: "reference" for cell in fresh.comparison.cells}
    roles = cells | {winner.cell.name: "winner" for winner in fresh.winners}
    entry = _of_cells(folder, fresh.comparison, metric, roles)
    said = [
        f"the best {len(fresh.winners)} of {fresh.trials} trials, run again in fresh blocks: chosen by the "
        f"{fresh.chosen_by} part, judged by the {fresh.part} part",
        *fresh.warnings,
    ]
    if left := [label for label in request["references"] if label not in cells]:
        said.append(f"not run again, so left out: {', '.join(left)}")
    return replace(entry, notes=(*entry.notes, *(f"{folder.name}: {sentence}" for sentence in said)))


def _of_cells(folder: StudyFolder, comparison: Comparison, metric: str, roles: Mapping[str, str]) -> Entry:
    reference = comparison.reference
    cells = sorted(comparison.cells, key=lambda cell: cell is not reference)
    first = next((cell for cell in cells if cell.complete and cell is not comparison.ceiling), reference)
    protocol = _protocol(folder, [*first.complete.values()])
    rows = []
    for cell in cells:
        role = roles.get(cell.name, "cell")
        runs = [run for run in cell.complete.values() if _value(run, metric) is not None]
        differs = _otherwise(folder, cell, protocol) if any(map(is_part, cell.changes)) else ()
        rows.append(_standing(cell.name, role, runs, metric, cell.failed, differs))
    missing = sum(run is None or run.state == "running" for cell in comparison.cells for run in cell.runs)
    note = f"{folder.name}: UNFINISHED, {missing} of its cells' runs have no end yet"
    return Entry(folder.name, protocol, tuple(rows), (note,) if missing and not comparison.looks else ())


def _of_runs(
    folder: StudyFolder, shown: Sequence[tuple[str, str, TrialRecord]], metric: str, notes: tuple[str, ...]
) -> Entry:
    """Of single runs: the first one's protocol is the study's."""
    protocol = _protocol(folder, [shown[0][2]]) if shown else None
    rows = []
    for name, role, run in shown:
        known = {} if protocol is None else protocol.settings
        differs = tuple(unlike_settings(known, settings_of(folder.trial(run.fingerprint))))
        rows.append(_standing(name, role, [run], metric, 0, differs))
    if not shown:
        notes = (*notes, f"{folder.name}: UNFINISHED, no run is complete")
    return Entry(folder.name, protocol, tuple(rows), notes)


def _standing(
    name: str,
    role: str,
    runs: Sequence[TrialRecord],
    metric: str,
    failed: int,
    differs: tuple[str, ...],
) -> Standing:
    values = [value for run in runs if (value := _value(run, metric)) is not None]
    steps = tuple(sorted({run.steps for run in runs}))
    fingerprints = tuple(run.fingerprint for run in runs)
    return Standing(name, role, estimate(values), fingerprints, failed, steps, differs)


def _otherwise(folder: StudyFolder, cell: Cell, protocol: Protocol | None) -> tuple[str, ...]:
    run = next(iter(cell.complete.values()), None)
    if run is None or protocol is None:
        return ()
    return tuple(unlike_settings(protocol.settings, settings_of(folder.trial(run.fingerprint))))


def _protocol(folder: StudyFolder, runs: Sequence[TrialRecord]) -> Protocol | None:
    return protocol_of((run, folder.trial(run.fingerprint)) for run in runs)


def _value(run: TrialRecord, metric: str) -> float | None:
    """At the last evaluation."""
    return run.metrics.get(metric)


def _check_metric(folder: StudyFolder, records: Sequence[TrialRecord], metric: str) -> None:
    known = {name for record in records if record.state == "complete" for name in record.metrics}
    if known and metric not in known:
        raise ConfigError(f"{folder.place}: no run has the metric {metric!r}; {nearest(metric, known)}")
