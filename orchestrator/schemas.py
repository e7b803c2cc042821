"""The JSON Schemas of our YAML files, from the same classes that check them."""

from __future__ import annotations

import json
from pathlib import Path

from guidedmix_core import RunConfig, json_schema
from orchestrator.ablation import AblationStudy
from orchestrator.study import SearchStudy


def write_schemas(directory: Path) -> list[Path]:
    """`run.schema.json` for `base/`, `search.schema.json` for `search/`, `ablation.schema.json` for `ablation/`."""
    run = json_schema(RunConfig)
    base = {"type": "string", "description": "a run file this one lies over"}
    run["properties"] = {"base": base, **run["properties"]}
    run.pop("required", None)  # a file that lies over another need not repeat it
    studies = [(model.shelf, json_schema(model)) for model in (SearchStudy, AblationStudy)]
    written = []
    for name, schema in (("run", run), *studies):
        path = directory / f"{name}.schema.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(schema, indent=1) + "\n")
        written.append(path)
    return written
