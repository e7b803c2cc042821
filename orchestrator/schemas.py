"""The JSON Schemas of our YAML files, from the same classes that check them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from guidedmix_core import RunConfig, find, json_schema, names
from orchestrator.ablation import AblationStudy
from orchestrator.clusters import Cluster
from orchestrator.study import SearchStudy


def write_schemas(directory: Path) -> list[Path]:
    """`run.schema.json` for `base/`, `search.schema.json` for `search/`, `ablation.schema.json` for `ablation/`, and
    `cluster.schema.json` for `clusters/`, which lies beside the directory."""
    run = json_schema(RunConfig)
    base = {"type": "string", "description": "a run file this one lies over"}
    run["properties"] = {"base": base, **run["properties"]}
    run.pop("required", None)  # a file that lies over another need not repeat it
    studies = [(model.shelf, json_schema(model)) for model in (SearchStudy, AblationStudy)]
    written = []
    places = [(directory, name, schema) for name, schema in (("run", run), *studies)]
    for folder, name, schema in (*places, (directory.parent / "clusters", "cluster", _clusters())):
        path = folder / f"{name}.schema.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(schema, indent=1) + "\n")
        written.append(path)
    return written


def _clusters() -> dict[str, Any]:
    """A schema for each kind of cluster."""
    kinds = []
    for name in names(Cluster.family):
        schema = json_schema(find(Cluster.family, name))
        kind = {"const": name, "description": schema.pop("description")}
        kinds.append({**schema, "properties": {"kind": kind, **schema["properties"]}})
    dialect = kinds[0]["$schema"]
    return {"$schema": dialect, "anyOf": [{k: v for k, v in kind.items() if k != "$schema"} for kind in kinds]}
