"""The chain of a run in words, and what a trial's record says of its stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from guidedmix_core import RunConfig, RunData, StageReport, stage_address
from orchestrator.folder import TrialFolder, read_json, write_json


def note_stage(folder: TrialFolder, stage: StageReport) -> None:
    """In `environment.json`. What this trial has trained stays its own when it goes on and finds it there."""
    made = read_json(folder.environment)
    stages = {entry["index"]: entry for entry in made.get("stages", [])}
    is_own = stages.get(stage.index, {}).get("state") == "trained"
    stages[stage.index] = {**asdict(stage), "state": "trained" if is_own else stage.state}
    write_json(folder.environment, {**made, "stages": [stages[i] for i in sorted(stages)]})


def stage_folders(config: RunConfig, data: RunData, folder: TrialFolder) -> list[Path]:
    """Where the stages of a run lie, or will."""
    return [folder.stages / stage_address(config.up_to(i), data) for i in range(len(config.stages))]


def stages_of(folder: TrialFolder) -> list[dict[str, Any]]:
    """As noted; none before the first is met, and none in a run without stages."""
    return read_json(folder.environment).get("stages", []) if folder.environment.exists() else []


def current_stage(folder: TrialFolder) -> str | None:
    """`stage 0 trains`, while the run's own steps have not begun."""
    now = (stage for stage in stages_of(folder) if stage["state"] in ("waits", "trains"))
    return next((f"stage {stage['index']} {stage['state']}" for stage in now), None)


def chain_words(config: RunConfig) -> str | None:
    """`supervised 200 steps → guidedmix 400 steps`; None without stages."""
    if not config.stages:
        return None
    runs = [config.up_to(i) for i in range(len(config.stages) + 1)]
    return " → ".join(f"{run.method.name} {run.train.steps:,} steps" for run in runs)


def stage_words(stages: Sequence[Mapping[str, Any]]) -> str:
    """What became of each stage: `supervised 200 steps, reused (31.2 mIoU, 12 s)`."""
    return " → ".join(map(_words, stages))


def _words(stage: Mapping[str, Any]) -> str:
    miou, seconds = stage["metrics"].get("val/miou"), stage["seconds"]
    facts = [f"{100 * miou:.1f} mIoU"] if miou is not None else []
    facts += [f"{seconds:.0f} s"] if seconds is not None else []
    return f"{stage['method']} {stage['steps']:,} steps, {stage['state']}" + (f" ({', '.join(facts)})" if facts else "")
