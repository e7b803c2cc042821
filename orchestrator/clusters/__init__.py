"""Where runs are made: `clusters/NAME.yaml`. One kind of cluster a file, found by its name.

A cluster says what `plan` counts with and `submit` needs. A kind whose machines are made by another tool also renders
that tool's files.
"""

from __future__ import annotations

import os
import re
from abc import ABC
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from guidedmix_core import Component, ConfigError, Tree, Tuple, build, find, nearest, override, parse_changes, read_yaml
from orchestrator.object_store import EXTRAS
from orchestrator.provenance import device_name

THIS = "GUIDEDMIX_CLUSTER"
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
BLANK = re.compile(r"<[a-z][^<>]*>")
"""What a file leaves for its user to fill in."""
SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY", re.IGNORECASE)
PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@")
"""In an address."""
WHOLE = re.compile(rf"/|~/|({'|'.join(EXTRAS)}|file)://.")


class Cluster(Component, ABC):
    """Where runs are made, and what that costs."""

    family = "orchestrator.clusters"

    gpu_memory_gb: float | None = Field(None, gt=0, description="of one GPU, in 10^9 bytes; null: that of this machine")
    price_per_gpu_hour: float | None = Field(None, ge=0, description="null: not known")
    currency: str = Field("USD", description="of the price")
    storage: str | None = Field(
        None,
        description="where studies are kept, seen by all nodes, outliving them: a folder, or a URI such as "
        "s3://bucket/studies; null: ~/studies on the head",
    )
    environment: dict[Variable, str] = Field({}, description="variables of a job; anyone who may look at it sees them")
    secrets: Annotated[tuple[Variable, ...], Tuple] = Field(
        (), description="names of variables that the nodes have and a job needs, such as MLFLOW_TRACKING_TOKEN"
    )

    @field_validator("environment")
    @classmethod
    def _environment_holds_no_secret(cls, environment: dict[str, str]) -> dict[str, str]:
        for name in filter(SECRET.search, environment):
            raise ValueError(f"{name}: anyone who may look at a job sees its value; give the name alone, in `secrets`")
        for name in (name for name, value in environment.items() if PASSWORD.search(value)):
            raise ValueError(
                f"{name}: an address with a password, and anyone who may look at a job sees it; set it on the nodes, "
                "and give the name alone, in `secrets`"
            )
        return environment

    @field_validator("storage")
    @classmethod
    def _storage_is_the_same_from_every_folder(cls, storage: str | None) -> str | None:
        if storage is not None and not is_whole(storage) and not BLANK.search(storage):
            said = PASSWORD.sub("://***@", storage)
            raise ValueError(f"{said!r}: expected a folder from / or ~/ on, or a URI such as s3://bucket/studies")
        return storage

    @property
    def num_gpus(self) -> int | None:
        """In all, at its largest; None: those of this machine."""
        return None

    @property
    def address(self) -> str | None:
        """Of Ray's dashboard, where jobs are handed in; None if this kind takes jobs in another way."""
        return None

    def render(self, command: Sequence[str] = ()) -> Mapping[str, str]:
        """Files by name for the tool that makes the machines; with a command, also what runs it there."""
        return {}


@dataclass(frozen=True)
class Machine:
    """What this machine has; `gpu` and `gpu_bytes` are None without a GPU."""

    gpus: int
    gpu: str | None
    gpu_bytes: float | None
    cpu: str
    cpus: int

    @classmethod
    def here(cls) -> Machine:
        import torch

        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        size = float(torch.cuda.get_device_properties(0).total_memory) if gpus else None
        return cls(gpus, device_name("cuda") if gpus else None, size, device_name("cpu"), os.cpu_count() or 1)


def is_whole(location: str) -> bool:
    """Whether it is the same place from every folder, and of a store that we know."""
    return WHOLE.match(location) is not None


def this_cluster() -> Cluster:
    """The one that $GUIDEDMIX_CLUSTER names, as a submitted job has it; else this machine."""
    return read_cluster(os.environ.get(THIS) or "local")


def known_clusters() -> dict[str, Path]:
    """The files in `clusters/` here, and in the installed project where there is none of the same name."""
    return {file.stem: file for folder in reversed(_folders()) for file in sorted(folder.glob("*.yaml"))}


def read_cluster(name: str, changes: Sequence[str] = ()) -> Cluster:
    """Of a name in `known_clusters`, or of a YAML file, with changes such as `max_workers=8`."""
    return _built(*_tree(name, changes))


def filled_cluster(name: str, changes: Sequence[str] = ()) -> Cluster:
    """As `read_cluster`, for those who are about to use it: nothing is left that its user has to fill in."""
    file, tree = _tree(name, changes)
    cluster = _built(file, tree)
    if blanks := dict(_blanks(tree)):
        cure = f"fill in what stands in <>: in {file}, or on the command line, {next(iter(blanks))}=…"
        raise ConfigError("\n".join([*blanks.values(), cure]))
    return cluster


def _tree(name: str, changes: Sequence[str]) -> tuple[Path, Tree]:
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        known = known_clusters()
        if name not in known:
            raise ConfigError(f"no cluster {name!r}; {nearest(name, known)}")
        path = known[name]
    return path, override(read_yaml(path), parse_changes(changes), "command line")


def _built(file: Path, tree: Tree) -> Cluster:
    values = dict(tree.values)
    name = values.pop("kind", "local")
    try:
        kind = find(Cluster.family, str(name))
    except ConfigError as error:
        raise ConfigError(f"{tree.origin('kind')}: kind: {error}") from None
    assert issubclass(kind, Cluster)
    try:
        return build(Tree(values, tree.origins), kind)
    except ConfigError as error:
        places = set(tree.origins.values())  # what is missing, or spans fields, has none of these
        lines = str(error).splitlines()
        placed = [line if any(line.startswith(place) for place in places) else f"{file}: {line}" for line in lines]
        raise ConfigError("\n".join(placed)) from None


def _blanks(tree: Tree) -> Iterator[tuple[str, str]]:
    """Fields, and what to say of them."""
    for field, value in tree.values.items():
        if isinstance(value, str) and BLANK.search(value):
            yield field, f"{tree.origin(field)}: {field}={value}"


def _folders() -> list[Path]:
    here = Path(__file__).resolve().parents[1]
    return [Path("clusters"), here.parent / "clusters", here / "cluster_files"]
