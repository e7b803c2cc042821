"""Where a number comes from, and that nobody is told."""

from __future__ import annotations

import importlib
import os
import subprocess
from pathlib import Path

import pytest

from orchestrator import provenance
from orchestrator.provenance import SILENCE, environment, git_state, quiet_dependencies


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=n@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One committed file."""
    git(tmp_path, "init")
    (tmp_path / "code.py").write_text("a = 1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-m", "first")
    return tmp_path


def test_an_environment_names_code_machine_and_packages() -> None:
    found = environment("cpu", data="abc")
    assert found["packages"]["torch"] == importlib.metadata.version("torch")
    assert found["device"].startswith("cpu")
    assert found["data"] == "abc"
    assert {"time", "host", "python", "torch", "git", "command"} <= found.keys()


def test_a_password_on_the_command_line_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["guidedmix", "tracking.mlflow=https://me:secret@example.org/x"])
    assert environment("cpu")["command"] == ["guidedmix", "tracking.mlflow=https://***@example.org/x"]


def test_a_clean_repository_has_a_commit_and_no_difference(repository: Path) -> None:
    state = git_state(repository / "code.py")
    assert state is not None
    assert len(state["sha"]) == 40
    assert (state["dirty"], state["diff"]) == (False, None)


def test_a_changed_file_changes_the_difference(repository: Path) -> None:
    (repository / "code.py").write_text("a = 2\n")
    first = git_state(repository / "code.py")
    (repository / "code.py").write_text("a = 3\n")
    second = git_state(repository / "code.py")
    assert first is not None and second is not None
    assert first["dirty"] and second["dirty"]
    assert first["diff"] != second["diff"]


def test_a_new_module_is_a_difference_and_a_data_file_is_none(repository: Path) -> None:
    (repository / "image.png").write_bytes(b"data")
    with_data = git_state(repository / "code.py")
    (repository / "method.py").write_text("b = 1\n")
    with_module = git_state(repository / "code.py")
    assert with_data is not None and with_module is not None
    assert not with_data["dirty"]
    assert with_module["dirty"]


def test_a_link_to_nowhere_is_no_obstacle(repository: Path) -> None:
    (repository / ".#code.py").symlink_to("me@host.123:456")
    state = git_state(repository / "code.py")
    assert state is not None
    assert not state["dirty"]


def test_code_outside_a_repository_has_no_commit(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("a = 1\n")
    assert git_state(tmp_path / "code.py") is None


def test_code_that_the_repository_does_not_track_has_no_commit(repository: Path) -> None:
    (repository / "installed.py").write_text("a = 1\n")
    assert git_state(repository / "installed.py") is None


def test_a_machine_without_git_has_no_commit(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert git_state(repository / "code.py") is None


def test_every_dependency_is_told_to_be_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SILENCE:
        monkeypatch.delenv(name, raising=False)
    quiet_dependencies()
    assert {name: os.environ[name] for name in SILENCE} == SILENCE


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    quiet_dependencies()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "1"


def test_the_names_are_those_the_dependencies_read() -> None:
    root = Path(importlib.util.find_spec("mlflow").origin).parent.parent  # type: ignore[union-attr,arg-type]
    readers = {
        "RAY_USAGE_STATS_ENABLED": "ray/_common/usage/usage_constants.py",
        "MLFLOW_DISABLE_TELEMETRY": "mlflow/environment_variables.py",
        "HF_HUB_DISABLE_TELEMETRY": "huggingface_hub/constants.py",
        "DO_NOT_TRACK": "mlflow/telemetry/utils.py",
    }
    assert readers.keys() == SILENCE.keys()
    assert all(name in (root / reader).read_text() for name, reader in readers.items())


def test_packages_are_listed_once_a_process() -> None:
    assert provenance.packages() is provenance.packages()
