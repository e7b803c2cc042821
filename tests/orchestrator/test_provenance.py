"""Where a number comes from, and that nobody is told."""

from __future__ import annotations

import importlib
import os
import subprocess
from functools import partial
from pathlib import Path

import pytest

from orchestrator import provenance
from orchestrator.folder import StudyFolder, read_json
from orchestrator.provenance import SILENCE, environment, git_state, keep_changes, quiet_dependencies
from tests.orchestrator.test_cells import made
from tests.orchestrator.test_reuse import CELLS
from tests.s3 import objects

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of botocore


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=n@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def patch_of(repository: Path) -> Path:
    """What is kept of the repository as it is now."""
    place, source = repository.parent / "code", repository / "code.py"
    state = git_state(source)
    assert state is not None
    keep_changes(place, state, source)
    return place / f"{state['diff']}.patch"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One committed file."""
    (path := tmp_path / "repository").mkdir()
    git(path, "init")
    (path / "code.py").write_text("a = 1\n")
    git(path, "add", "code.py")
    git(path, "commit", "-m", "first")
    return path


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


def test_the_code_as_it_ran_is_its_commit_and_the_patch(repository: Path, tmp_path: Path) -> None:
    (repository / "gone.py").write_text("b = 1\n")
    git(repository, "add", "gone.py")
    git(repository, "commit", "-m", "second")
    (repository / "gone.py").unlink()
    (repository / "code.py").write_text("a = 2\n")
    new = {"empty.py": b"", "a b.py": b"x = 1\n\ny = 2\n", "sub/\u00fc.py": b"x = '\x0c\r\n'\ny = 2"}
    (repository / "sub").mkdir()
    for name, content in new.items():
        (repository / name).write_bytes(content)
    git(tmp_path, "clone", str(repository), "clone")
    git(tmp_path / "clone", "apply", str(patch_of(repository)))
    there = {str(path.relative_to(tmp_path / "clone")): path for path in (tmp_path / "clone").rglob("*.py")}
    assert {name: path.read_bytes() for name, path in there.items()} == {"code.py": b"a = 2\n", **new}


def test_a_password_in_a_changed_yaml_is_not_kept(repository: Path) -> None:
    (repository / "code.py").write_text("a = 2\n")
    (repository / "study.yaml").write_text("notify: {command: curl https://me:hush@example.org}\n")
    kept = patch_of(repository).read_text()
    assert "+a = 2" in kept
    assert "hush" not in kept


def test_of_a_large_change_its_size_is_kept(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "MOST_KEPT", 1000)
    (repository / "code.py").write_text("a = 2\n" * 1000)
    kept = patch_of(repository).read_text()
    assert "Left out: 7,113 bytes, more than 1,000." in kept
    assert "+a" not in kept


def test_of_code_as_committed_nothing_is_kept(repository: Path) -> None:
    (repository / "study.yaml").write_text("base: shapes\n")
    assert not patch_of(repository).exists()
    (repository / "study.yaml").unlink()
    assert not patch_of(repository).exists()


def test_what_is_kept_of_a_change_is_written_once(repository: Path) -> None:
    (repository / "code.py").write_text("a = 2\n")
    patch = patch_of(repository)
    before = patch.stat().st_ino
    assert patch_of(repository).stat().st_ino == before


def test_a_git_that_has_gone_fails_no_run(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    keep_changes(tmp_path / "kept", {"sha": "0" * 40, "dirty": True, "diff": "abc"}, repository / "code.py")
    assert not (tmp_path / "kept").exists()


@pytest.fixture
def changed(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that runs come from, with a change that is not committed."""
    source = repository / "code.py"
    source.write_text("a = 2\n")
    monkeypatch.setattr(provenance, "git_state", partial(git_state, source))
    monkeypatch.setattr(provenance, "keep_changes", partial(keep_changes, source=source))
    return repository


def test_a_study_has_the_changes_that_its_runs_were_made_with_those_of_other_studies_too(
    changed: Path, tmp_path: Path
) -> None:
    first, second = StudyFolder(tmp_path / "studies" / "first"), StudyFolder(tmp_path / "studies" / "second")
    made(first, **CELLS)
    digest = read_json(first.provenance)["git"]["diff"]
    assert [path.name for path in first.code.iterdir()] == [f"{digest}.patch"]
    git(changed, "commit", "-am", "second")
    made(second, **CELLS)
    assert read_json(second.provenance)["git"]["dirty"] is False
    assert (second.code / f"{digest}.patch").read_text() == (first.code / f"{digest}.patch").read_text()


def test_changes_are_in_the_store_too(changed: Path, studies: str) -> None:
    found = environment("cpu", code=StudyFolder(f"{studies}/mine").code)
    assert b"+a = 2" in objects(studies)[f"mine/code/{found['git']['diff']}.patch"]


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
