"""What to run next, and what is written about it: the one logic behind every executor.

An executor is a loop around a `Driver`; it only decides where a job runs, and how many at once:

    with driving(study, base, folder, listeners) as driver:
        while (job := driver.next()) is not None:
            driver.started(job)
            on = {"on_report": partial(driver.reported, job), "on_stage": partial(driver.staged, job)}
            driver.ended(job, run_trial(job.config, job.folder, driver.objective, **on, device=device))

All calls come from one thread of one process, which holds the study's lock. With several jobs at once, `next` is called
whenever there is room; None then means that nothing can begin now, and the study is over when no job is out either.
An exception between, from whomever, leaves the folder as a killed process would: the same call goes on with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from guidedmix_core import ConfigError, RunConfig, StageReport, Tree, build, dump, fingerprint, open_data, override
from orchestrator.ablation import AblationStudy
from orchestrator.cells import Cells
from orchestrator.comparison import asked_for
from orchestrator.failures import UNREPAIRABLE
from orchestrator.folder import StudyFolder, TrialFolder, read_json, write_json
from orchestrator.listeners import Listener
from orchestrator.proposals import Source
from orchestrator.provenance import environment
from orchestrator.results import TrialRecord, load_trial, load_trials
from orchestrator.reuse import find_finished, take_over
from orchestrator.search import Search
from orchestrator.study import Objective, SearchStudy, Study, identity
from orchestrator.summary import write_summary
from orchestrator.trial import hand_out


@dataclass(frozen=True)
class Job:
    """One run to be made: what the study calls it, its configuration, its place."""

    number: int
    role: Literal["trial", "reference"]
    label: str | None
    params: dict[str, Any]
    config: RunConfig
    folder: TrialFolder
    cell: str | None = None
    block: int | None = None

    @property
    def fingerprint(self) -> str:
        return self.folder.fingerprint


@contextmanager
def driving(study: Study, base: Tree, folder: StudyFolder, listeners: Sequence[Listener]) -> Iterator[Driver]:
    """A driver that has checked the whole request, opened its data and claimed the folder. ConfigError if it can't."""
    study.check(base)
    _open_all_data(study, base)
    with folder.running():
        driver = Driver(study, base, folder, listeners)
        driver.claim()
        try:
            driver.begin()
            yield driver
            driver.finish()
        finally:
            driver.close()


class Driver:
    """Keeps proposals, journal, summary and listeners in step. Make it with `driving`."""

    def __init__(self, study: Study, base: Tree, folder: StudyFolder, listeners: Sequence[Listener]) -> None:
        self.study, self.base, self.folder, self.listeners = study, base, folder, tuple(listeners)
        self.out: dict[str, Job] = {}
        """Jobs that were handed out and have not ended, by fingerprint."""
        self._twins: dict[str, list[Job]] = {}  # asked for again while their run is out
        self._references = enumerate(study.references.items() if isinstance(study, SearchStudy) else ())
        self._is_over = False

    @property
    def objective(self) -> Objective:
        """What trials report to the scheduler, and what is best."""
        return self.study.objectives[0]

    def claim(self) -> None:
        """Make the folder this study's, its journal agree with its results, and what to run next follow from both."""
        self.folder.claim(_request(self.study, self.base, self.folder), identity(self.study, self.base))
        write_json(self.folder.provenance, here := environment())
        self._reconcile()
        self.folder.append({"event": "study_started", "host": here["host"], "git": here["git"]})

        self._asked = {(event["role"], event["number"]) for event in self._events("asked")}
        self.source = _source(self.study, self.base, self.folder)

    def begin(self) -> None:
        self._tell("study_started", self.study, self.folder)

    def next(self) -> Job | None:
        """The next run to be made: references first, then what was interrupted, then what search or cells propose.

        What has an end already is not run again: whoever proposed it is told its record. A run is never out twice.
        """
        for number, (label, changes) in self._references:
            config = build(override(self.base, changes, f"references.{label}"))
            if job := self._hand_out(Job(number, "reference", label, dict(changes), config, self._place(config))):
                return job
        while not self._is_over:
            if (proposal := self.source.ask()) is None:
                self._is_over = not self.out  # what is out may ask for another block
                break
            number, params, cell, block = proposal.number, proposal.params, proposal.cell, proposal.block
            config = build(override(self.base, params, f"trial {number}"))
            job = Job(number, "trial", proposal.label, params, config, self._place(config), cell, block)
            if job := self._hand_out(job):
                return job
        return None

    def started(self, job: Job) -> None:
        self.folder.append({"event": "trial_started", **_names(job)})
        self._tell("trial_started", load_trial(job.folder))

    def staged(self, job: Job, stage: StageReport) -> None:
        self._tell("trial_staged", load_trial(job.folder), stage)

    def reported(self, job: Job, step: int, metrics: Mapping[str, float]) -> bool:
        """After each evaluation, its line written. True: the scheduler asks the run to stop here."""
        stop = job.role == "trial" and self.source.report(job.number, step, metrics[self.objective.metric])
        self._tell("trial_reported", load_trial(job.folder), {"step": step, **metrics})
        return stop

    def ended(self, job: Job, record: TrialRecord) -> None:
        """ConfigError if it is a canary that failed in a way the other runs would, too."""
        self.folder.append(
            {"event": "trial_ended", **_names(job), "state": record.state, "objective": record.objective}
        )
        del self.out[job.fingerprint]
        for asked in (job, *self._twins.pop(job.fingerprint, [])):
            if asked.role == "trial":
                self.source.tell(asked.number, record)
        self._tell("trial_ended", record)
        self._check_canary(job, record)

    def finish(self) -> None:
        """The study is over if nothing is left to run. A small space may have had fewer runs than were asked for."""
        if self.out or not self._is_over:
            return
        request = self.folder.request()
        made = asked_for(request, load_trials(self.folder))
        self.folder.claim({**request, "planned": len(made)}, request["identity"])
        self.folder.append({"event": "study_ended"})

    def close(self) -> None:
        self._tell("study_ended")

    def _hand_out(self, job: Job) -> Job | None:
        """None if there is nothing to run: it has ended before, or is out under another name."""
        if (job.role, job.number) not in self._asked:
            asked = {"event": "asked", **_names(job), "label": job.label, "params": job.params}
            self._asked.add((job.role, job.number))
            self.folder.append({**asked, "cell": job.cell, "block": job.block})
        self._name(job)
        if job.fingerprint in self.out:
            self._twins.setdefault(job.fingerprint, []).append(job)
            return None
        if job.folder.result.exists() or self._reuse(job):
            record = load_trial(job.folder)
            self._check_canary(job, record)
            if job.role == "trial":
                self.source.tell(job.number, record)
            write_summary(self.folder)
            return None
        self.out[job.fingerprint] = job
        return job

    def _reuse(self, job: Job) -> bool:
        """Take over the run if a study beside this one has finished it, and say so."""
        if not (isinstance(self.study, AblationStudy) and self.study.reuse):
            return False
        if (found := find_finished(job.config, self.folder, self.objective)) is None:
            return False
        made_by = take_over(found, job.folder, self.objective)
        record = load_trial(job.folder)
        self.folder.append({"event": "trial_reused", **_names(job), "from": made_by})
        self.folder.append(
            {"event": "trial_ended", **_names(job), "state": record.state, "objective": record.objective}
        )
        self._tell("trial_reused", record)
        return True

    def _name(self, job: Job) -> None:
        """One configuration, one folder, whoever asks. The first name stays, but a trial outranks a reference."""
        names = {"number": job.number, "role": job.role, "label": job.label, "params": job.params}
        if not job.folder.trial.exists():
            hand_out(job.folder, job.config, **names, cell=job.cell, block=job.block)
        elif job.role == "trial" and (found := read_json(job.folder.trial))["role"] == "reference":
            write_json(job.folder.trial, {**found, **names, "label": found["label"]})

    def _check_canary(self, job: Job, record: TrialRecord) -> None:
        """A reference runs before all others. What is wrong with request, data or code would fail each of them."""
        study = self.study
        is_first = isinstance(study, AblationStudy) and (job.cell, job.block) == (study.reference, 0)
        if not (job.role == "reference" or is_first):
            return
        if record.failure is not None and record.failure["reason"] in UNREPAIRABLE:
            raise ConfigError(
                f"the reference {job.label!r} failed as every trial would ({record.failure['reason']}: "
                f"{record.failure['message']}); see {job.folder.traceback}, then remove {job.folder.path} to run it "
                "again"
            )

    def _place(self, config: RunConfig) -> TrialFolder:
        return self.folder.trial(fingerprint(config))

    def _reconcile(self) -> None:
        """A crash can fall between a result and its event."""
        known = {event["fingerprint"] for event in self._events("trial_ended")}
        for record in load_trials(self.folder):
            if record.state != "running" and record.fingerprint not in known:
                names = {"fingerprint": record.fingerprint, "number": record.number, "role": record.role}
                end = {"state": record.state, "objective": record.objective}
                self.folder.append({"event": "trial_ended", **names, **end})

    def _events(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.folder.events() if event["event"] == kind]

    def _tell(self, event: str, *what: Any) -> None:
        """The summary is current before and after anyone hears of an event: a listener may add to the folder."""
        write_summary(self.folder)
        for listener in self.listeners:
            getattr(listener, event)(*what)
        if event in ("trial_ended", "study_ended"):
            write_summary(self.folder)


def _names(job: Job) -> dict[str, Any]:
    return {"fingerprint": job.fingerprint, "number": job.number, "role": job.role}


def _source(study: Study, base: Tree, folder: StudyFolder) -> Source:
    if isinstance(study, AblationStudy):
        return Cells(study, base, folder)
    assert isinstance(study, SearchStudy)
    return Search(study, folder, build(base).train.steps)


def _open_all_data(study: Study, base: Tree) -> None:
    """Every data set and split the study can meet, once: errors surface now, and trials find warm caches."""
    seen = set()
    for changes in study.variants():
        config = build(override(base, changes, "study"))
        data = json.dumps([dump(config)["data"], dump(config.split), config.evaluate.part])
        if data not in seen:
            open_data(config)
        seen.add(data)


def _request(study: Study, base: Tree, folder: StudyFolder) -> dict[str, Any]:
    """The content of `study.yaml`. An address of a tracking server may hold a password: it is left out."""
    return {
        "study": folder.name,
        "kind": study.kind,
        "objectives": [dump(objective) for objective in study.objectives],
        **{key: value for key, value in dump(study).items() if key not in ("objective", "tracking")},
        "run": dump(build(base)),
        **study.plan(base),
    }
