"""A real MLflow server on the loopback, which can be killed and started again, and a real PostgreSQL below it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

import pytest

HOST = "127.0.0.1"


class MlflowServer:
    """Its database and artifacts outlive it."""

    def __init__(self, folder: Path, database: str | None = None) -> None:
        self.folder, self.port = folder, free_port()
        self.database = database or f"sqlite:///{folder}/server.db"
        self.uri = f"http://{HOST}:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(self.port)]
        store = ["--backend-store-uri", self.database, "--artifacts-destination", str(self.folder / "served")]
        calm = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.log = (self.folder / "server.log").open("ab")
        self.process = subprocess.Popen(
            [*command, *store, "--workers", "1"],
            env={**os.environ, **calm},
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "server.log").read_text()[-2000:])
            time.sleep(0.2)

    def kill(self) -> None:
        """With all its processes, in the middle of whatever they do."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                return True
        except OSError:
            return False


@contextmanager
def mlflow_server(folder: Path, database: str | None = None) -> Iterator[MlflowServer]:
    server = MlflowServer(folder, database)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """The URI of an empty database of a server of our own. Skips where PostgreSQL or its driver is not installed."""
    pytest.importorskip("psycopg", reason="needs psycopg[binary]")
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [Path(shutil.which("initdb") or "").parent]
    if not (programs[-1] / "initdb").exists():
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # PostgreSQL refuses to run as root
    place, port = folder / "postgres", free_port()
    place.mkdir()
    if as_user:
        shutil.chown(place, "postgres")
        for above in takewhile(lambda path: path != Path(tempfile.gettempdir()), (folder, *folder.parents)):
            above.chmod(0o755)

    def call(program: str, *words: str) -> None:
        command = [*as_user, str(programs[-1] / program), *words]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)

    call("initdb", "-D", str(place / "data"), "-A", "trust", "-U", "tester")
    options = f"-p {port} -c listen_addresses={HOST} -c unix_socket_directories={place} -c fsync=off"
    call("pg_ctl", "-D", str(place / "data"), "-o", options, "-l", str(place / "log"), "-w", "start")
    try:
        yield f"postgresql://tester@{HOST}:{port}/postgres"
    finally:
        call("pg_ctl", "-D", str(place / "data"), "-m", "immediate", "-w", "stop")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]
