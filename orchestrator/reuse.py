"""Finished runs of the studies beside this one: equal configuration, data and pretrained weights, so the same run.

Runs that still go on are never looked at: `result.json` is written last. The record is copied, for a study folder must
stand alone; the weights are linked where the disk can do that, for they are large and never written to again.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from guidedmix_core import RunConfig, fingerprint, open_data
from orchestrator.folder import StudyFolder, TrialFolder, read_json, write_atomic, write_json
from orchestrator.results import TrialRecord, load_trial
from orchestrator.storage import names_beside, publish, refresh
from orchestrator.study import Objective

RECORDS = ("config.yaml", "environment.json", "metrics.jsonl", "counts.npz")


def find_finished(config: RunConfig, folder: StudyFolder, objective: Objective) -> TrialFolder | None:
    """The complete run of another study that is this run, on the data and from the pretrained weights as they are now;
    the first by the study's name. One that did not note the weights is none of pretrained ones."""
    digest, place = fingerprint(config), folder.path.absolute()
    for study in names_beside(place):
        refresh(place.parent / study / "trials" / digest, without=())
    others = (path.parent for path in sorted(place.parent.glob(f"*/trials/{digest}/result.json")))
    finished = [TrialFolder(path) for path in others if path.parent.parent != place and is_whole(path, objective)]
    if not finished:
        return None
    read = (open_data(config).fingerprint, config.segmentor.backbone.weights_digest())
    return next((trial for trial in finished if _has_read(trial) == read), None)


def is_whole(path: Path, objective: Objective) -> bool:
    """Of a trial's folder: complete, as it was asked for, with what this study judges it by, and with all its files:
    some may have been removed to save room."""
    if not all((path / name).exists() for name in (*RECORDS, "trial.json")):
        return False
    record = load_trial(TrialFolder(path))
    return record.state == "complete" and record.halvings == 0 and objective.metric in record.metrics


def _has_read(trial: TrialFolder) -> tuple[str | None, str | None]:
    """Data and pretrained weights."""
    made = read_json(trial.environment)
    return made.get("data"), made.get("weights")


def take_over(found: TrialFolder, into: TrialFolder, objective: Objective) -> str:
    """Make the run this study's, which has handed it out already; the name of the study that made it.

    It has its end here only once everything else is there: cut short, it is taken over, or trained, the next time.
    """
    with into.running():
        for name in RECORDS:
            write_atomic(into.path / name, (found.path / name).read_bytes())
        if found.panels.exists():
            shutil.copytree(found.panels, into.panels, dirs_exist_ok=True)
        _link(found.checkpoint / "best.pt", into.checkpoint / "best.pt")
        publish(into.path)
        _take_changes(found, into)
        made_by = read_json(found.trial).get("reused_from") or found.path.absolute().parent.parent.name
        write_json(into.trial, {**read_json(into.trial), "reused_from": made_by})
        result = read_json(found.result)
        write_json(into.result, {**result, "objective": result["metrics"][objective.metric]})
    return made_by


def reused_words(records: Iterable[TrialRecord], folder: StudyFolder) -> str | None:
    """Which studies the runs were taken over from; and how many of them were made by other code."""
    taken = [record for record in records if record.reused_from]
    if not taken:
        return None
    counts = Counter(record.reused_from for record in taken)
    said = ", ".join(
        f"{count} {'run' if count == 1 else 'runs'} reused from {study}" for study, count in counts.items()
    )
    here = read_json(folder.provenance)["git"]
    others = sum(read_json(folder.trial(record.fingerprint).environment)["git"] != here for record in taken)
    return f"{said}; {others} of them made by other code" if others else said


def _take_changes(found: TrialFolder, into: TrialFolder) -> None:
    """The patch of the code that made the run, if there is one."""
    git = read_json(into.environment)["git"]
    if not git or not git["dirty"]:
        return
    refresh(patch := found.code / f"{git['diff']}.patch")
    if patch.exists():
        write_atomic(into.code / patch.name, patch.read_bytes())


def _link(source: Path, target: Path) -> None:
    if not source.exists():
        return
    target.parent.mkdir(exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another disk, or one that knows no links
        shutil.copyfile(source, target)
