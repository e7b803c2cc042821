"""The request of a study: a base run, what is better, on which machines; of a search what may vary and how to look."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from guidedmix_core import (
    Config,
    ConfigError,
    RunConfig,
    Tree,
    Tuple,
    build,
    dump,
    nearest,
    override,
    parse_changes,
    read_yaml,
    resolve,
)
from orchestrator.confirm import Confirm, check_confirm, check_fresh, check_references
from orchestrator.distributions import Distribution
from orchestrator.failures import Failures
from orchestrator.kinds import check_kind, read_base
from orchestrator.objective import Objective
from orchestrator.resources import Budget, Notify, Scaling
from orchestrator.space import check_conditions, check_sampler, check_space, check_start, data_corners, refuse

COMMAND_LINE = "command line"


class SearchSettings(Config):
    """How points of the space are chosen."""

    sampler: Literal["tpe", "gp", "cmaes", "qmc", "random", "grid"] = "tpe"
    trials: int = Field(ge=1, description="how many runs; a finished study is extended by raising it")
    seed: int = Field(0, ge=0, description="of the sampler; the runs have their own")
    startup_trials: int = Field(10, ge=1, description="random points before tpe, gp or cmaes learn from results")
    start_from: Annotated[tuple[dict[str, Any], ...], Tuple] = Field(
        (), description="points to run first; a parameter left out is chosen by the sampler"
    )


class SchedulerSettings(Config):
    """When a run is stopped early, judged by its reports so far."""

    name: Literal["asha", "median", "none"] = Field(
        "asha",
        description="asha: of the runs that reach a rung only the best 1/eta go on; "
        "median: a run below the median of the complete ones stops, once five are complete",
    )
    first_rung: float = Field(0.25, gt=0, le=1, description="the share of the run before which nothing is stopped")
    eta: int = Field(3, ge=2, description="of asha: the next rung lies this many times further on")

    def rung(self, steps: int, number: int) -> int:
        """The step of a rung, of a run of so many; the first is rung 0."""
        return math.ceil(self.first_rung * steps) * self.eta**number


class Tracking(Config):
    """Where to look at the runs. The study folder has it all without."""

    mlflow: str | None = Field(
        "auto",
        description="a tracking URI, {study} is the study's folder; auto: that of MLFLOW_TRACKING_URI, and where it is "
        "not set sqlite:///{study}/mlflow.db; null: none",
    )


class Study(Config, ABC):
    """What every study asks for, and what an executor needs to know of it."""

    kind: ClassVar[str]
    """The verb that runs it."""
    shelf: ClassVar[str]
    """Its folder in search_spaces."""
    of_paths: ClassVar[tuple[str, ...]]
    """Sections whose keys are dotted paths of the run."""
    of_labels: ClassVar[tuple[str, ...]]
    """Sections whose keys are labels, each of them with such a section."""

    base: str = Field(description="the run everything is a change of: a name in search_spaces/base, or a file")
    changes: dict[str, Any] = Field({}, description="of the base, for every run of the study")
    reuse: bool = Field(
        True,
        description="take over equal runs, on equal data, that studies in the folder beside have finished; of a search "
        "its references and fresh runs, for whether a trial is stopped depends on the trials before it",
    )
    scaling: Scaling = Scaling()
    budget: Budget = Budget()
    failures: Failures = Failures()
    tracking: Tracking = Tracking()
    notify: Notify | None = Field(None, description="a command that is told what happens; null: none")

    @property
    @abstractmethod
    def objectives(self) -> tuple[Objective, ...]:
        """The first one decides what is best."""

    @abstractmethod
    def check(self, base: Tree) -> str:
        """Builds every run that is known now, and says how many these are. ConfigError names the first wrong one."""

    @abstractmethod
    def variants(self) -> Iterator[Mapping[str, Any]]:
        """Changes of the base that between them meet every data set and split of the study."""

    @abstractmethod
    def plan(self, base: Tree) -> dict[str, Any]:
        """How many runs there will be (`planned`), and what else the study's record says of them."""

    @abstractmethod
    def decisive(self) -> dict[str, Any]:
        """What decides the results beside base run and objectives. Anything else may change from start to start."""


AnyStudy = TypeVar("AnyStudy", bound=Study)


def _number_of_objectives(value: Any) -> str:
    return "Several" if isinstance(value, (list, tuple)) else "One"


class SearchStudy(Study):
    """A search. Parameters, changes and references are dotted paths of the run."""

    kind = "tune"
    shelf = "search"
    of_paths = ("parameters", "changes")
    of_labels = ("references", "reference_parameters")

    objective: Annotated[
        Annotated[Objective, Tag("One")] | Annotated[tuple[Objective, ...], Field(min_length=1), Tuple, Tag("Several")],
        Discriminator(_number_of_objectives),
    ] = Objective()
    parameters: Annotated[dict[str, Distribution], Field(min_length=1), AfterValidator(check_conditions)]
    search: SearchSettings
    scheduler: SchedulerSettings = SchedulerSettings()
    references: dict[str, dict[str, Any]] = Field(
        {}, description="runs to compare with: a label, and what it changes of the base"
    )
    reference_parameters: dict[str, Annotated[dict[str, Distribution], AfterValidator(check_conditions)]] = Field(
        {},
        description="a reference's label, and its own parameters: after the search they are searched with as many "
        "trials, the same sampler and scheduler",
    )
    confirm: Confirm | None = Field(
        None, description="fresh runs of the winner and of references, after the search; null: none"
    )

    @property
    def objectives(self) -> tuple[Objective, ...]:
        return self.objective if isinstance(self.objective, tuple) else (self.objective,)

    def check(self, base: Tree) -> str:
        said = check_space(self, base)
        if self.confirm is not None:
            check_fresh(self, self.confirm, base)
        return said

    def variants(self) -> Iterator[Mapping[str, Any]]:
        confirm = self.confirm
        fresh = [{**confirm.changes, **block} for block in confirm.block_values] if confirm else []
        for values in ({}, *fresh):
            yield values
            for point in (*self.references.values(), *data_corners(self.parameters)):
                yield {**point, **values}
            for label, parameters in self.reference_parameters.items():
                for point in data_corners(parameters):
                    yield {**self.references[label], **point, **values}

    def plan(self, base: Tree) -> dict[str, Any]:
        searched = self.search.trials * (1 + len(self.reference_parameters))
        confirm = self.confirm
        fresh = (confirm.top + len(confirm.against)) * len(confirm.block_values) if confirm else 0
        return {"planned": len(self.references) + searched + fresh}

    def of_reference(self, label: str) -> SearchStudy:
        """The search over the reference's own parameters, as long and as strict as this one."""
        search = self.search.model_copy(update={"start_from": ()})
        return self.model_copy(update={"parameters": self.reference_parameters[label], "search": search})

    def decisive(self) -> dict[str, Any]:
        request = dump(self)
        search = {key: value for key, value in request["search"].items() if key != "trials"}
        sections = {key: request[key] for key in ("parameters", "scheduler", "references", "reference_parameters")}
        if not self.reference_parameters:  # folders from before there were any keep their identity
            del sections["reference_parameters"]
        return {**sections, "search": search}

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        several = len(self.objectives) > 1
        if several and self.scheduler.name != "none":
            refuse(
                f"{self.scheduler.name} ranks by one objective; with several of them give scheduler.name=none",
                "scheduler",
            )
        if several and self.search.sampler == "cmaes":
            refuse("cmaes has one objective; tpe, gp, qmc, random and grid take several", "search", "sampler")
        for parameters in (self.parameters, *self.reference_parameters.values()):
            check_sampler(self.search.sampler, parameters)
        check_start(self.search.start_from, self.parameters)
        check_references(self)
        if self.confirm is not None:
            check_confirm(self, self.confirm)
        return self


def load_study(
    name: str, assignments: Iterable[str] = (), model: type[AnyStudy] = SearchStudy
) -> tuple[AnyStudy, Tree]:
    """A study file and the base run it varies, both with the changes of the file and the command line, both checked.

    An assignment such as `search.trials=20` changes the study; any other, such as `data.name=camvid`, the base run.
    The base also knows the places of the study's own paths. ConfigError names file, line, value and what was expected.
    """
    file = read_yaml(resolve(name, model.shelf))
    check_kind(name, file.values, model.shelf)
    of_study, of_base = _sorted(parse_changes(assignments), model)
    for path, value in of_study.items():
        file = _assign(file, path, value, model)
    study = build(file, model)
    base = override(read_base(study.base), study.changes, name)
    places = {path.removeprefix("changes."): origin for path, origin in file.origins.items()}
    base = override(Tree(base.values, {**base.origins, **places}), of_base, COMMAND_LINE)
    study.check(base)
    return study, base


def identity(study: Study, base: Tree) -> str:
    """16 hexadecimal digits for what decides the results of a study: base run, objectives, `study.decisive()`.

    The number of runs, the machines and the tracking are left out: they may change from one start to the next.
    """
    request = {**study.decisive(), "objectives": [dump(goal) for goal in study.objectives], "base": dump(build(base))}
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]


def _sorted(changes: Mapping[str, Any], model: type[Study]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The changes of the study, and those of the base run."""
    of_study, of_base = {}, {}
    for path, value in changes.items():
        section = path.partition(".")[0]
        if section in model.model_fields:
            of_study[path] = value
        elif section in RunConfig.model_fields:
            of_base[path] = value
        else:
            known = [*model.model_fields, *RunConfig.model_fields]
            raise ConfigError(
                f"{COMMAND_LINE}: {path}: no section {section!r} in a study or a run; {nearest(section, known)}"
            )
    return of_study, of_base


def _assign(file: Tree, path: str, value: Any, model: type[Study]) -> Tree:
    """As `override`, but where the study's keys are dotted paths themselves they stay whole."""
    section, _, key = path.partition(".")
    if section not in (*model.of_paths, *model.of_labels) or not key:
        return override(file, {path: value}, COMMAND_LINE)
    values = copy.deepcopy(file.values)
    inner = values.setdefault(section, {})
    if isinstance(inner, list):  # of sections of paths
        number, _, key = key.partition(".")
        if not number.isdecimal() or int(number) >= len(inner) or not key:
            raise ConfigError(f"{COMMAND_LINE}: {path}: {section} is a list; give {section}.0.PATH=…")
        inner = inner[int(number)]
    if section in model.of_labels and "." in key:
        label, _, key = key.partition(".")
        inner = inner.setdefault(label, {})
    inner[key] = value
    origins = {place: origin for place, origin in file.origins.items() if not place.startswith(f"{path}.")}
    return Tree(values, {**origins, path: COMMAND_LINE})
