"""A clock that is set back or forth while a study runs: what is counted, ordered and measured does not follow it."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator import folder as module
from orchestrator.doctor import examine
from orchestrator.executors.inline import run
from orchestrator.folder import StudyFolder, read_json, read_lines
from orchestrator.report import write_page
from orchestrator.results import load_trials
from orchestrator.tracking import MlflowWindow
from tests.orchestrator.final import outcome
from tests.orchestrator.test_cells import study_of
from tests.orchestrator.test_doctor import PLAN
from tests.runs import small_tree

# MLflow's own use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")


def jumping(hours: float, after: int) -> type:
    """The clock that every record reads: after so many looks it is set by hours, and after as many again back."""

    class Clock(datetime):
        looks = 0

        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            Clock.looks += 1
            return datetime.now(tz) + timedelta(hours=hours) * (Clock.looks // after % 2)

    return Clock


def go(folder: StudyFolder) -> StudyFolder:
    window = MlflowWindow("sqlite:///{study}/mlflow.db", folder)
    run(study_of(**PLAN), small_tree(), folder, [window], "cpu")
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return go(StudyFolder(tmp_path_factory.mktemp("whole") / "demo"))


@pytest.mark.parametrize("hours", [-1, 1])
@pytest.mark.parametrize("after", [3, 7])
def test_a_clock_that_jumps_changes_no_number(
    whole: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: float, after: int
) -> None:
    monkeypatch.setattr(module, "datetime", jumping(hours, after))
    folder = go(StudyFolder(tmp_path / "demo"))
    times = [event["time"] for event in folder.events()]
    assert times != sorted(times)
    assert outcome(folder) == outcome(whole)
    assert all(0 < record.seconds < 600 for record in load_trials(folder))
    assert all([row["step"] for row in read_lines(trial.metrics)] == [2, 4] for trial in folder.trials())
    assert examine(folder) == []
    before = read_json(folder.summary)
    go(folder)  # nothing is made again
    assert read_json(folder.summary) == before
    write_page(folder)
