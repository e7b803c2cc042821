"""What several tests of verbs need."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator import cli

NO_PART_OF_A_NAME = str.maketrans(" []", "___")


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """The exit code of a command line in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(command: str) -> int:
        monkeypatch.setattr("sys.argv", shlex.split(command))
        with pytest.raises(SystemExit) as left:
            cli.main()
        return int(left.value.code or 0)

    return call


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables, made once: it takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URI of a folder in a bucket of a real S3 server."""
    from tests.s3 import s3_server

    with s3_server() as uri:
        yield uri


@pytest.fixture
def studies(server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URI of a folder for studies that nobody else uses."""
    from tests.s3 import another_process

    yield f"{server}/{request.node.name.translate(NO_PART_OF_A_NAME)}"
    another_process()
