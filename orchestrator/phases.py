"""What a study does one after another. Each phase begins when all runs of the one before it have ended."""

from __future__ import annotations

from collections.abc import Iterator

from guidedmix_core import Tree, build, override
from orchestrator.ablation import AblationStudy
from orchestrator.cells import Cells
from orchestrator.confirmation import begin_confirmation
from orchestrator.folder import StudyFolder
from orchestrator.proposals import Source
from orchestrator.results import Role
from orchestrator.search import Search
from orchestrator.study import SearchStudy, Study


def phases(study: Study, base: Tree, folder: StudyFolder) -> Iterator[tuple[Role, Source]]:
    """The role of the runs, and who proposes them: the cells of an ablation; or a search, that of each reference with
    parameters of its own, and fresh runs of what they found."""
    if isinstance(study, AblationStudy):
        yield "trial", Cells(study, base, folder)
        return
    assert isinstance(study, SearchStudy)
    yield "trial", Search(study, folder, build(base).train.steps)
    for label in study.reference_parameters:
        run = build(override(base, study.references[label], f"references.{label}"))
        yield "tuning", Search(study, folder, run.train.steps, label)
    if (fresh := begin_confirmation(study, base, folder)) is not None:
        yield "confirm", Cells(fresh, base, folder)
