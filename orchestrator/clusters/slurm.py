"""A cluster with Slurm: one job is a Ray cluster of its own."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from guidedmix_core import Tuple
from orchestrator.clusters import Cluster
from orchestrator.clusters._shell import HEAD_OPTIONS, WAITING, exports, required
from orchestrator.clusters._text import commented

Word = Annotated[str, Field(pattern=r"^[\w.,:=+-]+$")]
GREETING = """\
A Ray cluster inside one Slurm job: rendered by `guidedmix cluster render`. No secret is in it.

run         sbatch {name}{words}
look        squeue --me; tail -f guidedmix-JOB.log
clean up    scancel JOB          # the studies stay; so may /tmp/ray-JOB on the nodes
"""
SCRIPT = """
set -euo pipefail
{command}
{setup}{exports}{secrets}
# Others are on these machines, too: only who has the token may speak to this Ray.
export RAY_AUTH_MODE=token
(umask 077 && ray get-auth-token --generate > /dev/null)

# Several jobs may share a node, so each has ports and a folder of its own.
port=$((10000 + 10 * (SLURM_JOB_ID % 2000)))
scratch=/tmp/ray-$SLURM_JOB_ID
address=$(python -c 'import ray; print(ray.util.get_node_ip_address())'):$port
nodes=$SLURM_JOB_NUM_NODES
ray_start=(ray start --block {resources} --min-worker-port=0 --max-worker-port=0)

{waiting}
cleanup() {{
  trap - EXIT
  echo "Ray is being ended; srun reports it"
  jobs -p | xargs -r kill 2> /dev/null || true
  wait || true
  srun --overlap --ntasks="$nodes" --ntasks-per-node=1 rm -rf "$scratch" || true
}}
trap cleanup EXIT

srun --overlap --nodes=1 --ntasks=1 --nodelist="$SLURMD_NODENAME" --cpus-per-task="$SLURM_CPUS_PER_TASK" \\
  "${{ray_start[@]}}" --head --port="$port" --temp-dir="$scratch" {head} \\
  --dashboard-port=$((port + 1)) --ray-client-server-port=$((port + 2)) > /dev/null &
wait_for_head
if ((nodes > 1)); then
  srun --overlap --nodes=$((nodes - 1)) --ntasks=$((nodes - 1)) --exclude="$SLURMD_NODENAME" \\
    --cpus-per-task="$SLURM_CPUS_PER_TASK" "${{ray_start[@]}}" --address="$address" > /dev/null &
fi
wait_for_nodes "$nodes"

# Before the time is over Slurm sends USR1: the study writes its checkpoints and leaves, and the job queues again.
again=no
RAY_ADDRESS=$address "${{command[@]}}" &
driver=$!
trap 'again=yes; kill -TERM "$driver" || true' USR1
code=0
wait "$driver" || code=$?
if [[ $again = yes ]]; then
  code=0
  wait "$driver" || code=$? # the first wait ended with the signal
  cleanup
  if ((code == 143)); then scontrol requeue "$SLURM_JOB_ID"; fi
fi
exit "$code"
"""


class Slurm(Cluster):
    """Nodes that Slurm gives for a time: a job starts Ray on them, runs the command, and goes on where it was when the
    time was too short."""

    partition: Word | None = Field(None, description="null: the cluster's default")
    account: Word | None = Field(None, description="who pays; null: yours")
    qos: Word | None = None
    constraint: str | None = Field(None, pattern=r"^[\w&|*\[\]()]+$", description="features of nodes, such as a100")
    time_limit: str = Field(
        "1-00:00:00", pattern=r"^(\d+-)?\d+(:\d\d){0,2}$", description="D-HH:MM:SS; a study that needs longer goes on"
    )
    nodes: int = Field(1, ge=1)
    gpus_per_node: int = Field(1, ge=0)
    gpu_type: Word | None = Field(None, description="as the cluster calls it, such as a100; null: any")
    cpus_per_node: int = Field(8, ge=1)
    memory_gb: int | None = Field(None, ge=1, description="of a node; null: the partition's default")
    setup: Annotated[tuple[str, ...], Tuple] = Field(
        ("source .venv/bin/activate",), description="commands that make `guidedmix` available, such as `module load …`"
    )

    @property
    def num_gpus(self) -> int:
        return self.nodes * self.gpus_per_node

    def render(self, command: Sequence[str] = ()) -> Mapping[str, str]:
        name = f"{self.name}.sbatch"
        options = "".join(f"#SBATCH --{option}\n" for option in self._options())
        greeting = GREETING.format(name=name, words="" if command else " guidedmix ablate NAME")
        script = SCRIPT.format(
            command=f"command=({shlex.join(command)})" if command else _ARGUMENTS,
            setup="".join(f"{line}\n" for line in self.setup),
            exports=exports(self.environment),
            secrets=required(self.secrets, "export it before sbatch"),
            resources=f"--num-cpus={self.cpus_per_node} --num-gpus={self.gpus_per_node}",
            waiting=WAITING,
            head=HEAD_OPTIONS,
        )
        return {name: f"#!/bin/bash\n{commented(greeting)}{options}{script}"}

    def _options(self) -> list[str]:
        kind = f"{self.gpu_type}:" if self.gpu_type else ""
        given = {
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint and f'"{self.constraint}"',
            "gres": f"gpu:{kind}{self.gpus_per_node}" if self.gpus_per_node else None,
            "mem": self.memory_gb and f"{self.memory_gb}G",
        }
        return [
            "job-name=guidedmix",
            f"nodes={self.nodes}",
            "ntasks-per-node=1",
            f"cpus-per-task={self.cpus_per_node}",
            f"time={self.time_limit}",
            *(f"{option}={value}" for option, value in given.items() if value),
            "output=guidedmix-%j.log",
            "open-mode=append",
            "requeue",
            "signal=B:USR1@300",
        ]


_ARGUMENTS = """\
command=("$@")
if ((${#command[@]} == 0)); then
  echo "usage: sbatch $0 guidedmix ablate NAME" >&2
  exit 2
fi"""
