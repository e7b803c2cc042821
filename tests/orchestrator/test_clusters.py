"""Clusters by name: what is wrong with a file is told with its place, and the verbs as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from guidedmix_core import ConfigError, find, names
from orchestrator.clusters import Cluster, filled_cluster, known_clusters, read_cluster
from orchestrator.schemas import write_schemas
from tests.orchestrator.test_plan_verb import ABLATION
from tests.runs import SMALL

PROJECT = Path(__file__).parents[2]
SHIPPED = sorted((PROJECT / "clusters").glob("*.yaml"))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_a_shipped_cluster_is_named_for_its_kind(file: Path) -> None:
    assert read_cluster(file.stem).name == file.stem


def test_every_kind_is_shipped() -> None:
    assert [file.stem for file in SHIPPED] == list(names(Cluster.family))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("kind: awz", "mine.yaml:1: kind: no cluster 'awz'; did you mean 'aws'?"),
        (
            "kind: slurm\nnode: 2",
            "mine.yaml:2: node: unknown key; did you mean 'nodes'? available: account, constraint",
        ),
        ("kind: slurm\nnodes: 0", "mine.yaml:2: nodes=0: expected at least 1"),
        ("kind: slurm\ntime_limit: two days", 'mine.yaml:2: time_limit="two days"'),
        ("kind: gcp\nimage: x\nstorage: gs://b", "mine.yaml: project: required, and not given"),
        ("kind: aws\nimage: x\nstorage: /studies", "mine.yaml:3: storage=/studies: a folder of each node ends with it"),
        ("kind: aws\nimage: x\nstorage: s3://b", "mine.yaml:3: storage=s3://b: workers have no role by default"),
        (
            "kind: aws\nimage: x\nstorage: ~/studies",
            "mine.yaml:3: storage=~/studies: a folder of each node",
        ),
        ("kind: kuberay\nimage: i\nstorage: ~/studies", "mine.yaml:3: storage=~/studies: a pod's home ends with it"),
        (
            "kind: aws\nimage: x\nstorage: s3://b\nnfs: h:/e",
            "mine.yaml:4 and mine.yaml:3: nfs=h:/e: it is mounted as",
        ),
        ("kind: skypilot\nstorage: s3://b\npackage: guidedmix", "package=guidedmix: expected a wheel's path, NAME=="),
        ("kind: ray_job\nstorage: studies", "mine.yaml:2: storage: 'studies': expected a folder from / or ~/ on"),
        ("kind: ray_job\nstorage: s3:/b/studies", "mine.yaml:2: storage: 's3:/b/studies': expected a folder"),
        ("kind: slurm\nstorage: s4://me:hunter2@b", "mine.yaml:2: storage: 's4://***@b': expected a folder"),
        ("environment: {URI: 'https://me:hunter2@host'}", "mine.yaml:1: environment: URI: an address with a password"),
        ("kind: kuberay\nimage: i\nstorage: /usr", "mine.yaml:3: storage=/usr: it would hide the image's own"),
        ("kind: kuberay\nimage: i\nmin_workers: 9", "mine.yaml:3: min_workers=9: expected at most max_workers=4"),
        ("environment: {AWS_SECRET_ACCESS_KEY: hunter2}", "give the name alone, in `secrets`"),
        ("secrets: [$(reboot)]", "mine.yaml:1: secrets.0="),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_place(
    content: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(content)
    with pytest.raises(ConfigError) as error:
        read_cluster("mine.yaml")
    assert said in str(error.value)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("package", ["guidedmix-orchestrator==0.1.0", "x @ git+https://h/x.git@0123abc", "dist/x.whl"])
def test_a_package_that_is_pinned_is_taken(package: str) -> None:
    assert read_cluster("azure", [f"package={package}"]).model_dump()["package"] == package


def test_what_its_user_must_fill_in_is_asked_for_before_it_is_used() -> None:
    assert read_cluster("aws").num_gpus == 4
    with pytest.raises(
        ConfigError, match=r"clusters/aws.yaml:\d+: image=<[^\n]*\n.*\n.*storage=s3://<bucket>/studies\nfill"
    ):
        filled_cluster("aws")


def test_gpus_are_those_of_all_nodes() -> None:
    assert read_cluster("aws", ["max_workers=3", "gpus_per_node=8"]).num_gpus == 24
    assert read_cluster("slurm", ["nodes=3", "gpus_per_node=8"]).num_gpus == 24
    assert read_cluster("skypilot", ["nodes=3", "gpus_per_node=8"]).num_gpus == 24
    assert read_cluster("skypilot", ["accelerator=null"]).num_gpus == 0


def test_a_cluster_here_hides_the_one_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("clusters").mkdir()
    Path("clusters/aws.yaml").write_text("gpus: 5\n")
    assert read_cluster("aws").num_gpus == 5
    assert set(known_clusters()) == {file.stem for file in SHIPPED}


def test_the_schema_for_editors_knows_every_shipped_file(tmp_path: Path) -> None:
    written = write_schemas(tmp_path / "search_spaces")[-1]
    assert written.read_text() == (PROJECT / "clusters" / "cluster.schema.json").read_text()
    for file in SHIPPED:
        jsonschema.validate(yaml.safe_load(file.read_text()), json.loads(written.read_text()))


def test_list_shows_each_cluster(call, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("guidedmix cluster list") == 0
    shown = capfd.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown[1:]] == [file.stem for file in SHIPPED]


def test_render_prints_or_writes(call, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("guidedmix cluster render slurm nodes=3") == 0
    assert "#SBATCH --nodes=3" in capfd.readouterr().out
    assert call("guidedmix cluster render kuberay image=i storage_class=c -o made -- guidedmix ablate x --study y") == 0
    assert {path.name for path in Path("made").iterdir()} == {"cluster.yaml", "job.yaml", "storage.yaml", "Dockerfile"}
    assert yaml.safe_load(Path("made/job.yaml").read_text())["spec"]["entrypoint"] == "guidedmix ablate x --study y"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("awz", "no cluster 'awz'; did you mean 'aws'?"),
        ("local", "local: kind: local has no files to render; those that have: aws, azure, gcp, kuberay"),
        ("ray_job", "ray_job: kind: ray_job has no files to render"),
        ("slurm -o a_file", "a_file: nothing can be written there (File exists)"),
        ("slurm nodes", "'nodes': expected FIELD=VALUE, or a command that begins with guidedmix"),
        ("slurm nodes=none", 'command line: nodes="none": expected an integer'),
        ("azure", "nfs=<account>"),
        ("skypilot storage=s3://b/s", "skypilot: a task is made for a command"),
    ],
)
def test_a_wrong_request_exits_with_2(call, words: str, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    Path("a_file").touch()
    assert call(f"guidedmix cluster render {words}") == 2
    assert said in capfd.readouterr().err


def test_plan_counts_with_the_workers_of_a_cluster_that_grows(call, capfd: pytest.CaptureFixture[str]) -> None:
    for name, content in (("small", SMALL), ("ablation", ABLATION)):
        Path(f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    Path("mine.yaml").write_text("kind: kuberay\nimage: i\ngpus_per_node: 2\nmax_workers: 3\nprice_per_gpu_hour: 2.0\n")
    assert call("guidedmix plan ablation.yaml scaling.gpus_per_worker=0.5 --cluster mine.yaml --json") == 0
    plan = json.loads(capfd.readouterr().out)
    assert plan["at_once"] == 12
    assert plan["cluster"]["price_per_gpu_hour"] == 2.0
    assert call("guidedmix plan ablation.yaml scaling.gpus_per_worker=2 --cluster mine.yaml") == 0
    assert "6 GPUs at most, 3 runs at once; 2.00 USD an hour each" in capfd.readouterr().out


def test_each_kind_says_in_one_line_what_it_is() -> None:
    assert [name for name in names(Cluster.family) if not (find(Cluster.family, name).__doc__ or "").strip()] == []
