"""Jobs on a Ray cluster, through the Jobs API of its dashboard: hand in, find, read, stop."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from guidedmix_core import ConfigError, nearest
from orchestrator.arrival import versions
from orchestrator.clusters import Cluster
from orchestrator.clusters.ray_job import RayJob
from orchestrator.package import EXCLUDES
from orchestrator.provenance import quiet_dependencies
from orchestrator.submission import Head, Submission

OVERRULING = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_RUNTIME_ENV_IGNORE_GITIGNORE")
"""Variables that Ray heeds more than what it is told; the cluster's file decides."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Token:
    """What the cluster asks for, and where it was found. It is never shown."""

    value: str
    source: str
    is_open: bool = False
    """Others may read the file."""

    def __repr__(self) -> str:
        return f"Token({self.source})"


@dataclass(frozen=True)
class Job:
    id: str
    study: str | None
    location: str | None
    state: str
    """PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED."""
    entrypoint: str
    message: str
    exit_code: int | None
    started: datetime | None
    ended: datetime | None

    @property
    def is_over(self) -> bool:
        return self.state in ("STOPPED", "SUCCEEDED", "FAILED")


class Jobs:
    """Those of one cluster. Making it asks the cluster; ConfigError if it does not answer, or not to us."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.address = address_of(cluster, name)
        self.token = find_token() if needs_token(cluster) else None
        self._client = _connect(self.address, self.token)
        mode = self._get("/api/authentication_mode")["authentication_mode"]
        if self.token and mode != "token":
            raise ConfigError(
                f"{self.address}: asks for no token, so whoever reaches it may run code there; start Ray with "
                f"RAY_AUTH_MODE=token and a token file, or write `auth: none` into cluster {name}"
            )
        self.head = self._head()

    def all(self) -> list[Job]:
        """The newest first."""
        found = [_job(details) for details in self._client.list_jobs() if details.submission_id]
        return sorted(found, key=lambda job: (job.started is None, job.started), reverse=True)

    def find(self, name: str) -> Job:
        """A job by its id, or the newest of a study. ConfigError if there is none."""
        jobs = self.all()
        for job in jobs:
            if name in (job.id, job.study, job.location):
                return job
        known = [*{job.study for job in jobs if job.study}, *(job.id for job in jobs)]
        raise ConfigError(f"no job or study {name!r} on {self.address}; {nearest(name, known)}")

    def running(self, asked: Submission) -> Job | None:
        """The job that is at this study now. ConfigError if it does something else there."""
        found = next((job for job in self.all() if job.location == asked.location and not job.is_over), None)
        if found is not None and found.entrypoint != asked.entrypoint:
            raise ConfigError(
                f"{asked.location}: {found.id} is at it, with another command: {found.entrypoint}; stop that job "
                "first, or give another --study"
            )
        return found

    def submit(self, submission: Submission, folder: Path) -> Job:
        """Send the folder, and start."""
        job = self._client.submit_job(
            entrypoint=submission.entrypoint,
            submission_id=submission.fresh_id(),
            runtime_env=runtime_env(submission, folder),
            metadata=submission.metadata,
            entrypoint_num_gpus=submission.gpus or None,
            entrypoint_num_cpus=submission.cpus or None,
        )
        return _job(self._client.get_job_info(job))

    def wait(self, job: Job) -> Job:
        """Until it is over."""
        try:
            while not job.is_over:
                time.sleep(0.5)
                job = _job(self._client.get_job_info(job.id))
        except OSError:  # Ray's ConnectionError, and what requests raises
            raise self._broken(job) from None
        return job

    def log(self, job: Job) -> str:
        try:
            return self._client.get_job_logs(job.id)
        except RuntimeError:
            raise ConfigError(f"{job.id}: its log can't be read; the node that it ran on may be gone") from None

    async def follow(self, job: Job) -> AsyncIterator[str]:
        """The log from its start, as it grows, until the job is over."""
        import aiohttp

        try:
            async for chunk in self._client.tail_job_logs(job.id):
                yield chunk
        except (RuntimeError, aiohttp.ClientError):
            raise self._broken(job) from None

    def _broken(self, job: Job) -> ConfigError:
        return ConfigError(f"{self.address}: the connection broke; {job.id} goes on, follow it again")

    def stop(self, job: Job) -> None:
        """Ask it to leave: SIGTERM."""
        self._client.stop_job(job.id)

    def _head(self) -> Head:
        found = self._get("/api/v0/cluster_metadata")["data"]
        nodes = self._get("/api/v0/nodes")["data"]["result"]["result"]
        each = [node["resources_total"] for node in nodes if node["state"] == "ALIVE"]
        return Head(found["rayVersion"], found["pythonVersion"], len(each), int(sum(one.get("GPU", 0) for one in each)))

    def _get(self, path: str) -> Mapping[str, Any]:
        response = self._client._do_request("GET", path)
        response.raise_for_status()
        return response.json()


def runtime_env(submission: Submission, folder: Path) -> dict[str, Any]:
    """As Ray wants it. All of it is seen by whoever may look at the job."""
    return {"working_dir": str(folder), "excludes": list(EXCLUDES), "env_vars": dict(submission.variables)}


def check_head(head: Head) -> None:
    """ConfigError if what was checked here would be run by another Ray or Python, or by nobody yet."""
    if not head.nodes:
        raise ConfigError("the cluster has just started and knows no node yet; try again in a minute")
    here = versions()
    for name, there in (("Ray", head.ray), ("Python", head.python)):
        if here[name].split(".")[:2] != there.split(".")[:2]:
            raise ConfigError(
                f"{name} {there} on the cluster, {here[name]} here: expected the same to the second number; install "
                "this project there as it is here, or submit from an environment like the cluster's"
            )


def address_of(cluster: Cluster, name: str) -> str:
    """Of the dashboard. ConfigError if this kind of cluster takes jobs in another way."""
    if cluster.address is None:
        cure = (
            "nothing is submitted to this machine: run `guidedmix tune`, `ablate` or `train` itself"
            if cluster.name == "local"
            else f"`guidedmix cluster render {name} -- guidedmix …` writes what its own tool takes"
        )
        raise ConfigError(f"--cluster {name}: a cluster of kind {cluster.name} takes no jobs from here; {cure}")
    address = urlsplit(cluster.address)
    if address.scheme not in ("http", "https") or not address.hostname or address.password:
        raise ConfigError(
            f"--cluster {name}: dashboard: expected http://HOST:PORT or https://HOST:PORT, without a password in it"
        )
    return cluster.address


def needs_token(cluster: Cluster) -> bool:
    """A cluster must say so if it has none."""
    return not (isinstance(cluster, RayJob) and cluster.auth == "none")


def find_token() -> Token:
    """Where Ray looks for it. ConfigError without one."""
    if value := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return Token(value, "$RAY_AUTH_TOKEN")
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    try:
        value = path.read_text(encoding="utf-8").strip()
        is_open = bool(path.stat().st_mode & 0o077)
    except OSError as error:
        raise ConfigError(
            f"{path}: no token there ({error.strerror}), and RAY_AUTH_TOKEN is not set; copy the cluster's token into "
            "that file (mode 600), or name its file by RAY_AUTH_TOKEN_PATH"
        ) from None
    if not value:
        raise ConfigError(f"{path}: empty, expected the cluster's token")
    return Token(value, str(path), is_open)


def auth_warnings(address: str, token: Token | None) -> list[str]:
    """What makes it easy to take a token, or the cluster."""
    where = urlsplit(address)
    is_far = where.hostname not in LOOPBACK
    found = []
    if token and token.is_open:
        found.append(f"{token.source}: others on this machine may read the token; chmod 600 {token.source}")
    if token and is_far and where.scheme == "http":
        found.append(f"the token goes to {where.hostname} unencrypted; use https, or a tunnel (ssh -L) and 127.0.0.1")
    if not token and is_far:
        found.append(f"{where.hostname} asks for no token: whoever reaches it may run code there")
    return found


def _connect(address: str, token: Token | None) -> Any:
    quiet_dependencies()
    for name in OVERRULING:
        os.environ.pop(name, None)
    import requests
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for name in ("ray", "ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        return JobSubmissionClient(address, headers={"Authorization": f"Bearer {token.value}"} if token else {})
    except AuthenticationError:
        source = (
            f"the token of {token.source} is not the cluster's" if token else "it asks for a token; write `auth: token`"
        )
        raise ConfigError(f"{address}: refused: {source}") from None
    except (ConnectionError, requests.RequestException):
        raise ConfigError(
            f"{address}: no Ray dashboard answers; is the cluster up, and does the tunnel stand "
            "(ssh -L 8265:127.0.0.1:8265 HEAD)?"
        ) from None


def _job(details: Any) -> Job:
    metadata = details.metadata or {}
    return Job(
        details.submission_id,
        metadata.get("guidedmix.study"),
        metadata.get("guidedmix.location"),
        str(details.status),
        details.entrypoint,
        details.message or "",
        details.driver_exit_code,
        _time(details.start_time),
        _time(details.end_time),
    )


def _time(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
