"""The study's own files beside its runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from guidedmix_core import ConfigError
from orchestrator.costs import PROBES
from orchestrator.doctor.finding import Finding, aside, json_problem, leftovers, megabytes
from orchestrator.folder import StudyFolder
from orchestrator.storage import bytes_in, shown
from orchestrator.summary import Summary, write_summary


def request(folder: StudyFolder) -> Iterator[Finding]:
    """Whether `study.yaml` can be read: without it nothing else can be judged. ConfigError if there is none."""
    try:
        found = folder.request()
        problem = None if isinstance(found, dict) and "identity" in found else "holds no study"
    except ConfigError as error:
        if not folder.study_yaml.exists():
            raise
        problem = str(error).removeprefix(f"{shown(folder.study_yaml)}: ").partition("\n")[0]
    if problem is not None:
        cure = "restore it from a copy, such as MLflow's; or move it away: the study's own command writes it again"
        yield Finding("blocks", folder.study_yaml, problem, cure)


def files(folder: StudyFolder) -> Iterator[Finding]:
    """Records that each start reads or writes, and what a killed process left."""
    cures = {
        folder.provenance: "set aside: the next start writes it",
        folder.path / "mlflow.json": "set aside: MLflow gets the study as a new one, what it has of it stays",
        folder.path.absolute().parent / PROBES: "set aside: the next `plan --probe` measures again",
    }
    for path, cure in cures.items():
        if (problem := json_problem(path)) is not None:
            yield Finding("blocks", path, problem, cure, aside(folder, path))
    for path in leftovers(folder.path):
        yield Finding(
            "untidy", path, "half a file, of a process that was killed while it wrote", "removed", path.unlink
        )
    if (scratch := folder.path / ".ray").exists():
        problem = f"what Ray needs while a study runs, {megabytes(bytes_in(scratch))}"
        yield Finding("untidy", scratch, problem, "removed", lambda: shutil.rmtree(scratch))


def summary(folder: StudyFolder) -> Iterator[Finding]:
    """Whether it says what the records say, which can be read."""
    problem = json_problem(folder.summary)
    if problem is None and not folder.summary.exists():
        problem = "is missing"
    if problem is None and folder.summary.read_text(encoding="utf-8") != Summary(folder).text():
        problem = "does not say what the runs' records say"
    if problem is not None:
        yield Finding("untidy", folder.summary, problem, "written again", lambda: write_summary(folder))
