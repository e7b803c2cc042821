"""What a job would be, before a cluster hears of it. No Ray is started."""

from __future__ import annotations

import json
import os
import shlex
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
import yaml
from ray._private.runtime_env.packaging import create_package

from guidedmix_core import ConfigError
from orchestrator import arrival, package
from orchestrator.arrival import SUBMITTED, check_arrival, expectation, versions
from orchestrator.clusters.local import Local
from orchestrator.clusters.ray_job import RayJob
from orchestrator.commands.jobs import _explain
from orchestrator.jobs import Job, Jobs, Token, address_of, auth_warnings, check_head, find_token
from orchestrator.package import EXCLUDES, pack
from orchestrator.submission import (
    Head,
    Submission,
    check_data,
    cluster_file,
    entrypoint,
    files_of,
    for_head,
    place,
    storage_warnings,
    submission,
)
from tests.runs import SMALL, small_run

HEAD = Head(versions()["Ray"], versions()["Python"], nodes=1, gpus=0)
SHARED = RayJob(storage="/mnt/studies")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a study, and much beside it."""
    for name in ("small.yaml", "studies/demo/journal.jsonl", ".git/HEAD", ".env", "lib/__pycache__/a.pyc", "id.pem"):
        (file := tmp_path / "work" / name).parent.mkdir(parents=True, exist_ok=True)
        file.write_text("secret")
    work = tmp_path / "work"
    (work / "lib" / "own.py").write_text("pass")
    (work / "scratch.bin").write_text("x" * 100)
    (work / ".gitignore").write_text("*.bin\n")
    (work / "lib" / ".rayignore").write_text("notes.txt\n")
    (work / "lib" / "notes.txt").write_text("")
    (work / "small.yaml").write_text(yaml.safe_dump(SMALL))
    monkeypatch.chdir(work)
    return work


def test_what_is_listed_is_what_ray_packs(work: Path, tmp_path: Path) -> None:
    found = pack(Path("."))
    assert set(map(str, found.files)) == {".gitignore", "small.yaml", "lib/.rayignore", "lib/own.py"}
    create_package(str(work), tmp_path / "sent.zip", include_gitignore=True, excludes=list(EXCLUDES))
    with zipfile.ZipFile(tmp_path / "sent.zip") as sent:
        assert {Path(name) for name in sent.namelist()} == set(found.files)
    assert set(found.left_out()) == {
        ".git/",
        ".env",
        "id.pem",
        "scratch.bin",
        "studies/",
        "__pycache__/",
        "notes.txt",
    }


def test_a_package_that_is_too_large_names_its_largest_files(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (work / "weights.bin2").write_bytes(b"0" * 3000)
    monkeypatch.setattr(package, "LIMIT", 1000)
    with pytest.raises(
        ConfigError, match=r"in 5 files, expected at most 1.0 kB; the largest are weights.bin2 \(3.0 kB\)"
    ):
        pack(work).check([])


def test_a_file_that_the_job_needs_must_be_in_the_package(work: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"scratch.bin: needed by the job, but left out of the package; see .gitignore"
    ):
        pack(work).check([Path("scratch.bin")])


def test_a_file_and_its_bases_go_along_and_have_the_name_that_the_cluster_sees(work: Path) -> None:
    (work / "lib" / "above.yaml").write_text("base: small.yaml\nseed: 3")
    assert files_of(str(work / "lib" / "above.yaml"), "base", work) == (
        "lib/above.yaml",
        [Path("lib/above.yaml"), Path("small.yaml")],
    )
    assert files_of("search/demo", "search", work) == ("search/demo", [])  # installed on both sides


def test_a_file_outside_the_working_directory_is_refused_with_the_cure(work: Path, tmp_path: Path) -> None:
    (outside := tmp_path / "other.yaml").write_text(yaml.safe_dump(SMALL))
    (work / "above.yaml").write_text(f"base: {outside}")
    for name in (str(outside), "above.yaml"):
        with pytest.raises(
            ConfigError, match=rf"other.yaml: not below .*; copy it there, or give --working-dir {tmp_path}"
        ):
            files_of(name, "base", work)


@pytest.mark.parametrize(
    ("asked", "storage", "location"),
    [
        (None, None, "~/studies/demo"),
        (None, "/mnt/studies/", "/mnt/studies/demo"),
        ("mine", "s3://bucket/studies", "s3://bucket/studies/mine"),
        ("/mnt/else/mine", "s3://bucket", "/mnt/else/mine"),
        ("gs://other/mine", None, "gs://other/mine"),
    ],
)
def test_a_study_lies_in_the_clusters_storage_or_where_it_is_asked_for(asked, storage, location: str) -> None:
    assert place(asked, "demo", storage) == (location.rpartition("/")[2], location)


@pytest.mark.parametrize("asked", ["../other", "a/b", "/mnt/../etc", "..", "a b", "x;y", "s3://bucket/.."])
def test_a_study_that_would_lie_elsewhere_is_refused(asked: str) -> None:
    with pytest.raises(ConfigError, match=r"--study .*: expected a name of letters"):
        place(asked, "demo", "/mnt/studies")


def test_the_command_reaches_the_cluster_as_it_was_typed() -> None:
    command = entrypoint("ablate", "a b.yaml", ["blocks.seed=[0, 1]", "data.root=$HOME;x"], "/mnt/studies/a")
    assert shlex.split(command) == [
        *("guidedmix", "ablate", "a b.yaml", "blocks.seed=[0, 1]", "data.root=$HOME;x", "--study", "/mnt/studies/a")
    ]
    assert entrypoint("tune", "demo", [], "~/studies/demo") == "guidedmix tune demo --study ~/studies/demo"


@pytest.mark.parametrize(
    ("words", "cluster"),
    [
        (["tracking.mlflow=https://me:hunter2@host"], SHARED),
        ([], RayJob(storage="s3://me:hunter2@bucket/studies")),
    ],
)
def test_an_address_with_a_password_is_refused_without_showing_it(words: list[str], cluster: RayJob) -> None:
    with pytest.raises(ConfigError, match=r"://\*\*\*@.*an address with a password") as refused:
        submission("ablate", "demo", words, None, "demo", cluster, None)
    assert "hunter2" not in str(refused.value)


def test_a_job_finds_the_clusters_file_where_it_will_be(work: Path, tmp_path: Path) -> None:
    (work / "clusters").mkdir()
    (work / "clusters" / "mine.yaml").write_text("kind: ray_job")
    (tmp_path / "else.yaml").write_text("kind: ray_job")
    packed = pack(work)
    assert cluster_file("mine", packed) == "clusters/mine.yaml"
    assert cluster_file("local", packed) == "local"  # installed on both sides
    assert cluster_file(str(tmp_path / "else.yaml"), packed) is None
    asked = submission("tune", "demo", [], None, "demo", SHARED, "clusters/mine.yaml")
    assert asked.variables["GUIDEDMIX_CLUSTER"] == "clusters/mine.yaml"


def test_secrets_go_by_name_and_a_job_has_time_to_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "planted")
    cluster = RayJob(storage="/mnt", secrets=("SOME_TOKEN",), environment={"REGION": "eu"})
    asked = for_head(submission("ablate", "demo", [], None, "demo", cluster, None), HEAD, cluster, None)
    assert asked.variables["RAY_JOB_STOP_WAIT_TIME_S"] == "600"
    assert asked.variables["REGION"] == "eu"
    assert json.loads(asked.variables[SUBMITTED])["secrets"] == ["SOME_TOKEN"]
    assert "planted" not in str(asked)
    assert (asked.gpus, asked.cpus) == (0, 0)  # its runs reserve what they need


@pytest.mark.parametrize(("device", "gpus"), [("auto", 1), ("cuda:0", 1), ("cpu", 0)])
def test_a_single_run_reserves_what_it_trains_on(device: str, gpus: int) -> None:
    cluster = RayJob(storage="/mnt", gpus=4)  # none is up yet
    asked = for_head(submission("train", "small", [], None, "one", cluster, None), HEAD, cluster, device)
    assert (asked.gpus, asked.cpus) == (gpus, 1)


def test_a_storage_that_is_not_shared_is_told() -> None:
    several, asked = Head("2.60.0", "3.11.7", nodes=3, gpus=8), Submission("a", "~/studies/a", "")
    assert "another folder on each" in storage_warnings(asked, several, RayJob())[0]
    assert "goes when the head goes" in storage_warnings(asked, HEAD, RayJob())[0]
    assert (
        "has to be on a file system that all 3 nodes share"
        in storage_warnings(Submission("a", "/mnt/studies/a", ""), several, SHARED)[0]
    )
    assert storage_warnings(Submission("a", "s3://bucket/a", ""), several, RayJob(storage="s3://bucket")) == []


def test_data_has_to_be_where_the_nodes_find_it() -> None:
    voc = small_run({"data": {"name": "voc2012", "root": "/data/VOC2012"}})
    assert check_data(voc, []) == "/data/VOC2012"
    near = small_run({"data": {"name": "voc2012", "root": "data/VOC2012"}})
    with pytest.raises(
        ConfigError, match=r"data.root=data/VOC2012: .* not in the package; give the folder as the nodes"
    ):
        check_data(near, [Path("small.yaml")])
    assert check_data(near, [Path("data/VOC2012/JPEGImages/a.jpg")]) is None
    assert check_data(small_run(), []) is None


def test_a_cluster_that_takes_no_jobs_says_what_to_do_instead() -> None:
    with pytest.raises(ConfigError, match="nothing is submitted to this machine: run `guidedmix tune`"):
        address_of(Local(), "local")
    for wrong in ("ray://head:10001", "head:8265", "https://me:hunter2@head"):
        with pytest.raises(ConfigError, match="expected http://HOST:PORT") as refused:
            address_of(RayJob(dashboard=wrong), "mine")
        assert "hunter2" not in str(refused.value)


def test_a_token_is_found_where_ray_looks_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path := tmp_path / "token").write_text("of-the-file\n")
    path.chmod(0o600)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    token = find_token()
    assert (token.value, token.source, token.is_open) == ("of-the-file", str(path), False)
    assert "of-the-file" not in f"{token} {token!r}"
    path.chmod(0o644)
    assert "chmod 600" in auth_warnings("http://127.0.0.1:8265", find_token())[0]
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-the-variable")
    assert find_token().value == "of-the-variable"
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    path.write_text("\n")
    with pytest.raises(ConfigError, match="empty, expected the cluster's token"):
        find_token()


def test_a_token_on_an_open_road_and_a_cluster_without_one_are_told() -> None:
    token = Token("planted", "$RAY_AUTH_TOKEN")
    assert auth_warnings("http://127.0.0.1:8265", token) == []
    assert auth_warnings("https://ray.lab.org", token) == []
    assert "unencrypted" in auth_warnings("http://ray.lab.org:8265", token)[0]
    assert "whoever reaches it may run code there" in auth_warnings("http://ray.lab.org:8265", None)[0]


def test_a_cluster_with_another_ray_or_python_is_refused() -> None:
    check_head(HEAD)
    with pytest.raises(
        ConfigError, match=r"Ray 1.13.0 on the cluster, .* here: expected the same to the second number"
    ):
        check_head(Head("1.13.0", HEAD.python, 1, 0))
    with pytest.raises(ConfigError, match=r"Python 3.8.1 on the cluster"):
        check_head(Head(HEAD.ray, "3.8.1", 1, 0))
    with pytest.raises(ConfigError, match="has just started and knows no node yet"):
        check_head(Head(HEAD.ray, HEAD.python, 0, 0))


def test_a_dashboard_that_does_not_answer_is_told_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"http://127.0.0.1:9: no Ray dashboard answers; .*ssh -L"):
        Jobs(RayJob(dashboard="http://127.0.0.1:9", auth="none"), "mine")


def test_a_connection_that_breaks_while_a_job_is_waited_for_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    cluster = object.__new__(Jobs)
    cluster.address = "http://127.0.0.1:9"
    cluster._client = SimpleNamespace(get_job_info=lambda job: requests.get(cluster.address, timeout=10))
    with pytest.raises(ConfigError, match=r"http://127.0.0.1:9: the connection broke; a-1 goes on, follow it again"):
        cluster.wait(job("a-1", "RUNNING", ""))


def test_one_study_has_one_job_and_another_command_on_it_is_refused() -> None:
    asked = Submission("a", "/mnt/a", "guidedmix tune demo --study /mnt/a")
    cluster = object.__new__(Jobs)
    at_it, done = job("a-2", "RUNNING", asked.entrypoint), job("a-1", "FAILED", "guidedmix tune other --study /mnt/a")
    cluster.all = lambda: [at_it, done]
    assert cluster.running(asked) is at_it
    assert cluster.running(Submission("b", "/mnt/b", "")) is None
    with pytest.raises(ConfigError, match="a-2 is at it, with another command: guidedmix tune demo"):
        cluster.running(Submission("a", "/mnt/a", "guidedmix tune demo optim.lr=1 --study /mnt/a"))
    cluster.address = "http://127.0.0.1:8265"
    assert [cluster.find(name).id for name in ("a", "/mnt/a", "a-1")] == ["a-2", "a-2", "a-1"]
    with pytest.raises(ConfigError, match="no job or study 'b' on"):
        cluster.find("b")


def test_a_job_says_what_it_runs_with_and_refuses_what_it_was_not_checked_for(monkeypatch, capsys) -> None:
    check_arrival()  # not a job
    submit(monkeypatch, expectation(versions()["Ray"], versions()["Python"], []))
    check_arrival()
    assert f"guidedmix {versions()['guidedmix']}, Python {versions()['Python']}" in capsys.readouterr().out
    submit(monkeypatch, expectation("1.13.0", "3.8.1", []))
    with pytest.raises(ConfigError, match=r"the cluster was started with Python 3.8.1 and Ray 1.13.0, but `guidedmix`"):
        check_arrival()
    submit(monkeypatch, expectation(versions()["Ray"], versions()["Python"], ["NOT_SET_HERE"]))
    with pytest.raises(ConfigError, match="NOT_SET_HERE: not set where this job runs"):
        check_arrival()
    submit(monkeypatch, expectation(versions()["Ray"], versions()["Python"], []))
    monkeypatch.setattr(arrival, "version", lambda name: "9.9.9" if name.startswith("guidedmix") else versions_of_ray())
    with pytest.raises(ConfigError, match=r"checked by guidedmix .*, and here is 9.9.9"):
        check_arrival()


def test_a_shell_that_finds_no_guidedmix_is_explained(capsys) -> None:
    _explain(job("a-1", "FAILED", "guidedmix tune demo", exit_code=127))
    assert "not on the PATH that Ray was started with" in capsys.readouterr().err.replace("\n", " ")


def test_submitting_checks_the_request_before_anything_is_asked_of_the_cluster(call, capfd) -> None:
    Path("mine.yaml").write_text("kind: ray_job\ndashboard: http://127.0.0.1:9\nauth: none\n")
    assert call("guidedmix submit tune search/demo optim.lr=-1 --cluster mine.yaml --dry-run") == 2
    said = capfd.readouterr()
    assert "optim.lr" in said.err
    assert "package" not in said.out
    assert call("guidedmix submit tune search/demo --seeds +1 --cluster mine.yaml") == 2
    assert "--seeds +1: only an ablation has blocks" in capfd.readouterr().err
    assert call("guidedmix submit tune search/demo --cluster mine.yaml --dry-run") == 2
    said = capfd.readouterr()
    assert "guidedmix tune search/demo --study ~/studies/demo" in said.out
    assert "no Ray dashboard answers" in said.err


def job(name: str, state: str, command: str, exit_code: int | None = None) -> Job:
    return Job(name, "a", "/mnt/a", state, command, "", exit_code, datetime.now(UTC), None)


def submit(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def versions_of_ray() -> str:
    return json.loads(os.environ[SUBMITTED])["versions"]["Ray"]
