"""What to run next, and what is written about it: the one logic behind every executor.

An executor is a loop around a `Driver`; it only decides where a job runs, and how many at once:

    with driving(study, base, folder, listeners) as driver:
        while (job := driver.next()) is not None:
            driver.started(job)
            on = {"on_report": partial(driver.reported, job), "on_stage": partial(driver.staged, job)}
            policy = {"device": device, "failures": study.failures}
            driver.ended(job, run_trial(job.config, job.folder, driver.objective, **on, **policy))

All calls come from one thread of one process, which holds the study's lock. With several jobs at once, `next` is called
whenever there is room; None then means that nothing can begin now, and the study is over when no job is out either.
An exception between, from whomever, leaves the folder as a killed process would: the same call goes on with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from guidedmix_core import Preempted, RunConfig, StageReport, Tree, build, dump, fingerprint, open_data, override
from orchestrator import attempts
from orchestrator.ablation import AblationStudy
from orchestrator.canary import check_canary, check_first
from orchestrator.clusters import this_cluster
from orchestrator.comparison import asked_for
from orchestrator.confirmation import with_last_confirmation
from orchestrator.folder import StudyFolder, TrialFolder, read_json, write_json
from orchestrator.journal import unsaid
from orchestrator.listeners import Listener
from orchestrator.phases import phases
from orchestrator.proposals import Job
from orchestrator.provenance import environment
from orchestrator.results import OF_DATA, Role, TrialRecord, load_trial, load_trials
from orchestrator.reuse import find_finished, take_over
from orchestrator.storage import ask_for, refresh, remove
from orchestrator.study import Objective, SearchStudy, Study, identity
from orchestrator.summary import Summary
from orchestrator.trial import hand_out, tidy


@contextmanager
def driving(
    study: Study, base: Tree, folder: StudyFolder, listeners: Sequence[Listener], *, retry_failed: bool = False
) -> Iterator[Driver]:
    """A driver that has checked the whole request, opened its data and claimed the folder. ConfigError if it can't.

    Preempted if it was asked to leave, once nothing is out any more."""
    study.check(base)
    _open_all_data(study, base)
    with folder.running():
        driver = Driver(study, base, folder, listeners)
        driver.claim(retry_failed)
        try:
            driver.begin()
            yield driver
            if driver.is_leaving:
                raise Preempted("the study was asked to leave")
            driver.finish()
        finally:
            driver.close()


class Driver:
    """Keeps proposals, journal, summary and listeners in step. Make it with `driving`."""

    def __init__(self, study: Study, base: Tree, folder: StudyFolder, listeners: Sequence[Listener]) -> None:
        self.study, self.base, self.folder, self.listeners = study, base, folder, tuple(listeners)
        self.out: dict[str, Job] = {}
        """Jobs that were handed out and have not ended, by fingerprint."""
        self._summary = Summary(folder)
        self._twins: dict[str, list[Job]] = {}  # asked for again while their run is out
        self._references = enumerate(study.references.items() if isinstance(study, SearchStudy) else ())
        self._role: Role = "trial"  # of what the present phase hands out
        self._is_over = False
        self.is_leaving = False

    @property
    def objective(self) -> Objective:
        """What trials report to the scheduler, and what is best."""
        return self.study.objectives[0]

    def claim(self, retry_failed: bool = False) -> None:
        """Make the folder this study's, its journal agree with its results, and what to run next follow from both."""
        request = _request(self.study, self.base, self.folder)
        self.folder.claim(with_last_confirmation(self.folder, request), identity(self.study, self.base))
        write_json(self.folder.provenance, {**(here := environment(code=self.folder.code)), "price": _price()})
        events = self.folder.events()
        for event in unsaid(events, load_trials(self.folder)):
            self.folder.append(event)
            if event["event"] == "trial_ended":  # who made the run may have died before it tidied up
                tidy(self.folder.trial(event["fingerprint"]))
        self.folder.append({"event": "study_started", "host": here["host"], "git": here["git"]})
        if retry_failed:
            attempts.retry_failed(self.folder, self.folder.request())
        self._asked = {
            (event["role"], event.get("cell"), event["number"]) for event in events if event["event"] == "asked"
        }
        self._phases = phases(self.study, self.base, self.folder)
        self._begin_phase()

    def begin(self) -> None:
        self._tell("study_started", self.study, self.folder)

    def next(self) -> Job | None:
        """The next run to be made: references first, then what was interrupted, then what search or cells propose. What
        follows a search begins when all of its runs have ended.

        What has an end already is not run again: whoever proposed it is told its record. A run is never out twice.
        """
        if self.is_leaving:
            return None
        for number, (label, changes) in self._references:
            config = build(override(self.base, changes, f"references.{label}"))
            if job := self._hand_out(Job(number, "reference", label, dict(changes), config, self._place(config))):
                return job
        while not self._is_over:
            if (proposal := self.source.ask()) is None:
                if self.out:  # when it has ended, what waits may begin
                    break
                self._begin_phase()
                continue
            number, params, cell, block = proposal.number, proposal.params, proposal.cell, proposal.block
            config = build(override(self.base, params, f"trial {number}"))
            job = Job(number, self._role, proposal.label, params, config, self._place(config), cell, block)
            if job := self._hand_out(job):
                return job
        return None

    def started(self, job: Job) -> None:
        if self.is_leaving:
            ask_for(job.folder.leave)
        self.folder.append({"event": "trial_started", **_names(job)})
        self._tell("trial_started", _so_far(job))

    def staged(self, job: Job, stage: StageReport) -> None:
        self._tell("trial_staged", _so_far(job), stage)

    def reported(self, job: Job, step: int, metrics: Mapping[str, float]) -> bool:
        """After each evaluation, its line written. True: the scheduler asks the run to stop here."""
        stop = job.role != "reference" and self.source.report(job.number, step, metrics[self.objective.metric])
        self._tell("trial_reported", _so_far(job), {"step": step, **metrics})
        return stop

    def ended(self, job: Job, record: TrialRecord) -> None:
        """ConfigError if it is a canary that failed as the other runs would, or if all the first runs failed alike."""
        self.folder.append(
            {"event": "trial_ended", **_names(job), "state": record.state, "objective": record.objective}
        )
        del self.out[job.fingerprint]
        for asked in (job, *self._twins.pop(job.fingerprint, [])):
            if asked.role != "reference":
                self.source.tell(asked.number, record)
        self._tell("trial_ended", record)
        self._check_canary(job, record)
        if record.failure is not None:
            check_first(self.folder, self._summary.records(), self.study.failures.stop_after)

    def leave(self) -> None:
        """Ask every run that is out to save where it is and go. A signal may call it, at any moment."""
        self.is_leaving = True
        for job in [*self.out.values()]:
            ask_for(job.folder.leave)

    def left(self, job: Job) -> None:
        """It has saved where it is. Another start goes on with it."""
        self.folder.append({"event": "trial_left", **_names(job)})
        del self.out[job.fingerprint]

    def finish(self) -> None:
        """The study is over if nothing is left to run. A small space may have had fewer runs than were asked for."""
        if self.out or self.is_leaving or self.next() is not None:
            return
        request = self.folder.request()
        made = asked_for(request, load_trials(self.folder))
        self.folder.claim({**request, "planned": len(made)}, request["identity"])
        self.folder.append({"event": "study_ended"})

    def close(self) -> None:
        """Listeners hear of it even if nothing can be written any more."""
        try:
            self._summary.write()
        finally:
            for listener in self.listeners:
                listener.study_ended()
        self._summary.write()

    def _hand_out(self, job: Job) -> Job | None:
        """None if there is nothing to run: it has ended before, or is out under another name."""
        if (name := (job.role, job.cell, job.number)) not in self._asked:
            asked = {"event": "asked", **_names(job), "label": job.label, "params": job.params}
            self._asked.add(name)
            self.folder.append({**asked, "cell": job.cell, "block": job.block})
        self._name(job)
        if job.fingerprint in self.out:
            self._twins.setdefault(job.fingerprint, []).append(job)
            return None
        if job.folder.result.exists() or self._reuse(job):
            record = load_trial(job.folder)
            self._check_canary(job, record)
            if job.role != "reference":
                self.source.tell(job.number, record)
            self._summary.write()
            return None
        remove(job.folder.leave)
        self.out[job.fingerprint] = job
        return job

    def _reuse(self, job: Job) -> bool:
        """Take over the run if a study beside this one has finished it, and say so. No trial of a search is: what the
        scheduler and the sampler make of it is a part of the search."""
        is_fixed = isinstance(self.study, AblationStudy) or job.role in ("reference", "confirm")
        if not (is_fixed and self.study.reuse):
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
        elif job.role == "trial" and (found := read_json(job.folder.trial))["role"] != "trial":
            kept = found["label"] if found["role"] == "reference" else None
            write_json(job.folder.trial, {**found, **names, "label": kept, "cell": None, "block": None})

    def _check_canary(self, job: Job, record: TrialRecord) -> None:
        study = self.study
        is_first = isinstance(study, AblationStudy) and (job.cell, job.block) == (study.reference, 0)
        if job.role == "reference" or is_first:
            check_canary(self.folder, record)

    def _begin_phase(self) -> None:
        """What has been found so far decides what comes next. The study is over if nothing does."""
        phase = next(self._phases, None)
        if phase is None:
            self._is_over = True
        else:
            self._role, self.source = phase

    def _place(self, config: RunConfig) -> TrialFolder:
        return self.folder.trial(fingerprint(config))

    def _tell(self, event: str, *what: Any) -> None:
        """The summary is current before and after anyone hears of an event: a listener may add to the folder."""
        self._summary.write()
        for listener in self.listeners:
            getattr(listener, event)(*what)
        if event == "trial_ended":
            self._summary.write()


def _so_far(job: Job) -> TrialRecord:
    refresh(job.folder.path)
    return load_trial(job.folder)


def _price() -> dict[str, Any] | None:
    """Of the GPUs that this study uses, as far as it is known."""
    cluster = this_cluster()
    rate = cluster.price_per_gpu_hour
    return None if rate is None else {"per_gpu_hour": rate, "currency": cluster.currency}


def _names(job: Job) -> dict[str, Any]:
    return {"fingerprint": job.fingerprint, "number": job.number, "role": job.role}


def _open_all_data(study: Study, base: Tree) -> None:
    """Every data set and split the study can meet, once: errors surface now, and trials find warm caches."""
    seen = set()
    for changes in study.variants():
        of_data = {path: value for path, value in changes.items() if path.startswith(OF_DATA)}
        if (data := json.dumps(of_data, sort_keys=True)) not in seen:
            open_data(build(override(base, changes, "study")))
        seen.add(data)


def _request(study: Study, base: Tree, folder: StudyFolder) -> dict[str, Any]:
    """The content of `study.yaml`. The address of a tracking server and the command of `notify`
    may hold a password: they are left out."""
    return {
        "study": folder.name,
        "kind": study.kind,
        "objectives": [dump(objective) for objective in study.objectives],
        **{key: value for key, value in dump(study).items() if key not in ("objective", "tracking", "notify")},
        "run": dump(build(base)),
        **study.plan(base),
    }
