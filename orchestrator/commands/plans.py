"""The verb that says what a study will do and cost. Nothing is trained but the steps that it measures."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from orchestrator.commands import Changes, Seeds, WorkerDevice, console, default_name, errors, more_blocks, print_next

if TYPE_CHECKING:
    from guidedmix_core import Tree
    from orchestrator.clusters import Machine
    from orchestrator.folder import StudyFolder
    from orchestrator.plan import Plan
    from orchestrator.study import Study

OVER_BUDGET = 3


def plan(
    file: Annotated[str, typer.Argument(help="An ablation or a search: `ablation/demo`, or a YAML file.")],
    changes: Changes = None,
    study: Annotated[
        str | None,
        typer.Option(
            "--study", help="Its folder, or a URI. Default: as `ablate` and `tune` have it.", show_default=False
        ),
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Measure a few steps of each kind of run whose cost is not known.")
    ] = False,
    device: WorkerDevice = "auto",
    cluster: Annotated[
        str, typer.Option(help="A file of clusters/, or a path: GPUs, their memory, the price.")
    ] = "local",
    sd: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation of paired differences as tables write them: points of a share such as mIoU, or "
            "the objective's own unit. Default: measured, else 0.8 points of mIoU.",
            show_default=False,
        ),
    ] = None,
    seeds: Seeds = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Say what a study will do before it does it: runs, shared stages, hours, price, and the smallest difference that
    it can show. Exit code 3 if it is above the study's `budget`.

    Costs are those of complete runs, here and in the studies beside it, or of a probe, which is kept in `costs.json`
    beside the studies. No data is opened without --probe.
    """
    from orchestrator.ablation import AblationStudy
    from orchestrator.clusters import Machine, read_cluster
    from orchestrator.plan import needed_by, over_budget, plan_study
    from orchestrator.plan_table import as_json as content

    request, base, folder = _study(file, changes or [], study, seeds)
    where, machine = read_cluster(cluster), Machine.here()
    needed, spread = needed_by(request.scaling, device), _spread(sd, request)

    def made() -> Plan:
        return plan_study(request, base, folder, needed, machine, where, spread)

    found = made()
    if probe and found.unmeasured:
        _probe(found, folder, machine)
        found = made()
    problems = over_budget(found, request.budget)
    if as_json:
        console.print_json(json.dumps({**content(found), "over_budget": problems}))
    else:
        _show(found, request.remarks(base) if isinstance(request, AblationStudy) else [])
    _refuse(problems)


def keep_budget(request: Study, base: Tree, folder: StudyFolder, device: str) -> None:
    """Leave with exit code 3 if what is left of a study is above its budget. Without one nothing is looked at."""
    from orchestrator.clusters import Machine, this_cluster
    from orchestrator.plan import needed_by, over_budget, plan_study
    from orchestrator.resources import Budget

    if request.budget != Budget():
        needed, where = needed_by(request.scaling, device), this_cluster()
        _refuse(over_budget(plan_study(request, base, folder, needed, Machine.here(), where, None), request.budget))


def _refuse(problems: list[str]) -> None:
    if problems:
        errors.print(Text("\n".join(problems), style="red"), soft_wrap=True)
        raise typer.Exit(OVER_BUDGET)


def _study(file: str, changes: list[str], study: str | None, seeds: str | None) -> tuple[Study, Tree, StudyFolder]:
    from guidedmix_core import ConfigError
    from orchestrator.ablation import AblationStudy
    from orchestrator.checking import study_model
    from orchestrator.folder import StudyFolder
    from orchestrator.study import load_study

    model = study_model(file)
    request, base = load_study(file, changes, model)
    if seeds is not None:
        if not isinstance(request, AblationStudy):
            raise ConfigError(f"--seeds {seeds}: a search has no blocks; give search.trials=N")
        request = request.with_more_blocks(more_blocks(seeds))
    name = default_name("ablate" if model is AblationStudy else "tune", file)
    return request, base, StudyFolder(study or f"studies/{name}")


def _spread(sd: float | None, study: Study) -> float | None:
    """As the objective has it."""
    from guidedmix_core import ConfigError
    from orchestrator.units import scale_of

    if sd is None:
        return None
    if not 0 < sd < math.inf:
        raise ConfigError(f"--sd {sd:g}: expected a number above 0, the standard deviation of paired differences")
    return sd / scale_of(study.objectives[0].metric)


def _probe(found: Plan, folder: StudyFolder, machine: Machine) -> None:
    from guidedmix_core import ConfigError
    from orchestrator.costs import measure

    device = "cuda" if found.needed.gpus else "cpu"
    if device == "cuda" and not machine.gpus:
        raise ConfigError(
            "--probe: the runs use a GPU, and this machine has none; probe on one that has, or --device cpu"
        )
    for i, run in enumerate(found.unmeasured.values(), start=1):
        with console.status(f"measuring {run.method.name} ({i} of {len(found.unmeasured)})"):
            measure(run, folder, device, max(1, int(found.needed.cpus)))


def _show(found: Plan, remarks: list[str]) -> None:
    from orchestrator.plan_table import WIDTH, facts, runs_table, stages_tree, title, warnings

    wide = Console(markup=False, emoji=False, highlight=False, width=max(console.width, WIDTH))
    wide.print(Text(title(found), style="bold"))
    for remark in remarks:
        console.print(Text(remark), soft_wrap=True)
    wide.print()
    wide.print(runs_table(found), soft_wrap=True)
    wide.print()
    if (tree := stages_tree(found)) is not None:
        wide.print(tree, soft_wrap=True)
        wide.print()
    print_next(facts(found))
    for warning in warnings(found):
        console.print(Text(warning, style="yellow"), soft_wrap=True)
