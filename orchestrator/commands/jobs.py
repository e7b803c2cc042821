"""Verbs that hand studies to a cluster, and look after them there."""

from __future__ import annotations

from contextlib import chdir
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from orchestrator.commands import (
    Changes,
    Seeds,
    check_device,
    console,
    default_name,
    errors,
    more_blocks,
    plain_table,
    print_next,
)

if TYPE_CHECKING:
    from guidedmix_core import RunConfig
    from orchestrator.jobs import Job, Jobs
    from orchestrator.package import Package
    from orchestrator.submission import Submission

Verb = Literal["tune", "ablate", "train"]
Where = Annotated[str, typer.Option("--cluster", help="A file of clusters/, or a path.", show_default=False)]
Which = Annotated[str, typer.Argument(metavar="JOB|STUDY", help="A job's id, or a study: its newest job.")]
Follow = Annotated[bool, typer.Option("--follow", help="Print the log as it grows, until the job is over.")]

SHELVES = {"tune": "search", "ablate": "ablation", "train": "base"}
SHOWN, MANY = 3, 12
"""Files and names in a dry run."""
NOT_FOUND = 127
"""What a shell exits with if there is no such command."""


def submit(
    verb: Annotated[Verb, typer.Argument(help="What to do there.")],
    file: Annotated[str, typer.Argument(help="As the verb takes it: a name, or a YAML file of the working directory.")],
    cluster: Where,
    changes: Changes = None,
    study: Annotated[
        str | None,
        typer.Option(
            "--study",
            metavar="NAME|LOCATION",
            help="A name in the cluster's storage, or a whole location as the cluster sees it, such as "
            "/mnt/studies/a or s3://bucket/a. Default: as the verb has it.",
            show_default=False,
        ),
    ] = None,
    seeds: Seeds = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Make failed runs again.")] = False,
    device: Annotated[
        str,
        typer.Option(callback=check_device, help="As the verb takes it. auto of `train`: a GPU if there is one."),
    ] = "auto",
    working_dir: Annotated[Path, typer.Option(help="The folder that goes along: YAML files, and your code.")] = Path(
        "."
    ),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and show everything, send nothing.")] = False,
    follow: Follow = False,
) -> None:
    """Run `tune`, `ablate` or `train` on a Ray cluster. The same command again goes on with the study; while it is
    running, nothing is started twice.

    The request is checked here first, so that no wrong one is sent. Along go the files of the working directory, but
    not what .gitignore and .rayignore name, `.git`, environments, caches, `studies/` and `.env`. Data lies on the
    cluster.

    A token is taken from RAY_AUTH_TOKEN, the file that RAY_AUTH_TOKEN_PATH names, or ~/.ray/auth_token. Secrets are
    never sent: the nodes have them, and the cluster's `secrets` names what must be set there.
    """
    from orchestrator.clusters import filled_cluster
    from orchestrator.jobs import Jobs, address_of, auth_warnings, check_head
    from orchestrator.package import pack
    from orchestrator.submission import check_data, cluster_file, files_of, for_head, storage_warnings, submission

    where = filled_cluster(cluster)
    address = address_of(where, cluster)
    package = pack(working_dir)
    with chdir(working_dir):
        run, usual = _checked(verb, file, changes or [], seeds)
        called, needed = files_of(file, SHELVES[verb], package.folder.resolve())
    package.check(needed)
    data = check_data(run, package.files)
    options = {"--seeds": seeds, "--device": None if device == "auto" else device}
    words = [word for name, value in options.items() if value for word in (name, value)]
    words += [*(changes or []), *(["--retry-failed"] if retry_failed else [])]
    asked = submission(verb, called, words, study, usual, where, known := cluster_file(cluster, package))
    if dry_run:
        print_next(_package_facts(package, working_dir))
        print_next({"data": f"{data}: has to be there on every node"} if data else {})
        print_next({"command": asked.entrypoint, "study": asked.location, "cluster": f"{cluster}, {address}"})
    jobs = Jobs(where, cluster)
    check_head(jobs.head)
    asked = for_head(asked, jobs.head, where, device if verb == "train" else None)
    if dry_run:
        print_next(_job_facts(asked, jobs))
    unknown = [] if known else [f"{cluster}: not in the package, so the job counts with the GPUs that it finds"]
    for warning in [*unknown, *auth_warnings(address, jobs.token), *storage_warnings(asked, jobs.head, where)]:
        errors.print(Text(warning, style="yellow"), soft_wrap=True)
    job = jobs.running(asked)
    if dry_run:
        return
    if job is not None:
        console.print(Text(f"{asked.study} is running already, and goes on", style="yellow"), soft_wrap=True)
    else:
        job = jobs.submit(asked, package.folder)
    _show(job, cluster)
    if follow:
        _follow(jobs, job)


def list_jobs(cluster: Where) -> None:
    """List the jobs of a cluster, the newest first."""
    from orchestrator.clusters import read_cluster
    from orchestrator.jobs import Jobs

    found = Jobs(read_cluster(cluster), cluster).all()
    if not found:
        console.print("no jobs yet")
        return
    table = plain_table(header=True)
    for name in ("job", "study", "state", "started", "took"):
        table.add_column(name, overflow="fold")
    for job in found:
        started = job.started.astimezone().strftime("%Y-%m-%d %H:%M") if job.started else ""
        table.add_row(*map(Text, (job.id, job.study or "", _state(job), started, _took(job))))
    console.print(table)


def logs(name: Which, cluster: Where, follow: Follow = False) -> None:
    """Print what a job has said. With --follow the exit code is 0 if the job succeeded."""
    from orchestrator.clusters import read_cluster
    from orchestrator.jobs import Jobs

    jobs = Jobs(read_cluster(cluster), cluster)
    job = jobs.find(name)
    if follow:
        _follow(jobs, job)
        return
    typer.echo(jobs.log(job), nl=False)
    _explain(job)


def stop(name: Which, cluster: Where) -> None:
    """Ask a job to leave, and wait until it has: its runs save where they are, and submitting it again goes on with
    them. One that stays is killed after ten minutes; that costs the steps since the last checkpoints."""
    from orchestrator.clusters import read_cluster
    from orchestrator.jobs import Jobs

    jobs = Jobs(read_cluster(cluster), cluster)
    job = jobs.find(name)
    if job.is_over:
        console.print(Text(f"{job.id}: is over, {_state(job)}"), soft_wrap=True)
        return
    jobs.stop(job)
    with console.status(f"{job.id}: asked to leave"):
        job = jobs.wait(job)
    last = next((line for line in reversed(jobs.log(job).splitlines()) if line.strip()), "")
    console.print(Text(f"{job.id}: {_state(job)}"), soft_wrap=True)
    console.print(Text(last, style="dim"), soft_wrap=True)


def _checked(verb: Verb, file: str, changes: list[str], seeds: str | None) -> tuple[RunConfig, str]:
    """The (base) run and the study's usual name, once the verb itself would begin. ConfigError if it would not."""
    from guidedmix_core import ConfigError, build, fingerprint, override, parse_changes
    from orchestrator.ablation import AblationStudy
    from orchestrator.kinds import read_base
    from orchestrator.study import SearchStudy, load_study

    name = default_name(verb, file)
    if seeds is not None and verb != "ablate":
        raise ConfigError(f"--seeds {seeds}: only an ablation has blocks")
    if verb == "train":
        run = build(override(read_base(file), parse_changes(changes), "command line"))
        return run, f"{name}-{fingerprint(run)[:8]}"
    request, base = load_study(file, changes, AblationStudy if verb == "ablate" else SearchStudy)
    if isinstance(request, AblationStudy) and seeds is not None:
        request.with_more_blocks(more_blocks(seeds)).check(base)
    return build(base), name


def _package_facts(package: Package, folder: Path) -> dict[str, str]:
    from rich.filesize import decimal

    largest = ", ".join(f"{file} ({decimal(package.files[file])})" for file in package.largest[:SHOWN])
    left_out = [name if number == 1 else f"{name} ({number})" for name, number in package.left_out().most_common()]
    more = [f"{len(left_out) - MANY} more names"] if len(left_out) > MANY else []
    return {
        "package": f"{folder}: {_counted(len(package.files), 'file')}, {decimal(package.size)}",
        "largest": largest,
        "left out": ", ".join([*left_out[:MANY], *more]) or "nothing",
    }


def _job_facts(asked: Submission, jobs: Jobs) -> dict[str, str]:
    from orchestrator.arrival import SUBMITTED

    head, token = jobs.head, jobs.token
    variables = [f"{name}={value}" for name, value in asked.variables.items() if name != SUBMITTED]
    variables.append(f"{SUBMITTED}: these versions, and the names of the secrets")
    return {
        "versions": f"Ray {head.ray}, Python {head.python}",
        "nodes": f"{_counted(head.nodes, 'node')}, {_counted(head.gpus, 'GPU')}",
        "auth": f"token, from {token.source}" if token else "none",
        "reserves": " ".join(f"{n} {name}" for name, n in (("GPU", asked.gpus), ("CPU", asked.cpus)) if n)
        or "nothing itself; its runs as `scaling` says",
        "variables": "\n           ".join(variables),
        "secrets": f"{', '.join(asked.secrets)}: must be set on the nodes; not sent" if asked.secrets else "none",
        "job": asked.fresh_id(),
    }


def _show(job: Job, cluster: str) -> None:
    name = job.study or job.id
    print_next(
        {
            "job": job.id,
            "study": job.location or "",
            "log": f"guidedmix logs {name} --cluster {cluster} --follow",
            "stop": f"guidedmix stop {name} --cluster {cluster}",
        }
    )


def _follow(jobs: Jobs, job: Job) -> None:
    """Exit with 0 if it succeeded, else as its command did."""
    import asyncio

    async def show() -> None:
        async for chunk in jobs.follow(job):
            typer.echo(chunk, nl=False)

    try:
        asyncio.run(show())
        job = jobs.wait(job)
    except KeyboardInterrupt:
        errors.print(f"{job.id} goes on.")
        raise typer.Exit(130) from None
    console.print(Text(f"{job.id}: {_state(job)}"), soft_wrap=True)
    _explain(job)
    if job.state != "SUCCEEDED":
        raise typer.Exit(job.exit_code or 1)


def _explain(job: Job) -> None:
    """What a log does not say."""
    if job.exit_code == NOT_FOUND:
        text = (
            "`guidedmix` is not on the PATH that Ray was started with: install this project there, and start Ray in it"
        )
    elif job.state == "FAILED" and job.exit_code is None:
        text = job.message
    else:
        return
    errors.print(Text(text, style="red"), soft_wrap=True)


def _state(job: Job) -> str:
    code = f" (exit code {job.exit_code})" if job.exit_code else ""
    return f"{job.state.lower()}{code}"


def _took(job: Job) -> str:
    from orchestrator.console import duration

    if job.started is None:
        return ""
    return duration(((job.ended or datetime.now(UTC)) - job.started).total_seconds())


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
