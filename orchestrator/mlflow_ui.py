"""MLflow's UI on one study: a server on the study's local store, in the foreground."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import IO

from guidedmix_core import ConfigError
from orchestrator.folder import StudyFolder, read_json
from orchestrator.mlflow_mirror import Mirror
from orchestrator.mlflow_store import LOCAL, VIEW, located
from orchestrator.provenance import quiet_dependencies
from orchestrator.storage import home, stay_here

HOST = "127.0.0.1"


def start_ui(folder: StudyFolder, port: int) -> None:
    """Print the address of the study's runs, and serve until interrupted. ConfigError if there is nothing to serve.

    A study on a tracking server needs no server here: its address is all. One in an object store has no database of its
    own: it is made here, and goes with this process.
    """
    if home(folder.path) is not None and not (folder.path / "mlflow.json").exists():
        stay_here(folder.path)
        Mirror(LOCAL, folder).sync()
    uri, experiment = _store(folder)
    if re.match("https?:", uri):
        print(f"This study is on a server: {_address(uri.rstrip('/'), experiment)}", flush=True)
        return
    _check_port(port)
    quiet_dependencies()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the server must not outlive this process
    with tempfile.TemporaryFile() as output:
        server = _start(uri, folder, port, output)
        try:
            _wait_until_ready(server, port, output)
            print(f"MLflow: {_address(f'http://{HOST}:{port}', experiment)}   (Ctrl-C ends it)", flush=True)
            server.wait()
        except KeyboardInterrupt:
            pass
        finally:
            server.terminate()
            server.wait()


def _start(uri: str, folder: StudyFolder, port: int, output: IO[bytes]) -> subprocess.Popen[bytes]:
    """One worker instead of four, and no runner of jobs that judge language models: 0.5 GB instead of 2."""
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", HOST, "--port", str(port)]
    artifacts = ["--default-artifact-root", folder.mlflow_artifacts.resolve().as_uri(), "--workers", "1"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return subprocess.Popen([*command, *artifacts], env=environment, stdout=output, stderr=output)


def _store(folder: StudyFolder) -> tuple[str, str]:
    """Where the study is tracked, and its experiment there."""
    file = folder.path / "mlflow.json"
    known = read_json(file) if file.exists() else {}
    if "experiment_id" not in known:
        folder.request()
        raise ConfigError(f"{folder.place}: not tracked by MLflow; run the study again with tracking.mlflow set")
    uri = located(known["uri"], folder)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise ConfigError(f"{uri}: no such database; running the study again makes it anew")
    return uri, known["experiment_id"]


def _address(server: str, experiment: str) -> str:
    return f"{server}/#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigError(f"--port={port}: {error.strerror}; choose another one: --port {port + 1}") from None


def _wait_until_ready(server: subprocess.Popen[bytes], port: int, output: IO[bytes]) -> None:
    """The server needs several seconds before it answers."""
    while server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=1):
                return
        except OSError:
            time.sleep(0.2)
    output.seek(0)
    last = output.read().decode(errors="replace").strip().rpartition("\n")[2]
    raise ConfigError(f"MLflow's server ended with code {server.returncode}: {last}")
