"""Is every YAML file right? Runs are built, also every corner of a search and every cell of an ablation in each block.

Nothing is trained, no data is opened.
"""

from __future__ import annotations

from pathlib import Path

from guidedmix_core import ConfigError, build, fingerprint, nearest, read_run, read_yaml, resolve, search_spaces
from orchestrator.ablation import AblationStudy
from orchestrator.kinds import kind_of
from orchestrator.study import SearchStudy, load_study


def known_files() -> list[str]:
    """The names of all runs, searches and ablations that can be used here, such as `base/guidedmix`."""
    found = {f"{file.parent.name}/{file.stem}" for folder in search_spaces() for file in folder.glob("*/*.yaml")}
    return sorted(found)


def study_model(name: str) -> type[AblationStudy] | type[SearchStudy]:
    """Whether a file is an ablation or a search. ConfigError if it is neither, or if the name is that of both."""
    named = {model: path for model in (AblationStudy, SearchStudy) if (path := _found(name, model.shelf))}
    paths = dict.fromkeys(named.values())
    if len(paths) > 1:
        raise ConfigError(f"{name!r} names an ablation and a search; give ablation/{name} or search/{name}")
    kind = kind_of(read_yaml(next(iter(paths), None) or _path(name)).values)
    if kind not in (AblationStudy.shelf, SearchStudy.shelf):
        raise ConfigError(f"{name}: neither an ablation nor a search: it has no `reference` and no `parameters`")
    return SearchStudy if kind == SearchStudy.shelf else AblationStudy


def _found(name: str, shelf: str) -> Path | None:
    try:
        return resolve(name, shelf)
    except ConfigError:
        return None


def check_file(name: str) -> str:
    """What a file is, in a sentence, and what a design says of itself. ConfigError says what is wrong with it."""
    kind = kind_of(read_yaml(_path(name)).values)
    if kind == AblationStudy.shelf:
        ablation, base = load_study(name, model=AblationStudy)
        return "\n  ".join([f"an ablation of {ablation.check(base)}", *ablation.remarks(base)])
    if kind == SearchStudy.shelf:
        search, base = load_study(name)
        size = f"{search.search.trials} trials over {len(search.parameters)} parameters"
        return f"a search of {size}; {search.check(base)}"
    return f"a run, fingerprint {fingerprint(build(read_run(name)))}"


def _path(name: str) -> Path:
    for kind in ("base", "search", "ablation"):
        try:
            return resolve(name, kind)
        except ConfigError as error:
            problem = error
    if "/" in name or name.endswith((".yaml", ".yml")):
        raise problem
    stems = {file.partition("/")[2] for file in known_files()}
    raise ConfigError(f"no run, search or ablation {name!r}; {nearest(name, stems)}")
