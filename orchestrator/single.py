"""One run as a study of its own: the same folder, records, tracking and report as a search has."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from guidedmix_core import ConfigError, RunConfig, StageReport, dump, fingerprint, open_data
from orchestrator.attempts import retry
from orchestrator.folder import StudyFolder, write_json
from orchestrator.listeners import Listener
from orchestrator.preemption import on_sigterm
from orchestrator.provenance import environment
from orchestrator.results import TrialRecord, load_trial
from orchestrator.storage import ask_for, remove
from orchestrator.study import Objective
from orchestrator.summary import write_summary
from orchestrator.trial import Progress, hand_out, run_trial


def train_one(
    config: RunConfig,
    base: str,
    folder: StudyFolder,
    listeners: Sequence[Listener],
    progress: Progress,
    device: str,
    *,
    retry_failed: bool = False,
) -> TrialRecord:
    """The run's record. It goes on where it was interrupted; a finished one is not repeated, a failed one on request.

    ConfigError if the request is wrong, also where only the run itself can find out: then it leaves no record.
    """
    open_data(config)
    objective = Objective()
    request = {
        "study": folder.name,
        "kind": "train",
        "planned": 1,
        "objectives": [dump(objective)],
        "base": base,
        "run": dump(config),
    }
    trial = folder.trial(fingerprint(config))
    with folder.running():
        folder.claim(request, trial.fingerprint)
        write_json(folder.provenance, environment(code=folder.code))
        hand_out(trial, config, label=base.rpartition("/")[2])
        if retry_failed and (failure := load_trial(trial).failure) is not None:
            retry(trial, failure["reason"])
        _tell(folder, listeners, "study_started", None, folder)
        _tell(folder, listeners, "trial_started", load_trial(trial))

        def on_report(step: int, metrics: dict[str, float]) -> bool:
            _tell(folder, listeners, "trial_reported", load_trial(trial), {"step": step, **metrics})
            return False

        def on_stage(stage: StageReport) -> None:
            _tell(folder, listeners, "trial_staged", load_trial(trial), stage)

        remove(trial.leave)
        told = {"on_report": on_report, "on_stage": on_stage, "progress": progress}
        try:
            with on_sigterm(partial(ask_for, trial.leave)):
                record = run_trial(config, trial, objective, **told, device=device)
            _tell(folder, listeners, "trial_ended", record)
        finally:
            _tell(folder, listeners, "study_ended")
        if record.failure and record.failure["reason"] in ("request", "data"):
            remove(trial.result)
            raise ConfigError(record.failure["message"])
    return record


def _tell(folder: StudyFolder, listeners: Sequence[Listener], event: str, *what: object) -> None:
    write_summary(folder)
    for listener in listeners:
        getattr(listener, event)(*what)
