"""What is asked of a cluster: a verb's own command line, the study's place there, what its environment is.

Nothing here speaks to a cluster. The command resumes or starts, as it does here: submitting it again is going on.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from guidedmix_core import ConfigError, RunConfig, read_yaml, resolve, search_spaces
from orchestrator.arrival import expectation
from orchestrator.clusters import PASSWORD, THIS, Cluster, is_whole, known_clusters
from orchestrator.package import Package

HOME = "~/studies"
"""On the cluster, if its file gives no storage."""
STOP_WAIT = "RAY_JOB_STOP_WAIT_TIME_S"
STOP_SECONDS = 600
"""Ray kills a job so long after it was asked to leave, 3 s if nothing is said: an evaluation must end, a checkpoint be
written."""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Head:
    """What answered at a cluster's address."""

    ray: str
    python: str
    nodes: int
    gpus: int


@dataclass(frozen=True)
class Submission:
    """One job, before it is sent."""

    study: str
    location: str
    """Of the study, as the cluster sees it: a folder, or a URI."""
    entrypoint: str
    variables: Mapping[str, str] = field(default_factory=dict)
    """Of the job's environment. Whoever may look at the job sees them."""
    secrets: Sequence[str] = ()
    gpus: int = 0
    """That the command itself needs, not its runs."""
    cpus: int = 0

    @property
    def metadata(self) -> dict[str, str]:
        return {"guidedmix.study": self.study, "guidedmix.location": self.location}

    def fresh_id(self) -> str:
        """`STUDY-20261121-153000`, in UTC."""
        return f"{self.study}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def submission(
    verb: str, file: str, words: Sequence[str], study: str | None, usual: str, cluster: Cluster, called: str | None
) -> Submission:
    """`study`: as it is asked for; `usual`: its name otherwise; `called`: what the job finds the cluster's file by."""
    name, location = place(study, usual, cluster.storage)
    refuse_passwords([*words, location])
    variables = {**environment(cluster), **({THIS: called} if called else {})}
    return Submission(name, location, entrypoint(verb, file, words, location), variables, cluster.secrets)


def for_head(asked: Submission, head: Head, cluster: Cluster, trains_on: str | None) -> Submission:
    """With what depends on the cluster that answered. `trains_on`: the device, if the command itself trains."""
    variables = {**asked.variables, **expectation(head.ray, head.python, asked.secrets)}
    if trains_on is None:  # its runs reserve what they need
        return replace(asked, variables=variables)
    has_gpu = trains_on.startswith("cuda") or (trains_on == "auto" and (head.gpus or cluster.num_gpus or 0) > 0)
    return replace(asked, variables=variables, gpus=int(has_gpu), cpus=1)


def storage_warnings(asked: Submission, head: Head, cluster: Cluster) -> list[str]:
    if head.nodes > 1 and cluster.storage is None and asked.location.startswith("~/"):
        return [
            f"storage: null, and the cluster has {head.nodes} nodes: {asked.location} is another folder on each, so "
            "runs on other nodes will be lost; give a folder that all share, or a URI"
        ]
    if head.nodes > 1 and "://" not in asked.location:
        return [f"{asked.location}: has to be on a file system that all {head.nodes} nodes share"]
    if cluster.storage is None and asked.location.startswith("~/"):
        return [f"storage: null, so the study lies on the head, in {asked.location}, and goes when the head goes"]
    return []


def place(asked: str | None, usual: str, storage: str | None) -> tuple[str, str]:
    """A study's name and its location on the cluster. `asked`: a name in the cluster's storage, or a whole location."""
    location = asked.rstrip("/") if asked and "/" in asked else f"{(storage or HOME).rstrip('/')}/{asked or usual}"
    name = location.rpartition("/")[2]
    if not is_whole(location) or ".." in location.split("/") or not _NAME.fullmatch(name):
        raise ConfigError(
            f"--study {asked or usual}: expected a name of letters, digits, `-`, `_` and `.`, or where the cluster has "
            "it: a folder from / or ~/ on, or a URI"
        )
    return name, location


def entrypoint(verb: str, file: str, words: Iterable[str], location: str) -> str:
    """The command line, as a shell on the cluster reads it."""
    start = "~/" if location.startswith("~/") else ""  # the shell there says where home is
    command = shlex.join(["guidedmix", verb, file, *words, "--study"])
    return f"{command} {start}{shlex.quote(location.removeprefix('~/'))}"


def environment(cluster: Cluster) -> dict[str, str]:
    """The variables of a job."""
    return {STOP_WAIT: str(STOP_SECONDS), **cluster.environment}


def refuse_passwords(words: Iterable[str]) -> None:
    """ConfigError if an address among the words has a password in it."""
    for word in words:
        if PASSWORD.search(word):
            raise ConfigError(
                f"{PASSWORD.sub('://***@', word)}: an address with a password, and whoever may look at a job sees it; "
                "set it in the environment of the nodes, and name the variable under the cluster's `secrets`"
            )


def files_of(file: str, shelf: str, folder: Path) -> tuple[str, list[Path]]:
    """How the file is called on the cluster, and the files below `folder`, the current one, that it is read from.

    ConfigError if it rests on a file that the cluster would not have."""
    installed = [found.resolve() for found in search_spaces()]
    needed, called = [], file
    for name, path in _chain(file, shelf):
        is_path = name.endswith((".yaml", ".yml"))
        if path.is_relative_to(folder):
            needed.append(path.relative_to(folder))
            called = str(needed[0]) if is_path and name == file else called
        elif is_path or not any(path.is_relative_to(shelf) for shelf in installed):  # what is installed is there, too
            raise ConfigError(
                f"{path}: not below {folder}, so the cluster would not have it; copy it there, or give "
                f"--working-dir {path.parent}"
            )
    return called, needed


def cluster_file(name: str, package: Package) -> str | None:
    """How the job finds the cluster's file, which tells it how far the cluster grows; None if it will not have it."""
    path = (Path(name) if name.endswith((".yaml", ".yml")) else known_clusters()[name]).resolve()
    folder = package.folder.resolve()
    if path.is_relative_to(folder):
        inside = path.relative_to(folder)
        return str(inside) if inside in package.files else None
    is_installed = path != Path(name).resolve() and not path.is_relative_to(Path("clusters").resolve())
    return name if is_installed else None


def check_data(run: RunConfig, package_files: Iterable[Path]) -> str | None:
    """Where the nodes must have the data; None if it comes along, or needs no files. ConfigError if they can't."""
    root = getattr(run.data, "root", None)
    if root is None:
        return None
    if Path(root).expanduser().is_absolute():
        return root
    if any(file.is_relative_to(root) for file in package_files):
        return None
    raise ConfigError(
        f"data.root={root}: below the working directory, but not in the package; give the folder as the nodes have it"
    )


def _chain(name: str, shelf: str = "base") -> Iterator[tuple[str, Path]]:
    """A file as it is named, and those that its `base` leads to."""
    path = resolve(name, shelf)
    yield name, path.resolve()
    base = read_yaml(path).values.get("base")
    if isinstance(base, str):
        yield from _chain(base)
