"""What MLflow shows of a trial, read from its folder: names, parameters, metrics, tables, pictures. Knows no MLflow."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from orchestrator.folder import TrialFolder, read_json
from orchestrator.results import TrialRecord

TABLE = "class_iou.json"
CELLS = "cells.json"
PARAMETER_LENGTH = 6000
"""MLflow keeps no more of a parameter's value."""

SOURCE = {"mlflow.source.name": "guidedmix", "mlflow.source.type": "LOCAL"}
"""What started a run, for the column Source."""

ASIDE = "attempt"
"""The role of a run that shows a trial as it was before it began anew."""
FAILURE = ("guidedmix.failure", "guidedmix.failure.message")

_CLASS_IOU = "val/iou/"
_GAP = 8
"""Pixels between the pictures of a panel."""


def run_name(record: TrialRecord) -> str:
    """`trial 3`, `supervised (reference)`, `trial 3 (supervised)` if the search proposed a reference too; of a cell its
    label, such as `mean_teacher · seed 0`, and of a reference's own search `supervised · trial 3`."""
    if record.cell is not None:
        return str(record.label)
    if record.role == "reference":
        return f"{record.label} (reference)"
    return f"trial {record.number}" + (f" ({record.label})" if record.label else "")


def metric_name(name: str) -> str:
    """As MLflow takes it: what is no letter, digit, space or one of `_-.:/` becomes its code point.

    No part between slashes is empty, or `.` or `..`: MLflow would take it for a path.
    """
    spelled = re.sub(r"[^\w.\- :/]", lambda odd: f"_x{ord(odd[0]):x}_", name)
    return "/".join(f"_{part}" if part in ("", ".", "..") else part for part in spelled.split("/"))[:250]


def metrics(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of one evaluation. What the record has as null was not finite: NaN."""
    found = {name: value for name, value in row.items() if name not in ("step", "time")}
    return {metric_name(name): math.nan if value is None else float(value) for name, value in found.items()}


def parameters(trial: TrialFolder) -> dict[str, str]:
    """The whole configuration, each leaf under its dotted path, spelled as on the command line."""
    config = yaml.safe_load(trial.config.read_text(encoding="utf-8"))
    return {metric_name(path): written(value)[:PARAMETER_LENGTH] for path, value in _leaves(config, "")}


def written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def tags(
    record: TrialRecord, environment: Mapping[str, Any], levels: Mapping[str, Mapping[str, str]]
) -> dict[str, str]:
    """What the trial is: for filters and columns of the runs' table, and the text at the top of its page.

    `levels`: of each cell, factor to level. Cell, block and factors have plain names: MLflow groups and compares by
    them.
    """
    found = {
        "guidedmix.fingerprint": record.fingerprint,
        "guidedmix.role": record.role,
        "guidedmix.number": str(record.number),
        "mlflow.note.content": _note(record),
        **SOURCE,
    }
    if record.cell is not None:
        found["cell"] = record.cell
        of_cell = levels.get(record.cell) or {}
        found |= {f"factor.{metric_name(factor)}": str(level) for factor, level in of_cell.items()}
    if record.block is not None:
        found["block"] = str(record.block)
    elif record.role in ("trial", "tuning"):
        found |= {f"searched.{metric_name(path)}": written(value) for path, value in record.params.items()}
    if record.reused_from:
        found["guidedmix.reused_from"] = record.reused_from
    if record.label:
        found["guidedmix.label"] = record.label
    if environment:
        found |= {"guidedmix.device": environment["device"], "guidedmix.host": environment["host"]}
        if git := environment["git"]:
            found |= {"mlflow.source.git.commit": git["sha"], "guidedmix.git.dirty": written(git["dirty"])}
            found |= {"guidedmix.git.diff": git["diff"]} if git["dirty"] else {}
    return found


def end_tags(record: TrialRecord) -> dict[str, str]:
    """How the trial ended, and where MLflow finds its table."""
    found = table_tag(TABLE)
    if record.failure:
        found |= dict(zip(FAILURE, (record.failure["reason"], record.failure["message"][:1000]), strict=True))
    return found


def table_tag(name: str) -> dict[str, str]:
    return {"mlflow.loggedArtifacts": json.dumps([{"path": name, "type": "table"}])}


def data_digest(trial: TrialFolder) -> tuple[str, str, str] | None:
    """Name, source and fingerprint of the data that was read; None if the trial failed before it was."""
    digest = environment(trial).get("data")
    if digest is None:
        return None
    data = yaml.safe_load(trial.config.read_text(encoding="utf-8"))["data"]
    return data["name"], json.dumps(data), digest[:36]


def table_view(request: Mapping[str, Any]) -> dict[str, Any]:
    """The runs' table as a study wants it: all runs, ranked, with what was searched, or cell and block, as columns."""
    goals = request["objectives"]
    metrics_shown = [f"metrics.`{metric_name(goal['metric'])}`" for goal in goals]
    varied = [f"params.`{metric_name(path)}`" for path in request.get("parameters", {})]
    varied += ["tags.`cell`", "tags.`block`"] if request["kind"] == "ablate" else []
    factors = dict.fromkeys(factor for levels in (request.get("levels") or {}).values() for factor in levels)
    varied += [f"tags.`factor.{metric_name(factor)}`" for factor in factors]
    return {
        "searchFilter": f"tags.`guidedmix.role` != 'study' AND tags.`guidedmix.role` != '{ASIDE}'",
        "orderByKey": metrics_shown[0],
        "orderByAsc": goals[0]["mode"] == "min",
        "selectedColumns": ["attributes.`Duration`", *metrics_shown, "tags.`guidedmix.state`", *varied],
    }


def cells_table(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The cells of an ablation as `log_table` would write them, of the content of `summary.json`."""
    rows = []
    for cell in summary["cells"]:
        versus = cell["vs_reference"] or {}
        row = {"cell": cell["name"], **{f"factor.{name}": level for name, level in (cell.get("levels") or {}).items()}}
        row |= {name: cell.get(name) for name in ("n", "failed", "mean", "sd", "ci", "verdict")}
        row |= {"difference": versus.get("diff"), "difference ci": versus.get("ci"), "p": versus.get("p_adjusted")}
        rows.append(row)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return {"columns": columns, "data": [[_in_a_cell(row.get(name)) for name in columns] for row in rows]}


def environment(trial: TrialFolder) -> dict[str, Any]:
    """Empty while the trial has not begun."""
    return read_json(trial.environment) if trial.environment.exists() else {}


def write_artifacts(trial: TrialFolder, rows: list[dict[str, Any]], into: Path) -> None:
    """The trial's files, the IoU of every class at the last evaluation, and one picture a panel."""
    for source in (trial.config, trial.environment, trial.traceback):
        if source.exists():
            shutil.copyfile(source, into / source.name)
    if rows:
        (into / TABLE).write_text(json.dumps(_class_table(rows[-1])), encoding="utf-8")
    for name, panel in _panels(trial.panels):
        (into / "panels").mkdir(exist_ok=True)
        panel.save(into / "panels" / f"{name}.png")


def _in_a_cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def _note(record: TrialRecord) -> str:
    """Markdown: what was searched, or what the reference is."""
    if not record.params:
        return "The base run, unchanged."
    return "\n".join(f"- `{path}` = {written(value)}" for path, value in record.params.items())


def _class_table(row: Mapping[str, Any]) -> dict[str, Any]:
    """As `log_table` would write it; writing it whole makes logging it twice harmless."""
    found = [[name.removeprefix(_CLASS_IOU), iou] for name, iou in row.items() if name.startswith(_CLASS_IOU)]
    return {"columns": ["class", "iou"], "data": found}


def _panels(folder: Path) -> Iterator[tuple[str, Image.Image]]:
    """Image, prediction and truth side by side, for each panel that has all three."""
    for first in sorted(folder.glob("*_image.png")):
        name = first.name.removesuffix("_image.png")
        files = [folder / f"{name}_{kind}.png" for kind in ("image", "prediction", "truth")]
        if all(file.exists() for file in files):
            yield name, _side_by_side([Image.open(file).convert("RGB") for file in files])


def _side_by_side(pictures: list[Image.Image]) -> Image.Image:
    width = sum(picture.width for picture in pictures) + _GAP * (len(pictures) - 1)
    panel = Image.new("RGB", (width, max(picture.height for picture in pictures)), "white")
    left = 0
    for picture in pictures:
        panel.paste(picture, (left, 0))
        left += picture.width + _GAP
    return panel


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        value = {str(i): item for i, item in enumerate(value)}
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}".lstrip("."))
    else:
        yield path, value
