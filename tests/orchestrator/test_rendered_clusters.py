"""What is rendered, held to what will read it: Ray's launcher, bash, and the fields of Kubernetes.

Clouds can't be asked here: how Ray's providers go on from a prepared file is not part of these tests.
"""

from __future__ import annotations

import copy
import json
import logging
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.clusters import filled_cluster
from orchestrator.clusters._text import yaml_text
from tests.golden.rendered import CLUSTERS, COMMAND

LAUNCHERS = ("aws", "azure", "gcp")
SECRET = "hunter2"


def documents(name: str, *changes: str) -> dict[str, Any]:
    files = filled_cluster(name, [*CLUSTERS[name], *changes]).render(COMMAND)
    return {file: yaml.safe_load(text) for file, text in files.items() if file.endswith(".yaml")}


def launcher(name: str, *changes: str) -> dict[str, Any]:
    return documents(name, *changes)[f"{name}.yaml"]


def script(name: str, *changes: str) -> str:
    files = filled_cluster(name, [*CLUSTERS[name], *changes]).render(COMMAND)
    return files["slurm.sbatch"] if name == "slurm" else yaml.safe_load(files["skypilot.yaml"])["run"]


def pods(name: str = "cluster.yaml", *changes: str) -> list[dict[str, Any]]:
    spec = documents("kuberay", *changes)[name]["spec"]
    cluster = spec.get("rayClusterSpec", spec)
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


@pytest.fixture
def ray_util():
    """Ray's own reading of launcher files; it may warn of what is meant for Docker only."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    from ray.autoscaler._private import util

    return util


@pytest.mark.parametrize("changes", [(), ("spot=false", "min_workers=1"), ("gpus_per_node=0",)], ids=" ".join)
@pytest.mark.parametrize("name", LAUNCHERS)
def test_ray_takes_a_launcher_file(name: str, changes: tuple[str, ...], ray_util) -> None:
    config = launcher(name, *changes)
    prepared = ray_util.prepare_config(copy.deepcopy(config))
    ray_util.validate_config(prepared)
    for key in ("setup_commands", "head_start_ray_commands", "worker_start_ray_commands", "initialization_commands"):
        assert prepared[key] == config[key], f"Ray's default has replaced {key}"
    assert prepared["head_setup_commands"] == config["setup_commands"] + config["head_setup_commands"]


def test_ray_refuses_what_its_schema_does_not_know(ray_util) -> None:
    config = ray_util.prepare_config(launcher("aws"))
    with pytest.raises(Exception, match="idle_minutes"):
        ray_util.validate_config({**config, "idle_minutes": 3})


@pytest.mark.parametrize("name", LAUNCHERS)
def test_gpu_workers_come_from_none_and_the_head_takes_no_runs(name: str) -> None:
    config = launcher(name, "max_workers=7", "gpus_per_node=2")
    head, worker = (config["available_node_types"][kind] for kind in ("head", "worker"))
    assert (config["head_node_type"], head["resources"], head["max_workers"]) == ("head", {"CPU": 0}, 0)
    assert (worker["min_workers"], worker["max_workers"], worker["resources"]["GPU"]) == (0, 7, 2)


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("aws", ("InstanceMarketOptions", "MarketType"), "spot"),
        ("gcp", ("scheduling", "provisioningModel"), "SPOT"),
        ("azure", ("azure_arm_parameters", "priority"), "Spot"),
    ],
)
def test_spot_is_for_workers_that_ask_for_it(name: str, path: tuple[str, str], value: str) -> None:
    section, key = path
    types = launcher(name)["available_node_types"]
    assert types["worker"]["node_config"][section][key] == value
    assert key not in types["head"]["node_config"].get(section, {})
    regular = launcher(name, "spot=false")["available_node_types"]["worker"]["node_config"]
    assert key not in regular.get(section, {})


def test_azure_is_asked_for_what_rays_template_has() -> None:
    from ray.autoscaler import _private

    template = json.loads((Path(_private.__path__[0]) / "_azure" / "azure-vm-template.json").read_text())
    for kind in launcher("azure")["available_node_types"].values():
        assert kind["node_config"]["azure_arm_parameters"].keys() <= template["parameters"].keys()


def test_workers_on_gcp_may_reach_storage_and_nothing_else() -> None:
    account = launcher("gcp")["available_node_types"]["worker"]["node_config"]["serviceAccounts"]
    assert account[0]["scopes"] == ["https://www.googleapis.com/auth/devstorage.read_write"]


def test_a_share_is_mounted_before_what_the_user_sets_up() -> None:
    commands = launcher("azure", "setup=[echo mine]")["setup_commands"]
    assert "mount -t nfs4 -o nfsvers=4.1,hard lab.file.core.windows.net:/lab/studies /mnt/studies" in commands[-3]
    assert commands[-1] == "echo mine"


@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_commands_of_nodes_are_bash(name: str) -> None:
    config = launcher(name, "secrets=[ONE, TWO]")
    commands = [line for key, lines in config.items() if key.endswith("_commands") for line in lines]
    assert subprocess.run(["bash", "-n"], input="\n".join(commands), text=True).returncode == 0
    assert [line for line in commands if line.startswith("(")] == []  # Ray adds a pair: ((…)) is arithmetic


@pytest.mark.parametrize("name", [name for name in CLUSTERS if name != "kuberay"])
def test_the_dashboard_answers_on_its_own_machine_only(name: str) -> None:
    text = "".join(filled_cluster(name, CLUSTERS[name]).render(COMMAND).values())
    assert re.findall(r"--dashboard-host\S*", text) == ["--dashboard-host=127.0.0.1"]
    assert "0.0.0.0" not in text


def test_on_kubernetes_the_dashboard_of_a_cluster_answers_in_its_pod_only() -> None:
    assert (
        documents("kuberay")["cluster.yaml"]["spec"]["headGroupSpec"]["rayStartParams"]["dashboard-host"] == "127.0.0.1"
    )


@pytest.mark.parametrize("name", CLUSTERS)
def test_ray_is_started_with_tokens(name: str) -> None:
    if name == "kuberay":
        files = documents(name)
        specs = [files["cluster.yaml"]["spec"], files["job.yaml"]["spec"]["rayClusterSpec"]]
        assert [spec["authOptions"] for spec in specs] == [{"mode": "token"}] * 2
        return
    lines = (
        [launcher(name)[f"{role}_start_ray_commands"][-1] for role in ("head", "worker")]
        if name in LAUNCHERS
        else [script(name)]
    )
    for text in lines:
        assert "RAY_AUTH_MODE=token" in text.partition("ray start")[0]


@pytest.mark.parametrize("name", CLUSTERS)
def test_no_secret_is_in_a_rendered_file(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text(SECRET)
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("MLFLOW_TRACKING_TOKEN", "RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, SECRET)
    files = filled_cluster(name, CLUSTERS[name]).render(COMMAND)
    assert SECRET not in "".join(files.values())


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_rendered_file_says_first_how_to_use_it_and_how_to_clean_up(name: str) -> None:
    for file, text in filled_cluster(name, CLUSTERS[name]).render(COMMAND).items():
        comment = "".join(re.findall(r"^#.*\n", text, re.MULTILINE))
        assert re.search(r"^# (start|run|once) ", comment, re.MULTILINE), file
        assert file == "Dockerfile" or "\n# clean up " in comment, file


def test_yaml_reads_back_as_it_was() -> None:
    content = {"on": "off", "version": "2.60", "lines": "a\n  b: c\n", "long": "x " * 200, "shared": [{"a": 1}] * 2}
    text = yaml_text("first\n\nsecond", content, content)
    assert text.startswith("# first\n#\n# second\n")
    assert list(yaml.safe_load_all(text)) == [content, content]


def test_pods_have_gpus_storage_and_secrets_by_name() -> None:
    head, worker = (pod["containers"][0] for pod in pods())
    assert "nvidia.com/gpu" not in head["resources"]["limits"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    hidden = {"name": "guidedmix", "key": "MLFLOW_TRACKING_TOKEN"}
    for container in (head, worker):
        assert {"name": "studies", "mountPath": "/mnt/studies"} in container["volumeMounts"]
        assert {"name": "MLFLOW_TRACKING_TOKEN", "valueFrom": {"secretKeyRef": hidden}} in container["env"]
        assert {"name": "TZ", "value": "UTC"} in container["env"]


def test_volumes_are_those_that_are_mounted() -> None:
    for changes in ((), ("storage=s3://lab/studies",)):
        for pod in pods("job.yaml", *changes):
            mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
            assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_the_claim_outlives_cluster_and_job() -> None:
    files = documents("kuberay")
    claim = files["storage.yaml"]
    assert (claim["kind"], claim["spec"]["accessModes"]) == ("PersistentVolumeClaim", ["ReadWriteMany"])
    claimed = {"name": "studies", "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}
    assert all(claimed in pod["volumes"] for file in ("cluster.yaml", "job.yaml") for pod in pods(file))
    assert "storage.yaml" not in documents("kuberay", "storage=s3://lab/studies")


def test_a_job_ends_its_cluster_and_is_tried_again() -> None:
    spec = documents("kuberay", "retries=2")["job.yaml"]["spec"]
    assert spec["entrypoint"] == "guidedmix ablate ablation/demo --study '/mnt/studies/my demo'"
    assert (spec["shutdownAfterJobFinishes"], spec["backoffLimit"]) == (True, 2)


def test_workers_on_kubernetes_grow_unless_kueue_counts_them() -> None:
    for queue, sizes in (("null", (0, 0, 4)), ("team", (4, 4, 4))):
        cluster = documents("kuberay", f"queue={queue}")["cluster.yaml"]
        workers = cluster["spec"]["workerGroupSpecs"][0]
        assert tuple(workers[key] for key in ("replicas", "minReplicas", "maxReplicas")) == sizes
        assert cluster["spec"]["enableInTreeAutoscaling"] is (queue == "null")
        labels = cluster["metadata"].get("labels", {})
        assert labels == ({} if queue == "null" else {"kueue.x-k8s.io/queue-name": "team"})


@pytest.mark.parametrize("name", ["slurm", "skypilot"])
def test_a_script_is_bash(name: str) -> None:
    assert subprocess.run(["bash", "-n"], input=script(name), text=True).returncode == 0


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="requires shellcheck")
@pytest.mark.parametrize("name", ["slurm", "skypilot"])
def test_shellcheck_finds_nothing_in_a_script(name: str) -> None:
    checked = ["shellcheck", "--shell=bash", "--exclude=SC1091", "-"]  # 1091: it can't see the files that are sourced
    found = subprocess.run(checked, input=script(name), text=True, capture_output=True)
    assert found.stdout == ""


def test_a_script_of_slurm_takes_its_command_when_it_is_handed_in() -> None:
    text = filled_cluster("slurm").render()["slurm.sbatch"]
    assert 'command=("$@")' in text
    assert "sbatch slurm.sbatch guidedmix ablate NAME" in text


def test_what_slurm_is_asked_for_stands_before_the_first_command() -> None:
    head, _, body = script("slurm", "memory_gb=64", "constraint=a100|h100").partition("\nset -euo pipefail")
    assert {"--nodes=2", "--gres=gpu:a100:4", "--mem=64G", '--constraint="a100|h100"', "--requeue"} <= set(
        re.findall(r"^#SBATCH (.*)$", head, re.MULTILINE)
    )
    assert "#SBATCH" not in body


def test_a_task_of_skypilot_asks_for_secrets_by_name() -> None:
    task = documents("skypilot")["skypilot.yaml"]
    assert task["secrets"] == {"RAY_AUTH_TOKEN": None, "MLFLOW_TRACKING_TOKEN": None}
    assert task["resources"] == {
        "accelerators": "L4:1",
        "cpus": "8+",
        "disk_size": 200,
        "use_spot": True,
        "autostop": {"idle_minutes": 10, "down": True},
    }


@pytest.mark.parametrize(
    ("storage", "library"),
    [
        ("s3://bucket/studies", "s3fs"),
        ("s3a://bucket/studies", "s3fs"),
        ("gs://bucket/studies", "gcsfs"),
        ("gcs://bucket/studies", "gcsfs"),
    ],
)
def test_nodes_get_what_reaches_the_store(storage: str, library: str) -> None:
    for name, file in (("aws", "aws.yaml"), ("skypilot", "skypilot.yaml"), ("kuberay", "Dockerfile")):
        text = filled_cluster(name, [*CLUSTERS[name], f"storage={storage}"]).render(COMMAND)[file]
        assert f".whl {library}" in text, name
