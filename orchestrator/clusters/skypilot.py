"""Any cloud that SkyPilot finds a GPU on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from guidedmix_core import ConfigError, Tuple
from orchestrator.clusters import Cluster
from orchestrator.clusters._install import WHEEL, Package, install_commands, needed_files
from orchestrator.clusters._shell import HEAD_OPTIONS, WAITING
from orchestrator.clusters._text import yaml_text

TOKEN = "RAY_AUTH_TOKEN"
GREETING = """\
A task for SkyPilot: rendered by `guidedmix cluster render`. No secret is in it.
Run these in the folder that has {files}.

once        pip install 'skypilot[aws,gcp,azure]'; sky check
            export RAY_AUTH_TOKEN=$(openssl rand -hex 32)
run         sky launch -c guidedmix {name} {options}
            sky jobs launch {name} {options}     # goes on elsewhere when a spot machine is taken away
look        sky queue guidedmix; sky logs guidedmix
clean up    sky down guidedmix                   # it also ends {idle} minutes after its last job; storage stays
"""
RUN = """\
set -eu
export PATH="$HOME/guidedmix/venv/bin:$PATH" RAY_AUTH_MODE=token
head=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)
address=$head:6379 # SkyPilot's own Ray has 6380: `ray stop` would end that one, too

{waiting}
if [ "$SKYPILOT_NODE_RANK" != 0 ]; then
  wait_for_head
  ray start --block --address="$address" > /dev/null || true # it ends when the head does
  exit 0
fi

ray start --block --head --node-ip-address="$head" --port=6379 --dashboard-port=8265 {options} > /dev/null &
trap 'kill %1; wait' EXIT
wait_for_head
wait_for_nodes "$SKYPILOT_NUM_NODES"
RAY_ADDRESS=$address {command}
"""


class Skypilot(Cluster):
    """Machines that SkyPilot looks for on the clouds you have, and ends when they have nothing to do."""

    infra: str | None = Field(None, description="such as aws/us-west-2 or k8s; null: the cheapest that has it")
    accelerator: str | None = Field(
        "L4", pattern=r"^[\w.-]+$", description="as `sky show-gpus` has it; null: CPUs only"
    )
    gpus_per_node: int = Field(1, ge=1)
    nodes: int = Field(1, ge=1)
    cpus_per_node: int = Field(8, ge=1, description="at least")
    spot: bool = Field(True, description="machines that may be taken away, for less; use `sky jobs launch` then")
    disk_gb: int = Field(200, ge=50)
    idle_minutes: int = Field(10, ge=1)
    setup: Annotated[tuple[str, ...], Tuple] = Field(
        (), description="further commands on every node, such as one that fetches the data set"
    )
    package: Package = WHEEL
    constraints: str = Field("constraints.txt", description="the versions of all that it needs: a file here")

    @property
    def num_gpus(self) -> int:
        return self.nodes * self.gpus_per_node if self.accelerator else 0

    def render(self, command: Sequence[str] = ()) -> Mapping[str, str]:
        if not command:
            raise ConfigError("skypilot: a task is made for a command; give it at the end: … -- guidedmix ablate NAME")
        name = f"{self.name}.yaml"
        files = needed_files(self.package, self.constraints)
        installs = install_commands(self.package, self.constraints, self.storage)
        greeting = GREETING.format(
            name=name,
            files=" and ".join(files.values()),
            options=" ".join(f"--secret {secret}" for secret in (TOKEN, *self.secrets)),
            idle=self.idle_minutes,
        )
        task = {
            "name": "guidedmix",
            "num_nodes": self.nodes,
            "resources": self._resources(),
            "file_mounts": files,
            **({"envs": dict(self.environment)} if self.environment else {}),
            "secrets": dict.fromkeys((TOKEN, *self.secrets)),  # null: the value comes with `--secret`
            "setup": "\n".join(["set -e", *installs, *self.setup]) + "\n",
            "run": RUN.format(
                waiting=WAITING,
                options=HEAD_OPTIONS,
                command=shlex.join(command),
            ),
        }
        return {name: yaml_text(greeting, task)}

    def _resources(self) -> dict[str, Any]:
        return {
            **({"infra": self.infra} if self.infra else {}),
            **({"accelerators": f"{self.accelerator}:{self.gpus_per_node}"} if self.accelerator else {}),
            "cpus": f"{self.cpus_per_node}+",
            "disk_size": self.disk_gb,
            "use_spot": self.spot,
            "autostop": {"idle_minutes": self.idle_minutes, "down": True},
        }
