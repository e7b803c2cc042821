"""What is wrong with a study in an object store is found and mended there; a real S3 server, the real client."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from guidedmix_core import ConfigError
from orchestrator import lease
from orchestrator.doctor import examine, mend
from orchestrator.folder import StudyFolder
from orchestrator.object_store import PART
from orchestrator.storage import publish
from tests.orchestrator.test_doctor import (
    OF_A_WHOLE_STUDY,
    copied,
    everything_in,
    go,
    problems,
    rewrite_lines,
)
from tests.s3 import another_process, bucket, objects

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of botocore


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """Two runs behind one stage, both complete, in a folder. Not to be written to."""
    go(folder := StudyFolder(tmp_path_factory.mktemp("whole") / "demo"))
    return folder


def upload(place: Path, studies: str) -> None:
    """As a process that had made all of it would have."""
    target = StudyFolder(f"{studies}/demo").path.parent
    shutil.copytree(place, target, dirs_exist_ok=True)
    publish(target)
    another_process()


AT_ONCE = (
    "a file to leave",
    "a damaged line of a curve",
    "half a checkpoint",
    "half of the counts",
    "half of the costs",
    "half a stage",
    "a copied run",
    "an event in the middle",
)


def test_what_is_wrong_with_a_study_in_a_store_is_found_and_mended_there(
    whole: StudyFolder, tmp_path: Path, studies: str
) -> None:
    here = copied(whole, tmp_path)
    for damage, _ in (OF_A_WHOLE_STUDY[name] for name in AT_ONCE):
        damage(here)
    before = everything_in(here.path.parent)
    upload(here.path.parent, studies)
    assert problems(examine(StudyFolder(f"{studies}/demo"))) != []
    another_process()
    repaired, _ = mend(StudyFolder(f"{studies}/demo"))
    found = [f"{finding.place.name}: {finding.problem}" for finding in repaired]
    for _, said in (OF_A_WHOLE_STUDY[name] for name in AT_ONCE):
        assert any(said in problem for problem in found), (said, found)
    another_process()
    folder = StudyFolder(f"{studies}/demo")
    assert problems(examine(folder)) == []
    assert before <= everything_in(folder.path.parent)


def test_a_long_journal_in_a_store_is_written_again_whole(whole: StudyFolder, tmp_path: Path, studies: str) -> None:
    here = copied(whole, tmp_path)
    started = [json.dumps({**event, "why": "x" * PART}) for event in here.events() if event["event"] == "study_started"]
    rewrite_lines(here.journal, lambda lines: [*lines, "{", *started])
    upload(here.path.parent, studies)
    assert len([name for name in objects(studies) if name.startswith("demo/journal.jsonl/")]) > 1
    bucket().rm_file(f"{studies}/demo/journal.jsonl/000000")
    mend(StudyFolder(f"{studies}/demo"))
    another_process()
    folder = StudyFolder(f"{studies}/demo")
    assert problems(examine(folder)) == []
    assert len([name for name in objects(studies) if name.startswith("demo/journal.jsonl/")]) == 1


def test_a_study_in_a_store_that_is_being_run_is_not_mended(
    whole: StudyFolder, studies: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.2)
    upload(whole.path.parent, studies)
    with StudyFolder(f"{studies}/demo").running():
        another_process()
        with pytest.raises(ConfigError, match="is being run by process"):
            mend(StudyFolder(f"{studies}/demo"))
