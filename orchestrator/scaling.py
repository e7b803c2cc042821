"""A trial on its workers, as Tune runs it: one worker inside Tune's own process, or several through Ray Train.

Reports go up, the decision comes down: a run goes on from a report only after the driver has decided, so that one that
is asked to stop ends at the very report that decided it. Nothing is ever killed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
import torch.distributed as dist
from ray import train, tune
from ray._private.state import state
from ray.train.torch import TorchConfig, TorchTrainer

from guidedmix_core import ConfigError, Preempted, RunConfig, Tree, build
from orchestrator.failures import USUAL, Failures
from orchestrator.folder import StudyFolder, TrialFolder
from orchestrator.ray_metrics import exported
from orchestrator.resources import Scaling
from orchestrator.storage import is_there, refresh
from orchestrator.study import Objective
from orchestrator.trial import OnReport, follow_trial, run_trial

log = logging.getLogger(__name__)

ACCELERATOR = "accelerator_type:"
"""Ray's resource that a node has for its type of GPU."""
GRACE = 60.0
"""Seconds that a node may outlive its announced end."""
SPOILED = ("oom", "bug", "infrastructure")
"""Failures after which a process is not used again: its device may be in any state."""


@dataclass(frozen=True)
class Group:
    """The workers of one run, and what each of them may use."""

    workers: int
    cpus: float
    gpus: float
    accelerator: str | None = None

    @property
    def device(self) -> str:
        """Ray shows a worker only the GPUs that it was given."""
        return "auto" if self.gpus else "cpu"

    @property
    def resources(self) -> dict[str, float]:
        """Of one worker."""
        if not self.gpus:
            return {"CPU": self.cpus}
        kind = {f"{ACCELERATOR}{self.accelerator}": 0.001} if self.accelerator else {}
        return {"CPU": self.cpus, "GPU": self.gpus, **kind}

    def __str__(self) -> str:
        kind = f" of type {self.accelerator}" if self.gpus and self.accelerator else ""
        each = f"{self.gpus:g} GPU{kind}, {self.cpus:g} CPU" if self.gpus else f"{self.cpus:g} CPU"
        return each if self.workers == 1 else f"{self.workers} workers of {each} each"


def group_of(scaling: Scaling, device: str, grown: int | None = None) -> Group:
    """Without a number, `cuda` means a whole GPU for each worker; `auto` means what the study says. `grown`: so many
    GPUs the cluster has when it has grown."""
    gpus = scaling.gpus_per_worker
    has_gpu = bool(grown) or ray.cluster_resources().get("GPU", 0) > 0
    if device.startswith("cuda"):
        if not has_gpu:
            raise ConfigError(f"device={device}: the cluster has no GPU; expected auto or cpu")
        gpus = gpus or 1.0
    elif device == "auto" and has_gpu and not gpus:
        log.warning("the runs use the CPU though there is a GPU; scaling.gpus_per_worker=1 gives one to each")
    return Group(scaling.workers, scaling.cpus_per_worker, 0.0 if device == "cpu" else gpus, scaling.accelerator)


def at_once(scaling: Scaling, group: Group, grown: int | None = None, *, may_grow: bool = False) -> int:
    """As many runs as fit, also those that wait for machines to come. ConfigError if none ever will.

    `may_grow`: a cluster of which we don't know to what it grows. Who gives `scaling.concurrent` does.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    need = group.resources
    workers = sum(min(int(node.get(name, 0) / amount + 1e-6) for name, amount in need.items()) for node in nodes)
    if grown and group.gpus:
        workers = max(workers, int(grown / group.gpus + 1e-6))
    fit = workers // group.workers
    if not fit and may_grow and scaling.concurrent:
        return scaling.concurrent
    if not fit:
        growing = "; if it grows, say to how many runs at once: scaling.concurrent=N" if may_grow else ""
        raise ConfigError(
            f"scaling: a run needs {group}, the cluster has {_had(nodes)}; lower scaling.workers or what a worker uses"
            + growing
        )
    return min(fit, scaling.concurrent or fit)


def _had(nodes: list[dict[str, float]]) -> str:
    """`8 CPU and 2 nodes of 4 CPU, 1 GPU (T4)`: what each node has that could train."""
    said = []
    for node in nodes:
        kinds = ", ".join(name.removeprefix(ACCELERATOR) for name in node if name.startswith(ACCELERATOR))
        gpus = f", {node['GPU']:g} GPU" + (f" ({kinds})" if kinds else "") if node.get("GPU") else ""
        said.append(f"{node.get('CPU', 0):g} CPU{gpus}")
    return " and ".join(f"{count} nodes of {what}" if count > 1 else what for what, count in Counter(said).items())


@dataclass(frozen=True)
class Task:
    """One run, in values that travel to any machine."""

    run: dict[str, Any]
    study: Path | str
    """Where every node finds the study: a folder, or a URI."""
    fingerprint: str
    objective: Objective
    group: Group
    scratch: Path
    """Where Ray Train may write; it is gone when the study ends."""
    failures: Failures = USUAL

    def config(self) -> RunConfig:
        return build(Tree(self.run, {}))

    def place(self) -> TrialFolder:
        """The folder that the driver has made. Elsewhere than beside it, whatever the run writes would be lost."""
        folder = StudyFolder(self.study).trial(self.fingerprint)
        refresh(folder.path, without=())
        if not folder.trial.exists():
            node = ray.util.get_node_ip_address()
            raise FileNotFoundError(f"{folder.path}: not there on node {node}; put the study where every node sees it")
        return folder


def run_task(task: Task) -> None:
    """Make the run, inside a Tune trial. Its record is written when this returns; it raises if a process was lost."""
    if task.group.workers > 1:
        _run_together(task)
    else:  # Ray Train's local mode: this process is the worker, and Tune keeps it warm for the next trial
        TorchTrainer(_alone, train_loop_config={"task": task}, scaling_config=train.ScalingConfig(num_workers=0)).fit()


def _alone(loop: dict[str, Any]) -> None:
    _make_run(loop["task"], _report_to_tune, SPOILED)


def _report_to_tune(step: int, metrics: dict[str, float]) -> bool:
    """Tune holds this thread until the driver has decided; its answer is the file `stop`, which `run_trial` reads."""
    tune.report(_report(step, metrics))
    return False


def _report(step: int, metrics: dict[str, float]) -> dict[str, Any]:
    """Of each number, Tune keeps statistics for as long as the study lasts; of text it keeps none."""
    return {"step": step, "metrics": json.dumps(metrics)}


def _make_run(task: Task, on_report: OnReport, spoiled: tuple[str, ...] | None) -> None:
    """None: any failure spoils the process. The fresh one that Ray then starts finds the record, and is done.

    A run that leaves returns. In a group the others wait for it: the process fails, and its successor finds the file.
    """
    folder = task.place()
    if is_there(folder.leave):
        return
    torch.set_num_threads(max(1, int(task.group.cpus)))
    if 0 < task.group.gpus < 1:  # who takes more than its part runs out of memory itself, not its neighbor
        torch.cuda.set_per_process_memory_fraction(task.group.gpus)
    is_over = folder.result.exists()
    policy: dict[str, Any] = {"device": task.group.device, "failures": task.failures}
    if spoiled is not None:  # Ray Train looks after the nodes of a group
        policy["notice"] = lambda: _seconds_left() is not None
    try:
        told = exported(on_report, folder, task.objective.metric)
        record = run_trial(task.config(), folder, task.objective, on_report=told, **policy)
    except Preempted as left:
        if is_there(folder.leave) and spoiled is not None:
            return
        _wait_for_the_end()
        raise RuntimeError(f"{folder.path}: {left}") from None
    if record.failure and not is_over and (spoiled is None or record.failure["reason"] in spoiled):
        raise RuntimeError(f"{folder.path}: failed ({record.failure['reason']}); this process is not used again")


def _seconds_left() -> float | None:
    """Until this node is taken away, as Ray was told; None if nobody has said so. 0 also if nobody has said when."""
    deadline = state.get_draining_nodes().get(ray.get_runtime_context().get_node_id())
    return None if deadline is None else max(0.0, deadline / 1000 - time.time())


def _wait_for_the_end() -> None:
    """A process that dies with its node is started again elsewhere, and that is not counted. If the node stays after
    all, the process fails, which is."""
    if (seconds := _seconds_left()) is not None:
        log.warning("this node is taken away in %.0f s; the run has saved where it is", seconds)
        time.sleep(seconds + GRACE)


class _Relay:
    """An actor between rank 0 and the Tune trial: a report goes up, and its sender waits here for the decision."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[tuple[dict[str, Any], asyncio.Future[bool]] | None] = asyncio.Queue()

    async def report(self, step: int, metrics: dict[str, float]) -> bool:
        decision: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        await self.waiting.put((_report(step, metrics), decision))
        return await decision

    async def next_report(self) -> dict[str, Any] | None:
        """None when the group has ended."""
        if (entry := await self.waiting.get()) is None:
            return None
        report, self.undecided = entry
        return report

    async def decide(self, stop: bool) -> None:
        """Of the last `next_report`. Its sender may have died meanwhile: then nobody hears."""
        self.undecided.set_result(stop)

    async def end(self) -> None:
        await self.waiting.put(None)


def _run_together(task: Task) -> None:
    """This process only passes on. Retries are Ray Train's, and finite: by default it would try for ever."""
    relay: Any = ray.remote(num_cpus=0)(_Relay).remote()
    trainer = TorchTrainer(
        _in_group,
        train_loop_config={"task": task, "relay": relay},
        torch_config=TorchConfig(backend="nccl" if task.group.gpus else "gloo"),
        scaling_config=train.ScalingConfig(
            num_workers=task.group.workers, use_gpu=task.group.gpus > 0, resources_per_worker=task.group.resources
        ),
        run_config=train.RunConfig(
            name=task.fingerprint,
            storage_path=str(task.scratch),
            # Each halving of the micro-batch takes a new group, too. A node that is taken away is not counted.
            failure_config=train.FailureConfig(
                max_failures=task.failures.restarts + task.failures.halvings,
                controller_failure_limit=task.failures.restarts,
                max_preemption_failures=-1,
            ),
            logging_config=train.LoggingConfig(log_level="CRITICAL"),
        ),
    )
    folder = task.place()
    with ThreadPoolExecutor(1) as aside:
        fit = aside.submit(trainer.fit)
        fit.add_done_callback(lambda _: relay.end.remote())
        while (report := ray.get(relay.next_report.remote())) is not None:
            tune.report(report)
            relay.decide.remote(is_there(folder.stop))
        fit.result()


def _in_group(loop: dict[str, Any]) -> None:
    """One worker. Ray Train has initialized torch.distributed; rank 0 reports and writes, and all leave when it does.

    A failure of rank 0 ends its process, and so the group: the others may be waiting for it in a collective call.
    """
    task, relay = loop["task"], loop["relay"]
    if dist.get_rank() == 0:
        _make_run(task, partial(_report_to_relay, relay), spoiled=None)
    else:
        torch.set_num_threads(max(1, int(task.group.cpus)))
        if not is_there((folder := task.place()).leave):
            with suppress(Preempted):  # the first worker says what comes of it
                follow_trial(task.config(), folder, device=task.group.device, failures=task.failures)


def _report_to_relay(relay: Any, step: int, metrics: dict[str, float]) -> bool:
    return bool(ray.get(relay.report.remote(step, metrics)))
