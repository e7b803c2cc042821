"""Clusters that Ray's own launcher makes on a cloud: `ray up FILE`, `ray down FILE`."""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from guidedmix_core import Tuple
from orchestrator.clusters._elastic import Elastic
from orchestrator.clusters._install import VENV, WHEEL, Package, install_commands, needed_files
from orchestrator.clusters._text import yaml_text

TOKEN = "~/.ray/auth_token"
SECRETS = "~/.config/guidedmix/secrets.env"
"""NAME=VALUE lines, mode 600: here, and on the nodes."""
PATH = 'export PATH="$HOME/guidedmix/venv/bin:$PATH"'
"""Jobs find `guidedmix` where the head's Ray does."""
GREETING = """\
{title}: rendered by `guidedmix cluster render`. No secret is in it.
Run these in the folder that has {files}.

once        {once}
start       ray up {name}
tunnel      ray dashboard {name}      # leave it open: 127.0.0.1:8265 here is the head's
run         {run}
look        ray exec {name} 'ray status'; ray attach {name}
clean up    ray down {name}           # {leaves}
"""


class Launcher(Elastic, ABC):
    """Machines of a cloud, made by Ray's cluster launcher."""

    title: ClassVar[str]
    client: ClassVar[tuple[str, ...]]
    """What Ray imports to speak to the cloud, here and on the head."""
    once: ClassVar[str]
    """What makes it possible to speak to the cloud."""
    leaves: ClassVar[str]
    """What `ray down` does not remove."""

    head_type: str = Field(description="type of the head's machine: no GPU, 8 GB of memory or more")
    worker_type: str = Field(description="type of a worker's machine; gpus_per_node and cpus_per_node are what it has")
    spot: bool = Field(True, description="workers that may be taken away, for less; runs go on from their checkpoints")
    image: str = Field(description="of all machines: a Linux with curl and NVIDIA's driver 580 or newer")
    disk_gb: int = Field(200, ge=50, description="of each machine; the environment alone takes 15")
    ssh_user: str = Field("ubuntu", description="that of the image")
    storage: str = Field(  # pyright: ignore[reportIncompatibleVariableOverride] - required here
        description="where studies are kept: a URI such as s3://bucket/studies; with `nfs`, a folder"
    )
    nfs: str | None = Field(
        None,
        pattern=r"^[\w.<>-]+:/[\w./<>-]*$",
        description="HOST:/EXPORT, mounted as `storage`; null: storage is a URI",
    )
    setup: Annotated[tuple[str, ...], Tuple] = Field(
        (), description="further commands on every node, such as one that fetches the data set"
    )
    package: Package = WHEEL
    constraints: str = Field("constraints.txt", description="the versions of all that it needs: a file here")

    @model_validator(mode="after")
    def _storage_outlives_the_cluster(self) -> Launcher:
        if self.nfs is None and self.storage.startswith(("/", "~/")):
            raise ValueError(f"storage={self.storage}: a folder of each node ends with it; give a URI, or `nfs`")
        if self.nfs is not None and not self.storage.startswith("/"):
            raise ValueError(f"nfs={self.nfs}: it is mounted as `storage`, so storage={self.storage} must begin with /")
        return self

    @abstractmethod
    def provider(self) -> dict[str, Any]:
        """The section of that name."""

    @abstractmethod
    def head_node(self) -> dict[str, Any]:
        """What the cloud is asked for."""

    @abstractmethod
    def worker_node(self) -> dict[str, Any]:
        """What the cloud is asked for."""

    def render(self, command: Sequence[str] = ()) -> Mapping[str, str]:
        name = f"{self.name}.yaml"
        run = f"RAY_AUTH_MODE=token ray job submit --address {self.address} -- {shlex.join(command)}"
        once = [self.once, f"(umask 077; ray get-auth-token --generate > /dev/null)      # {TOKEN}, for the nodes, too"]
        once += [f"{SECRETS}, mode 600, has a line NAME=VALUE for {', '.join(self.secrets)}"] if self.secrets else []
        comment = GREETING.format(
            title=self.title,
            files=" and ".join(needed_files(self.package, self.constraints).values()),
            once=f"\n{' ' * 12}".join(once),
            name=name,
            run=run if command else f"guidedmix submit ablate NAME --cluster {self.name}",
            leaves=self.leaves,
        )
        return {name: yaml_text(comment, self.launcher_config())}

    def launcher_config(self) -> dict[str, Any]:
        """As Ray's launcher takes it."""
        worker = {"CPU": self.cpus_per_node} | ({"GPU": self.gpus_per_node} if self.gpus_per_node else {})
        return {
            "cluster_name": self.cluster_name,
            "max_workers": self.max_workers,
            "idle_timeout_minutes": self.idle_minutes,
            "provider": self.provider(),
            "auth": {"ssh_user": self.ssh_user},
            "head_node_type": "head",
            "available_node_types": {
                "head": {
                    "resources": {"CPU": 0},  # it drives the study; runs go to the workers
                    "min_workers": 0,
                    "max_workers": 0,
                    "node_config": self.head_node(),
                },
                "worker": {
                    "resources": worker,
                    "min_workers": self.min_workers,
                    "max_workers": self.max_workers,
                    "node_config": self.worker_node(),
                },
            },
            "file_mounts": {
                TOKEN: TOKEN,
                **({SECRETS: SECRETS} if self.secrets else {}),
                **needed_files(self.package, self.constraints),
            },
            "initialization_commands": [],
            "setup_commands": self._setup_commands(),
            "head_setup_commands": [
                f"~/.local/bin/uv pip install --python {VENV}/bin/python {shlex.join(self.client)}"
            ],
            "worker_setup_commands": [],
            "head_start_ray_commands": self._start(
                "--head --port=6379 --object-manager-port=8076 --autoscaling-config=~/ray_bootstrap_config.yaml "
                "--dashboard-host=127.0.0.1 --dashboard-port=8265"
            ),
            "worker_start_ray_commands": self._start("--address=$RAY_HEAD_IP:6379 --object-manager-port=8076"),
        }

    def _setup_commands(self) -> list[str]:
        checks = [f". {SECRETS} && : ${{{name}:?is not in {SECRETS}}}" for name in self.secrets]
        return [
            f"chmod 600 {TOKEN}" + (f" {SECRETS}" if self.secrets else ""),
            *checks,
            *install_commands(self.package, self.constraints, self.storage),
            f"grep -q guidedmix/venv ~/.bashrc || echo '{PATH}' >> ~/.bashrc",
            *(_mount(self.nfs, self.storage) if self.nfs else []),
            *self.setup,
        ]

    def _start(self, options: str) -> list[str]:
        secrets = f"set -a; . {SECRETS}; set +a; " if self.secrets else ""
        return [
            f"{VENV}/bin/ray stop",
            f"ulimit -n 65536; {PATH}; export RAY_AUTH_MODE=token; {secrets}ray start {options}",
        ]


def _mount(export: str, folder: str) -> list[str]:
    folder = shlex.quote(folder)
    mount = f"sudo mkdir -p {folder} && sudo mount -t nfs4 -o nfsvers=4.1,hard {export} {folder}"
    return [
        "test -x /sbin/mount.nfs4 || (sudo apt-get update && sudo apt-get install -y nfs-common)",
        f"mountpoint -q {folder} || ({mount})",
        f"test -w {folder} || sudo chown $(id -u) {folder}",
    ]
