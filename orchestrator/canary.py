"""When a study stops because of how its runs fail: before a mistake has cost all of them.

A reference is handed out first, and no run waits for its end: with k places k - 1 others begin beside it. So a mistake
costs every place the time until the reference has met it, and spares what would begin later. Holding the others back
would leave their places empty for the length of a run in every study, also where there is no mistake.
"""

from __future__ import annotations

from collections.abc import Iterable

from guidedmix_core import ConfigError
from orchestrator.failures import CURES, UNREPAIRABLE, kind
from orchestrator.folder import StudyFolder
from orchestrator.results import ENDED, TrialRecord


def check_canary(folder: StudyFolder, record: TrialRecord) -> None:
    """Of a reference, which begins first. What is wrong with request, data or code would fail all others, too."""
    if record.failure is not None and record.failure["reason"] in UNREPAIRABLE:
        raise ConfigError(
            f"the reference {record.label!r} failed as every trial would ({_said(record)}); see "
            f"{folder.trial(record.fingerprint).traceback} and correct it; "
            "then the same command goes on with --retry-failed"
        )


def check_first(folder: StudyFolder, records: Iterable[TrialRecord], most: int) -> None:
    """As long as every run that has ended failed in one and the same way, only so many are made."""
    ended = [record for record in records if record.state in ENDED]
    kinds = {None if record.failure is None else kind(record.failure) for record in ended}
    if len(ended) < most or len(kinds) > 1 or None in kinds:
        return
    last = max(ended, key=lambda record: record.ended or "")
    assert last.failure is not None
    cure = CURES.get(last.failure["reason"], "correct it")
    raise ConfigError(
        f"the first {len(ended)} runs of the study all failed alike ({_said(last)}); see "
        f"{folder.trial(last.fingerprint).traceback}; {cure}; then the same command goes on, and with "
        "--retry-failed it makes what failed again"
    )


def _said(record: TrialRecord) -> str:
    assert record.failure is not None
    first, *_ = record.failure["message"].splitlines()  # the traceback has the rest
    return f"{record.failure['reason']}: {first}"
