"""A command that is told what happens: real processes, and a study that nothing of them reaches."""

from __future__ import annotations

import json
import logging
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from guidedmix_core import ConfigError, Tree, build
from orchestrator import notifications
from orchestrator.executors.inline import run
from orchestrator.folder import StudyFolder, read_lines
from orchestrator.listeners import Listener
from orchestrator.notifications import notifier
from orchestrator.provenance import environment
from orchestrator.resources import Notify
from orchestrator.results import TrialRecord
from orchestrator.study import SearchStudy, Study, identity
from tests.runs import small_tree

EVENTS = ["study_started", "trial_ended", "trial_failed", "study_ended"]


def search(command: str | None = None, **notify: Any) -> SearchStudy:
    """One run that learns, and one that diverges. The command is a shell's line."""
    notify |= {} if command is None else {"command": ["sh", "-c", command]}
    points = [{"optim.lr": 0.01}, {"optim.lr": 1e30}]
    request = {"base": "small", "parameters": {"optim.lr": {"log": [1e-9, 1e32]}}, "scheduler": {"name": "none"}}
    made = {"search": {"sampler": "random", "trials": 2, "start_from": points}, "notify": notify or None}
    return build(Tree({**request, **made}, {}), SearchStudy)


def make(study: SearchStudy, path: Path, *others: Listener) -> StudyFolder:
    folder = StudyFolder(path)
    run(study, small_tree(), folder, [*notifier(study.notify, folder), *others], "cpu")
    return folder


def test_the_command_is_told_of_what_it_asked_for_in_order(tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    study = search(command=f"cat >> {shlex.quote(str(heard))}; echo >> {shlex.quote(str(heard))}", on=EVENTS)
    make(study, tmp_path / "mine")
    told = read_lines(heard)
    assert [event["event"] for event in told] == [
        "study_started",
        "trial_ended",
        "trial_ended",
        "trial_failed",
        "study_ended",
    ]
    assert (told[1]["trial"], told[1]["state"], told[1]["metric"]) == ("trial 0", "complete", "val/miou")
    assert told[3]["failure"]["reason"] == "diverged"
    assert (told[4]["state"], told[4]["complete"], told[4]["failed"]) == ("complete", 1, 1)
    assert told[4]["best"]["trial"] == "trial 0"


def test_a_message_for_people_is_in_the_environment(tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    make(search(command=f'echo "$GUIDEDMIX_EVENT: $GUIDEDMIX_MESSAGE" >> {heard}'), tmp_path / "mine")
    failed, ended = heard.read_text().splitlines()
    assert failed.startswith("trial_failed: mine: trial 1 failed: diverged: ")
    assert ended.startswith("study_ended: mine: complete: 1 complete, 1 failed, best trial 0: ")


class Refuses(Listener):
    def study_started(self, study: Study, folder: StudyFolder) -> None:
        raise ConfigError("no server answers")


def test_a_study_that_another_listener_refuses_ends_with_its_word_and_nobody_is_told(tmp_path: Path) -> None:
    heard, folder = tmp_path / "heard", StudyFolder(tmp_path / "mine")
    study = search(command=f"cat > {heard}", on=EVENTS)
    with pytest.raises(ConfigError, match="no server answers"):
        run(study, small_tree(), folder, [Refuses(), *notifier(study.notify, folder)], "cpu")
    assert not heard.exists()


class Interrupts(Listener):
    def trial_ended(self, record: TrialRecord) -> None:
        raise KeyboardInterrupt


def test_an_interrupted_study_says_so(tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    with pytest.raises(KeyboardInterrupt):
        make(search(command=f"cat > {heard}"), tmp_path / "mine", Interrupts())
    assert json.loads(heard.read_text())["state"] == "interrupted"


@pytest.mark.parametrize(
    ("command", "problem"), [("exit 3; : hush", "ended with code 3"), ("sleep 60; : hush", "took longer than 0.2 s")]
)
def test_a_command_that_fails_is_a_warning_without_a_word_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, command: str, problem: str
) -> None:
    monkeypatch.setattr(notifications, "LIMIT", 0.2)
    with caplog.at_level(logging.WARNING):
        folder = make(search(command=command, on=EVENTS), tmp_path / "mine")
    told = [message for message in caplog.messages if message.startswith("notify:")]
    assert (len(told), problem in told[0]) == (3, True)
    assert told[-1].endswith("it is called no more")
    assert folder.events()[-1]["event"] == "study_ended"
    assert "hush" not in caplog.text
    assert not [file for file in folder.path.rglob("*") if file.is_file() and b"hush" in file.read_bytes()]


def test_who_is_told_is_no_part_of_the_study() -> None:
    assert identity(search(command="true"), small_tree()) == identity(search(), small_tree())


def test_the_command_is_not_in_the_record_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", ["guidedmix", "notify.command=curl https://chat/hush", 'notify={"command": "hush"}']
    )
    assert environment("cpu")["command"] == ["guidedmix", "notify.command=***", "notify=***"]


def test_an_event_that_there_is_not_is_a_wrong_request() -> None:
    with pytest.raises(ConfigError, match="study_started"):
        search(command="true", on=["everything"])


def test_a_program_that_is_not_there_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    study = search().model_copy(update={"notify": Notify(command=("no-such-program",), on=("study_started",))})
    folder = make(study, tmp_path / "mine")
    assert "notify: the command could not be started (No such file or directory)" in caplog.text
    assert folder.events()[-1]["event"] == "study_ended"


def test_a_line_for_a_shell_is_no_command() -> None:
    with pytest.raises(ConfigError, match=r"notify.command"):
        build(
            Tree({**search().model_dump(mode="json", include={"base"}), "notify": {"command": "a; b"}}, {}), SearchStudy
        )
