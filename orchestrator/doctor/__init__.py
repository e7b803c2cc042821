"""What is inconsistent in a study's folder, its stages and its MLflow, and how each of it is mended.

A check is a generator of findings that writes nothing. A repair deletes nothing that a run has made: it moves it to
`aside/`, under the path it had, or into the run's `attempts/`. Optuna's file is no matter: each start makes it anew.
Of a study in an object store all is fetched, checkpoints too: the store says of none whether it is whole.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.costs import PROBES
from orchestrator.doctor import journal, study_files, trials, window
from orchestrator.doctor import stages as shared
from orchestrator.doctor.finding import Finding, Level
from orchestrator.folder import StudyFolder
from orchestrator.storage import names_beside, publish, refresh

__all__ = ["Finding", "Level", "examine", "mend"]

ROUNDS = 6
"""What is repaired may show what could not be seen before: a run whose end is set aside has a journal that is wrong."""


def examine(folder: StudyFolder) -> list[Finding]:
    """What is found now. What needs readable records is looked at only when all can be read. ConfigError if the folder
    is no study."""
    _fetch(folder)
    return [*_findings(folder)]


def mend(folder: StudyFolder) -> tuple[list[Finding], list[Finding]]:
    """What was repaired, and what is found after that. ConfigError if somebody runs the study."""
    repaired: list[Finding] = []
    with folder.running():
        _fetch(folder)
        for _ in range(ROUNDS):
            found = [*_findings(folder)]
            curable = [finding for finding in found if finding.repair is not None]
            if not curable:
                return repaired, found
            for repair in dict.fromkeys(finding.repair for finding in curable):
                assert repair is not None
                repair()
            publish(folder.path)
            repaired += curable
        return repaired, [*_findings(folder)]


def _fetch(folder: StudyFolder) -> None:
    """Of a study in an object store: all of it, the stages, and what the studies beside say of theirs."""
    refresh(folder.path, without=())
    above = folder.path.parent
    refresh(folder.stages, without=())
    refresh(above / PROBES)
    for name in names_beside(folder.path):
        refresh(above / name / "trials", without=shared.NOT_OF_STAGES)


def _findings(folder: StudyFolder) -> Iterator[Finding]:
    if request := [*study_files.request(folder)]:
        yield from request
        return
    checks = (journal.lines, study_files.files, trials.trials, shared.stages)
    found = [finding for check in checks for finding in check(folder)]
    yield from found
    if all(finding.level != "blocks" for finding in found):
        for check in (journal.against_runs, study_files.summary, window.mlflow):
            yield from check(folder)
