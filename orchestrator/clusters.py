"""The machines that runs may use: `clusters/NAME.yaml`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from guidedmix_core import Config, ConfigError, build, nearest, read_yaml
from orchestrator.provenance import device_name


class Cluster(Config):
    """Where runs are made, and what that costs."""

    kind: Literal["local"] = Field("local", description="local: this machine")
    gpus: int | None = Field(None, ge=0, description="in all; null: those of this machine")
    gpu_memory_gb: float | None = Field(None, gt=0, description="of one GPU, in 10^9 bytes; null: that of this machine")
    price_per_gpu_hour: float | None = Field(None, ge=0, description="null: not known")
    currency: str = Field("USD", description="of the price")


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
    return build(read_yaml(path), Cluster)


def _folders() -> list[Path]:
    here = Path(__file__).resolve().parent
    return [Path("clusters"), here.parent / "clusters", here / "cluster_files"]
