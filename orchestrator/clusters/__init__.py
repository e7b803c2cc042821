"""Where runs are made: `clusters/NAME.yaml`. One kind of cluster a file, found by its name.

A cluster says what `plan` counts with and `submit` needs. A kind whose machines are made by another tool also renders
that tool's files.
"""

from __future__ import annotations

import os
from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from guidedmix_core import Component, ConfigError, Tree, Tuple, build, find, nearest, read_yaml
from orchestrator.provenance import device_name


class Cluster(Component, ABC):
    """Where runs are made, and what that costs."""

    family = "orchestrator.clusters"

    gpus: int | None = Field(None, ge=0, description="in all; null: those of this machine")
    gpu_memory_gb: float | None = Field(None, gt=0, description="of one GPU, in 10^9 bytes; null: that of this machine")
    price_per_gpu_hour: float | None = Field(None, ge=0, description="null: not known")
    currency: str = Field("USD", description="of the price")
    storage: str | None = Field(
        None,
        description="where studies are kept, seen by all nodes, outliving them: a folder, or a URI such as "
        "s3://bucket/studies; null: ~/studies on the head",
    )
    environment: dict[str, str] = Field({}, description="variables of a job; anyone who may look at it sees them")
    secrets: Annotated[tuple[str, ...], Tuple] = Field(
        (), description="names of variables that the nodes have and a job needs, such as MLFLOW_TRACKING_TOKEN"
    )

    @property
    def num_gpus(self) -> int | None:
        """In all, at its largest; None: those of this machine."""
        return self.gpus

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


def read_cluster(name: str) -> Cluster:
    """Of a name, looked up in `clusters/` here and then in the installed project, or of a YAML file."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        known = {file.stem: file for folder in reversed(_folders()) for file in sorted(folder.glob("*.yaml"))}
        if name not in known:
            raise ConfigError(f"no cluster {name!r}; {nearest(name, known)}")
        path = known[name]
    tree = read_yaml(path)
    values = dict(tree.values)
    kind = find(Cluster.family, values.pop("kind", "local"))
    assert issubclass(kind, Cluster)
    return build(Tree(values, tree.origins), kind)


def _folders() -> list[Path]:
    here = Path(__file__).resolve().parents[1]
    return [Path("clusters"), here.parent / "clusters", here / "cluster_files"]
