"""Where a submitted job begins, on the cluster: it says what it runs with, and refuses what it was not checked for.

`submit` puts into the variable GUIDEDMIX_SUBMITTED which versions the job must find, and the names of the secrets that
it needs. A job that was submitted by hand has no such variable, and is not looked at.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import sys
from collections.abc import Iterable
from importlib.metadata import version

SUBMITTED = "GUIDEDMIX_SUBMITTED"


def versions() -> dict[str, str]:
    """Of what runs here."""
    return {
        "guidedmix": version("guidedmix-orchestrator"),
        "Python": platform.python_version(),
        "Ray": version("ray"),
    }


def expectation(ray: str, python: str, secrets: Iterable[str]) -> dict[str, str]:
    """The variable: this machine's guidedmix, the Ray and Python of the cluster, and names of secrets."""
    wanted = {"guidedmix": versions()["guidedmix"], "Python": python, "Ray": ray}
    return {SUBMITTED: json.dumps({"versions": wanted, "secrets": list(secrets)})}


def check_arrival() -> None:
    """ConfigError if this is a job that was submitted for another environment, or that lacks a secret."""
    if SUBMITTED not in os.environ:
        return
    from guidedmix_core import ConfigError  # not before: `--help` need not wait for torch

    submitted, here = json.loads(os.environ[SUBMITTED]), versions()
    wanted = submitted["versions"]
    print(f"{_words(here)} ({sys.executable}, {socket.gethostname()})", flush=True)
    if here["guidedmix"] != wanted["guidedmix"]:
        raise ConfigError(
            f"this job was checked by guidedmix {wanted['guidedmix']}, and here is {here['guidedmix']}; install the "
            "same on both sides"
        )
    if here != wanted:
        raise ConfigError(
            f"the cluster was started with Python {wanted['Python']} and Ray {wanted['Ray']}, but `guidedmix` belongs "
            f"to Python {here['Python']} with Ray {here['Ray']} ({sys.executable}); start Ray in the environment that "
            "has this project, so that its PATH leads there"
        )
    if missing := [name for name in submitted["secrets"] if not os.environ.get(name)]:
        raise ConfigError(
            f"{', '.join(missing)}: not set where this job runs; set the variable before Ray starts there "
            "(the cluster's `secrets` are names, their values are never sent)"
        )


def _words(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in found.items())
