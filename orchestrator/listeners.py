"""Who wants to know how a study goes: the terminal, the tracker. The driver calls, once the record is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guidedmix_core import StageReport
    from orchestrator.folder import StudyFolder
    from orchestrator.results import TrialRecord
    from orchestrator.study import Study


class Listener:
    """The contract. A listener writes nothing to the folder but its own files; by default it does nothing."""

    def study_started(self, study: Study, folder: StudyFolder) -> None:
        """Also when an interrupted study goes on."""

    def trial_started(self, record: TrialRecord) -> None:
        """Also when an interrupted trial goes on."""

    def trial_staged(self, record: TrialRecord, stage: StageReport) -> None:
        """Where the trial stands with a stage that comes before it. Not told of trials that run in other processes."""

    def trial_reported(self, record: TrialRecord, metrics: Mapping[str, float]) -> None:
        """After every evaluation: its step and metrics. After a crash the last one may come once more."""

    def trial_ended(self, record: TrialRecord) -> None:
        """Complete, stopped or failed: `record.state`."""

    def trial_reused(self, record: TrialRecord) -> None:
        """It was found finished in another study, and taken over: nothing is trained."""

    def study_ended(self) -> None:
        """Also when the study is interrupted; then the journal's last event is not `study_ended`."""
