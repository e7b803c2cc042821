"""Is every YAML file right? Runs are built; of a search every corner is, too. Nothing is trained, no data is opened."""

from __future__ import annotations

from pathlib import Path

from guidedmix_core import ConfigError, build, fingerprint, read_run, read_yaml, resolve, search_spaces
from orchestrator.space import check_space
from orchestrator.study import load_study


def known_files() -> list[str]:
    """The names of all runs and searches that can be used here, such as `base/guidedmix`."""
    found = {f"{file.parent.name}/{file.stem}" for folder in search_spaces() for file in folder.glob("*/*.yaml")}
    return sorted(found)


def check_file(name: str) -> str:
    """What a file is, in a sentence. ConfigError says what is wrong with it."""
    if "parameters" not in read_yaml(_path(name)).values:
        return f"a run, fingerprint {fingerprint(build(read_run(name)))}"
    study, base = load_study(name)
    size = f"{study.search.trials} trials over {len(study.parameters)} parameters"
    return f"a search of {size}; {check_space(study, base)}"


def _path(name: str) -> Path:
    for kind in ("base", "search"):
        try:
            return resolve(name, kind)
        except ConfigError as error:
            problem = error
    raise problem
