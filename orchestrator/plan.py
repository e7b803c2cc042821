"""What a study will do and cost before it does it: its runs and what became of them, shared stages, hours, price, and
the smallest effect that it can show. Nothing is trained, no data is opened.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from guidedmix_core import RunConfig, Tree, build, dump
from orchestrator.ablation import AblationStudy
from orchestrator.clusters import Cluster, Machine
from orchestrator.costs import past_rates, probed_rates
from orchestrator.folder import StudyFolder, read_json
from orchestrator.noise import ASSUMED, Effect, Noise, effect_of, past_noise
from orchestrator.packing import runs_on
from orchestrator.planned_runs import planned_runs, studies_beside
from orchestrator.resources import Budget, Scaling
from orchestrator.stage_groups import StageGroup
from orchestrator.stage_tree import StageStore
from orchestrator.storage import HEAVY, refresh
from orchestrator.study import Study
from orchestrator.workload import CellPlan, Workload, total


@dataclass(frozen=True)
class Needed:
    """What one run takes, all its workers together."""

    gpus: float
    cpus: float

    @property
    def unit(self) -> Literal["GPU", "CPU"]:
        return "GPU" if self.gpus else "CPU"

    @property
    def units(self) -> float:
        return self.gpus or self.cpus


@dataclass(frozen=True)
class Plan:
    """Steps and seconds are those of runs one after another, with shared stages counted once."""

    study: str
    kind: str
    cells: tuple[CellPlan, ...]
    blocks: int | None
    """Of a study that adds blocks, all that there may be."""
    first_look: int | None
    """Of such a study: how many are listed."""
    stages: tuple[StageGroup, ...]
    steps_left: int
    steps_saved: int
    """What the runs that are left would train more if each made its own stages."""
    seconds_left: float | None
    """None if the rate of a part is not known."""
    seconds_saved: float | None
    unmeasured: dict[str, RunConfig]
    """A run of each cost class whose rate is not known."""
    needed: Needed
    at_once: int
    """Runs that fit; 0: none does."""
    peak_bytes: int | None
    """Of tensors on a GPU, in the largest run; None if that was not probed."""
    fit_a_gpu: int | None
    """Runs that this lets share a GPU."""
    metric: str
    """The objective's, in whose unit the effect is."""
    effect: Effect | None
    has_headroom: bool | None
    cluster: Cluster

    @property
    def states(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for cell in self.cells:
            counts.update(cell.states)
        return counts

    @property
    def bound(self) -> str:
        """When as much is done as what is left; empty if it is exactly that."""
        if self.kind == "tune":
            return "if no run is stopped early"
        return "" if self.first_look in (None, self.blocks) else "if no cell is decided before the last block"

    @property
    def hours(self) -> float | None:
        """Of the unit: a GPU, or a core."""
        return None if self.seconds_left is None else self.seconds_left * self.needed.units / 3600

    @property
    def price(self) -> float | None:
        """Of GPUs alone; None if hours or price are not known."""
        rate = self.cluster.price_per_gpu_hour
        return None if self.hours is None or rate is None or self.needed.unit == "CPU" else self.hours * rate

    @property
    def wall_seconds(self) -> float | None:
        """If as many runs as fit are always running."""
        left = self.states["new"] + self.states["begun"]
        if self.seconds_left is None or not self.at_once or not left:
            return None
        return self.seconds_left / min(self.at_once, left)


def needed_by(scaling: Scaling, device: str) -> Needed:
    """As the executor has it: `auto` is what the study says, `cuda` a GPU for each worker at least."""
    gpus = scaling.gpus_per_worker or (1.0 if device.startswith("cuda") or scaling.pack else 0.0)
    return Needed(0.0 if device == "cpu" else gpus * scaling.workers, scaling.cpus_per_worker * scaling.workers)


def plan_study(
    study: Study, base: Tree, folder: StudyFolder, needed: Needed, machine: Machine, cluster: Cluster, sd: float | None
) -> Plan:
    """From what lies in the folder and beside it. `sd` stands for what was measured of the objective's noise."""
    refresh(folder.path.parent, without=(*HEAVY, "panels", "report"))  # what studies beside have finished counts, too
    own = [folder] if folder.study_yaml.exists() else []
    beside = studies_beside(folder)
    runs = planned_runs(study, base, folder)
    device = machine.gpu if needed.gpus else machine.cpu
    rates = probed_rates(folder, device) | past_rates([*beside, *own], device, dump(study.scaling))
    work = Workload(runs, StageStore(folder.stages), rates)
    cells = work.cells()
    seconds = total([*(cell.seconds_left for cell in cells), work.stage_seconds])
    fit = _fit(work.peak_bytes, machine, cluster)
    if study.scaling.pack and fit:
        needed = Needed(1 / fit, needed.cpus)
    return Plan(
        study=folder.name,
        kind=study.kind,
        cells=cells,
        blocks=len(study.block_values) if isinstance(study, AblationStudy) else None,
        first_look=_first_look(study) if isinstance(study, AblationStudy) else None,
        stages=work.groups(),
        steps_left=sum(cell.steps_left for cell in cells) + work.stage_steps,
        steps_saved=work.steps_alone - work.stage_steps,
        seconds_left=seconds,
        seconds_saved=_less(work.seconds_alone, work.stage_seconds),
        unmeasured=work.unmeasured,
        needed=needed,
        at_once=_at_once(needed, machine, cluster, study.scaling.concurrent),
        peak_bytes=work.peak_bytes,
        fit_a_gpu=fit,
        metric=study.objectives[0].metric,
        effect=_effect(study, base, [*own, *beside], sd) if isinstance(study, AblationStudy) else None,
        has_headroom=_headroom(own),
        cluster=cluster,
    )


def over_budget(plan: Plan, budget: Budget) -> list[str]:
    """What the plan would spend beyond each limit, and the cure. What is not known does not pass a limit."""
    limits = (
        ("gpu_hours", budget.gpu_hours, plan.hours if plan.needed.unit == "GPU" else 0.0, "GPU-hours"),
        ("cpu_hours", budget.cpu_hours, plan.hours if plan.needed.unit == "CPU" else 0.0, "CPU-hours"),
        ("price", budget.price, plan.price if plan.needed.unit == "GPU" else 0.0, plan.cluster.currency),
    )
    left = plan.states["new"] + plan.states["begun"]
    problems = []
    for name, limit, spent, unit in limits:
        if limit is None or not left:
            continue
        if spent is None:
            problems.append(f"budget.{name}={limit:g}: {_unknown(plan)}")
        elif spent > limit:
            most = "at most " if plan.bound else ""
            problems.append(
                f"budget.{name}={limit:g}: {left} runs are left and take {most}{spent:.4g} {unit}; "
                f"raise budget.{name}, or ask for fewer cells, blocks, trials or steps"
            )
    return problems


def _unknown(plan: Plan) -> str:
    if plan.hours is None:
        return (
            f"what {len(plan.unmeasured)} kinds of runs take was never measured on this device, so the limit can't be "
            "kept; `guidedmix plan … --probe` measures it in a few steps"
        )
    return "the cluster's file has no price_per_gpu_hour, so the limit can't be kept; give it there"


def _effect(study: AblationStudy, base: Tree, folders: list[StudyFolder], sd: float | None) -> Effect | None:
    goal = study.objectives[0]
    noise = Noise(sd, "given") if sd is not None else past_noise(folders, goal, build(base).data.name)
    if noise is None and goal.metric == "val/miou":
        noise = Noise(ASSUMED, "assumed: nothing is measured yet")
    if noise is None:
        return None
    return effect_of(noise, study.analysis, _comparisons(study, base), len(study.block_values), _first_look(study))


def _comparisons(study: AblationStudy, base: Tree) -> int:
    """That the tables will correct for: of all cells but the ceiling that have other runs than the reference."""
    runs: dict[str, list[str]] = study.plan(base)["runs"]
    return sum(cell != study.ceiling and own != runs[study.reference] for cell, own in runs.items())


def _first_look(study: AblationStudy) -> int | None:
    return None if study.sequential is None else len(study.listed_blocks)


def _at_once(needed: Needed, machine: Machine, cluster: Cluster, concurrent: int | None) -> int:
    if needed.gpus:
        fit = math.floor((machine.gpus if cluster.num_gpus is None else cluster.num_gpus) / needed.gpus + 1e-6)
    else:
        fit = math.floor(machine.cpus / needed.cpus + 1e-6)
    return min(fit, concurrent or fit)


def _fit(peak: int | None, machine: Machine, cluster: Cluster) -> int | None:
    size = machine.gpu_bytes if cluster.gpu_memory_gb is None else cluster.gpu_memory_gb * 1e9
    return None if peak is None or size is None else runs_on(size, peak)


def _headroom(own: list[StudyFolder]) -> bool | None:
    """As the study's summary has it; None without a ceiling, or a block of both."""
    for folder in own:
        room = read_json(folder.summary).get("headroom") if folder.summary.exists() else None
        return room and room["enough"]
    return None


def _less(whole: float | None, part: float | None) -> float | None:
    return None if whole is None or part is None else whole - part
