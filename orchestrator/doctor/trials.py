"""The folders of runs: what names them, what they were made with, and whether their end is one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
import yaml

from guidedmix_core import Checkpoints, ConfigError, RunConfig, Tree, build, dump, fingerprint, override
from orchestrator import attempts, halving
from orchestrator.doctor.finding import (
    Finding,
    Lines,
    archive_problem,
    aside,
    json_problem,
    leftovers,
    read_whole_lines,
)
from orchestrator.folder import (
    YAML_LOADER,
    StudyFolder,
    TrialFolder,
    is_run,
    read_json,
    write_atomic,
    write_json,
    write_lines,
)
from orchestrator.results import ENDED
from orchestrator.storage import move, remove

NAMES = {"fingerprint", "number", "role", "label", "params", "seed", "steps"}
END = {"state", "objective", "step", "steps", "seconds", "metrics", "best", "failure", "started", "ended"}
ALIKE = 1e-3
"""How much, relatively, the end may differ from the last evaluation: it may have been judged again elsewhere."""


def trials(folder: StudyFolder) -> Iterator[Finding]:
    """Every run's folder. `study.yaml` can be read."""
    request = folder.request()
    asked = {
        event["fingerprint"]: event
        for event in read_whole_lines(folder.journal).records
        if event.get("event") == "asked" and "fingerprint" in event
    }
    place = folder.path / "trials"
    for path in sorted(place.iterdir()) if place.is_dir() else ():
        if path.is_dir() and {inner.name for inner in path.iterdir()} - {".lock"}:
            yield from _Check(folder, TrialFolder(path), asked.get(path.name), request).findings()


class _Check:
    def __init__(
        self, folder: StudyFolder, trial: TrialFolder, asked: Mapping[str, Any] | None, request: Mapping[str, Any]
    ) -> None:
        self.folder, self.trial, self.asked, self.request = folder, trial, asked, request

    @cached_property
    def curve(self) -> Lines:
        return read_whole_lines(self.trial.metrics)

    def findings(self) -> Iterator[Finding]:
        """Of a folder with the wrong name nothing more is said, and of a run that can't be read only that."""
        if is_run(self.trial.path):
            yield Finding("note", self.trial.path, "a process still works on it", "nothing is done to it")
            return
        if (found := self._name()) is not None:
            yield found
            return
        names = read_json(self.trial.trial)
        yield from self._config(names["params"])
        unreadable = [*self._unreadable()]
        yield from unreadable
        if not unreadable:
            yield from self._curve()
            yield from self._end() if self.trial.result.exists() else self._middle(names)
        yield from self._rest()

    def _name(self) -> Finding | None:
        """Whether `trial.json` is there and says what the folder's name says."""
        trial, own = self.trial, self.trial.path.name
        problem = json_problem(trial.trial)
        if problem is None and trial.trial.exists():
            found = read_json(trial.trial)
            if found.keys() >= NAMES and found["fingerprint"] == own:
                return None
            if found.keys() >= NAMES:
                return self._renamed(found["fingerprint"])
            problem = f"lacks {', '.join(sorted(NAMES - found.keys()))}"
        problem = problem or "is missing"
        if self.asked is not None and (config := self._asked_config(self.asked["params"])) is not None:
            names = {key: self.asked.get(key) for key in NAMES - {"seed", "steps"} | {"cell", "block"}}
            whole = {**names, "seed": config.seed, "steps": config.train.steps}
            cure = "set aside, and made again from the journal"
            return Finding("blocks", trial.trial, problem, cure, self._replace(trial.trial, whole))
        cure = "the journal does not know this run: its folder is set aside"
        return Finding("blocks", trial.trial, problem, cure, aside(self.folder, trial.path))

    def _renamed(self, name: str) -> Finding:
        trial, right = self.trial, self.folder.trial(name)
        problem = f"holds the run {name}: the folder was copied or renamed"
        if right.path.exists():
            cure = f"set aside: {right.path.name} is there, too"
            return Finding("wrong", trial.path, problem, cure, aside(self.folder, trial.path))
        cure = "gets its name back"
        return Finding("wrong", trial.path, problem, cure, partial(move, trial.path, right.path))

    def _config(self, params: Mapping[str, Any]) -> Iterator[Finding]:
        """Once a run has begun. A configuration that another version of the code wrote may have another name now."""
        trial, problem = self.trial, None
        if not trial.config.exists():
            has_begun = trial.metrics.exists() or trial.result.exists()
            problem = "is missing" if has_begun else None
        else:
            try:
                values = yaml.load(trial.config.read_text(encoding="utf-8"), YAML_LOADER)
                problem = None if isinstance(values, dict) else "holds no configuration"
            except yaml.YAMLError as error:
                problem = f"not readable as YAML: {getattr(error, 'problem', None) or error}"
        if problem is None:
            return
        if (config := self._asked_config(params)) is None:
            cure = "restore it: what the study asks for now has another fingerprint, so it can't be made again"
            yield Finding("blocks", trial.config, problem, cure)
            return
        text = yaml.safe_dump(dump(config), sort_keys=False, allow_unicode=True)
        cure = "set aside, and made again from `study.yaml` and `trial.json`: it has the fingerprint that it must have"
        yield Finding("blocks", trial.config, problem, cure, self._replace(trial.config, text))

    def _asked_config(self, params: Mapping[str, Any]) -> RunConfig | None:
        """What the study asks for, if that is this run."""
        if "run" not in self.request:
            return None
        try:
            config = build(override(Tree(self.request["run"], {}), params, "trial"))
        except ConfigError:
            return None
        return config if fingerprint(config) == self.trial.path.name else None

    def _unreadable(self) -> Iterator[Finding]:
        """Records that can't be read. Without its end, a run goes on from its checkpoint, or begins anew."""
        trial, cures = self.trial, {}
        cures[trial.result] = "set aside: the next start goes on with the run, from its checkpoint if there is one"
        cures[trial.environment] = "set aside"
        cures[trial.mlflow] = "set aside: its run in MLflow is found again by its tags"
        for path, cure in cures.items():
            if (problem := json_problem(path)) is not None:
                yield Finding("blocks", path, problem, cure, aside(self.folder, path))
        if (problem := json_problem(trial.halving)) is not None:
            cure = "the run begins anew in whole micro-batches; what it has made is kept in `attempts/`"
            repair = aside(self.folder, trial.halving) if trial.result.exists() else self._begin_anew(trial.halving)
            yield Finding("blocks", trial.halving, problem, cure, repair)
        lines = self.curve
        if lines.damaged:
            problem = f"not readable as JSON: line {', '.join(map(str, lines.damaged))} of {len(lines.records)} others"
            cure = "set aside, and written again without: these evaluations are lost"
            yield Finding("blocks", trial.metrics, problem, cure, self._replace(trial.metrics, lines.records))

    def _curve(self) -> Iterator[Finding]:
        """Steps follow each other. A torn line of a run that goes on is written again from the checkpoint."""
        lines = self.curve
        steps = [row["step"] for row in lines.records]
        by_step = {row["step"]: row for row in lines.records}
        if steps != sorted(by_step):
            problem, cure = "has a step twice, or steps in disorder", "set aside, and written again: the last of each"
            kept = [by_step[step] for step in sorted(by_step)]
            yield Finding("wrong", self.trial.metrics, problem, cure, self._replace(self.trial.metrics, kept))
        elif lines.is_torn:
            cure = "set aside, and written again without it: a checkpoint, or the end of the run, has it"
            repair = self._replace(self.trial.metrics, lines.records)
            yield Finding("untidy", self.trial.metrics, "the last line is torn by a crash", cure, repair)

    def _end(self) -> Iterator[Finding]:
        trial = self.trial
        end, rows = read_json(trial.result), self.curve.records
        again = "set aside: the next start goes on with the run, and judges it again"
        if (problem := _unlike_an_end(end, self.request["objectives"][0]["metric"])) is not None:
            yield Finding("blocks", trial.result, problem, again, aside(self.folder, trial.result))
            return
        last = rows[-1] if rows else {"step": 0}
        if end["state"] != "failed" and last["step"] < end["step"]:
            row = {"step": end["step"], "time": end["ended"], **end["metrics"]}
            problem = f"ends at step {last['step']}, and the run at {end['step']}"
            cure = "the last line is written from `result.json`"
            repair = lambda: write_lines(trial.metrics, [*rows, row])  # noqa: E731
            yield Finding("wrong", trial.metrics, problem, cure, repair)
        elif end["state"] != "failed" and (unlike := _unlike(end, last)) is not None:
            cure = "set aside: neither is to be trusted more, so the run is judged again, or made again"
            yield Finding("wrong", trial.result, unlike, cure, aside(self.folder, trial.result))
        for path in (trial.checkpoint / "best.pt", trial.checkpoint / "last.pt"):
            if (problem := archive_problem(path)) is not None:
                cure = "set aside; results stay, but nothing can be predicted with it"
                yield Finding("wrong", path, problem, cure, aside(self.folder, path))
        if (problem := archive_problem(trial.counts)) is not None:
            cure = "set aside; intervals over images leave this run's cell out"
            yield Finding("wrong", trial.counts, problem, cure, aside(self.folder, trial.counts))
        if trial.leave.exists():
            problem = "asks a run to leave that has ended"
            yield Finding("untidy", trial.leave, problem, "removed", partial(remove, trial.leave))

    def _middle(self, names: Mapping[str, Any]) -> Iterator[Finding]:
        """Of a run without an end: whether it can be gone on with."""
        trial = self.trial
        checkpoints, rows = Checkpoints(trial.checkpoint), self.curve.records
        problem, step = None, 0
        if (config := self._asked_config(names["params"])) is not None:
            try:
                state = checkpoints.load_last(halving.trained_as(config, trial), torch.device("cpu"))
                step = 0 if state is None else state["step"]
                if state is None and rows:
                    problem = f"is missing, and the run was at step {rows[-1]['step']}"
            except ConfigError as error:
                problem = str(error).removeprefix(f"{checkpoints.last}: ").partition("; ")[0]
        if problem is not None:
            cure = "what it has made is put into `attempts/`, and it begins anew at step 0 (stages are kept)"
            yield Finding("blocks", checkpoints.last, problem, cure, self._begin_anew())
        else:
            said = f"was interrupted at step {step} of {names['steps']}" if step or rows else "has not begun"
            yield Finding("note", trial.path, said, "the same command goes on with it")
        is_stopped_early = (self.request.get("scheduler") or {"name": "none"})["name"] != "none"
        if trial.stop.exists() and not is_stopped_early:
            problem = "asks the run to stop, and nobody stops runs of this study early"
            yield Finding("wrong", trial.stop, problem, "removed", partial(remove, trial.stop))

    def _rest(self) -> Iterator[Finding]:
        for folder in (self.trial.path, self.trial.checkpoint, self.trial.panels):
            for path in leftovers(folder):
                problem = "half a file, of a process that was killed while it wrote"
                yield Finding("untidy", path, problem, "removed", path.unlink)

    def _begin_anew(self, *more: Path) -> Any:
        trial, names = self.trial, read_json(self.trial.trial)

        def repair() -> None:
            with trial.running():
                number = attempts.put_aside(trial, *more, goes_on=False)
            if self.request["kind"] != "train":  # a single run keeps no journal
                event = {"event": "trial_retried", **{key: names[key] for key in ("fingerprint", "number", "role")}}
                self.folder.append({**event, "reason": "checkpoint", "attempt": number})

        return repair

    def _replace(self, path: Path, content: Any) -> Any:
        """What is there goes aside; text is written as it is, records as JSON lines, anything else as JSON."""

        def repair() -> None:
            aside(self.folder, path)()
            if isinstance(content, str):
                write_atomic(path, content)
            elif isinstance(content, list):
                write_lines(path, content)
            else:
                write_json(path, content)

        return repair


def _unlike_an_end(end: Any, metric: str) -> str | None:
    if not isinstance(end, dict) or END - end.keys():
        lacks = ", ".join(sorted(END - end.keys())) if isinstance(end, dict) else "everything"
        return f"lacks {lacks}"
    if end["state"] not in ENDED:
        return f"has the state {end['state']!r}"
    if end["state"] != "failed" and metric not in end["metrics"]:
        return f"lacks the objective, {metric}"
    return None


def _unlike(end: Mapping[str, Any], last: Mapping[str, Any]) -> str | None:
    """Of an end and the evaluation that it is of."""
    if end["step"] != last["step"]:
        return f"ends at step {end['step']}, and the last evaluation was at {last['step']}"
    for name, value in end["metrics"].items():
        other = last.get(name)
        if not name.startswith("val/") or value is None or other is None:
            continue
        if not math.isclose(value, other, rel_tol=ALIKE, abs_tol=ALIKE):
            return f"has {name} = {value:.4g}, and the last evaluation {other:.4g}"
    return None
