"""Stages that the study's runs have met, and those of the folder that no run of any study has."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from guidedmix_core import StageFolder
from orchestrator.doctor.finding import (
    Finding,
    archive_problem,
    aside,
    json_problem,
    leftovers,
    megabytes,
    read_whole_lines,
)
from orchestrator.folder import StudyFolder, is_run
from orchestrator.storage import bytes_in

NOT_OF_STAGES = ("checkpoint", "attempts", "panels", "counts.npz", "metrics.jsonl", "config.yaml")
"""What runs of the studies beside have, and nothing of it says which stages they met."""


def stages(folder: StudyFolder) -> Iterator[Finding]:
    """A stage that another process works on is left alone: it may be of another study."""
    if not folder.stages.is_dir():
        return
    own, beside = _met(folder.path), set[str]()
    for path in sorted(folder.path.absolute().parent.iterdir()):
        beside |= _met(path)
    for path in sorted(folder.stages.iterdir()):
        if not path.is_dir() or is_run(path):
            continue
        if path.name in own:
            for found in _stage(folder, StageFolder(path)):
                yield replace(found, repair=found.repair and _unless_run(path, found.repair))
        elif path.name not in beside:
            yield Finding(
                "note",
                path,
                f"{megabytes(bytes_in(path))}, and no run of the studies beside has it",
                "it stays; remove it if no study that you will go on with needs it",
            )


def _unless_run(stage: Path, repair: Callable[[], object]) -> Callable[[], None]:
    """Another study may have begun to work on it since."""

    def careful() -> None:
        if not is_run(stage):
            repair()

    return careful


def _met(study: Path) -> set[str]:
    """Addresses, as the runs noted them. What can't be read is told of the run."""
    found = set[str]()
    for path in (*study.glob("trials/*/environment.json"), *study.glob("trials/*/result.json")):
        if json_problem(path) is None:
            found |= {stage["address"] for stage in json.loads(path.read_text()).get("stages", [])}
    return found


def _stage(folder: StudyFolder, stage: StageFolder) -> Iterator[Finding]:
    again = "the stage is set aside, and trained again by the first run that needs it"
    anew = aside(folder, stage.path)
    weights = [stage.weights, *stage.path.glob("weights-*.pt")]
    problems = {path: archive_problem(path) for path in weights}
    problems[stage.result] = json_problem(stage.result)
    if stage.weights.exists() and not stage.result.exists():
        problems[stage.result] = "is missing, though the weights are there"
    for path, problem in problems.items():
        if problem is not None:
            yield Finding("blocks", path, problem, again, anew)
            return
    if (problem := json_problem(stage.stability)) is not None:
        yield Finding("blocks", stage.stability, problem, "set aside, and made again", aside(folder, stage.stability))
    if not stage.weights.exists():
        yield from _half_made(folder, stage)
    for path in (*leftovers(stage.path), *leftovers(stage.checkpoint)):
        yield Finding("untidy", path, "half a file, of a process that was killed", "removed", path.unlink)


def _half_made(folder: StudyFolder, stage: StageFolder) -> Iterator[Finding]:
    cure = "set aside: the stage begins anew at step 0"
    last = stage.checkpoint / "last.pt"
    if (problem := archive_problem(last)) is not None:
        yield Finding("blocks", last, problem, cure, aside(folder, stage.checkpoint, stage.metrics))
    elif read_whole_lines(stage.metrics).damaged:
        yield Finding("blocks", stage.metrics, "not readable as JSON", "set aside", aside(folder, stage.metrics))
    else:
        said = "the first run that needs it goes on with it"
        yield Finding("note", stage.path, "half made: its training was interrupted", said)
