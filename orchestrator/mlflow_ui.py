"""MLflow's UI on one study: the server of a local store in the foreground, or the address of the one that runs elsewhere."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.error import URLError

from guidedmix_core import ConfigError
from orchestrator.folder import StudyFolder, read_json
from orchestrator.provenance import quiet_dependencies

HOST = "127.0.0.1"


def start_ui(study: Path, port: int) -> None:
    """Serve until interrupted, and print the address of the study's runs. ConfigError if there is nothing to serve, or no port."""
    folder = StudyFolder(study)
    store = folder.path / "mlflow.json"
    if not store.exists():
        folder.request()
        raise ConfigError(f"{store}: missing: the study was not tracked; run it again with tracking.mlflow set")
    known = read_json(store)
    uri, experiment = known["uri"], known["experiment_id"]
    if re.match("https?:", uri):
        print(f"The server runs already: {_address(uri.rstrip('/'), experiment)}")
        return
    if not uri.startswith("sqlite:"):
        raise ConfigError(f"{store}: {uri} may need a password: run mlflow ui --backend-store-uri yourself")
