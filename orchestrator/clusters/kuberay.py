"""Kubernetes, with the operator KubeRay 1.5.1 or newer."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import Field, model_validator

from guidedmix_core import Tuple
from orchestrator.clusters._elastic import Elastic
from orchestrator.clusters._install import PYTHON, UV, WHEEL, Package, clients
from orchestrator.clusters._text import commented, yaml_text

CLUSTER = """\
A Ray cluster on Kubernetes: rendered by `guidedmix cluster render`. No secret is in it.

start       kubectl apply -f {file}
token       kubectl get secret -n {namespace} {name} -o jsonpath='{{.data.auth_token}}' | base64 -d > ~/.ray/auth_token
tunnel      kubectl port-forward -n {namespace} svc/{name}-head-svc 8265      # leave it open
run         guidedmix submit ablate NAME --cluster {kind}
clean up    kubectl delete -f {file}
"""
JOB = """\
A command and a Ray cluster for it, which ends with it: rendered by `guidedmix cluster render`. No secret is in it.
KubeRay asks the dashboard how the job goes, so here it answers inside the Kubernetes cluster, to who has the token.

run         kubectl apply -f {file}
look        kubectl get rayjob -n {namespace} {name}; kubectl logs -n {namespace} -f job/{name}
clean up    kubectl delete -f {file}
"""
STORAGE = """\
Where studies are kept. It outlives clusters and jobs: delete it when you have all that you want of it.

once        kubectl apply -f {file}
clean up    kubectl delete -f {file}      # the studies are gone then
"""
IMAGE = """\
The image of head and workers.

once        {wheel}docker build -f Dockerfile -t {image} . && docker push {image}
"""
DOCKERFILE = """\
FROM python:{python}-slim
RUN apt-get update && apt-get install -y --no-install-recommends git wget && rm -rf /var/lib/apt/lists/*
COPY {files} /tmp/
RUN pip install --no-cache-dir uv=={uv}
RUN uv pip install --system --no-cache --compile-bytecode -c /tmp/{pins} {package}
RUN useradd --create-home --uid 1000 ray
USER ray
WORKDIR /home/ray
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
"""


class Kuberay(Elastic):
    """Pods on Kubernetes: a head, and GPU workers that come and go."""

    namespace: str = Field("default", pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    image: str = Field(description="of head and workers; the rendered Dockerfile makes it")
    memory_gb: int = Field(32, ge=4, description="of a worker")
    head_memory_gb: int = Field(8, ge=4)
    node_selector: dict[str, str] = Field(
        {}, description="labels of the nodes for workers, such as cloud.google.com/gke-accelerator: nvidia-l4"
    )
    tolerations: Annotated[tuple[str, ...], Tuple] = Field(
        ("nvidia.com/gpu",),
        description="taints that don't keep workers off a node; for spot cloud.google.com/gke-spot on GKE, "
        "kubernetes.azure.com/scalesetpriority on AKS",
    )
    storage: str = Field(  # pyright: ignore[reportIncompatibleVariableOverride] - never none here
        "/mnt/studies", description="where studies are kept: a folder, kept in a claim, or a URI"
    )
    storage_class: str | None = Field(None, description="one that many nodes may write to; null: the default one")
    storage_gb: int = Field(500, ge=1, description="of the claim")
    secret: str = Field("guidedmix", description="name of the Secret that has the variables in `secrets` as keys")
    queue: str | None = Field(None, description="Kueue's LocalQueue; all workers are then asked for at once")
    retries: int = Field(3, ge=0, description="of a RayJob, each with a new cluster; the command goes on where it was")
    package: Package = WHEEL
    constraints: str = Field("constraints.txt", description="the versions of all that it needs: a file here")

    @model_validator(mode="after")
    def _storage_outlives_a_pod_and_hides_nothing(self) -> Kuberay:
        if self.storage.startswith("/") and len(PurePosixPath(self.storage).parts) < 3:
            raise ValueError(f"storage={self.storage}: it would hide the image's own; expected such as /mnt/studies")
        if self.storage.startswith("~/"):
            raise ValueError(
                f"storage={self.storage}: a pod's home ends with it; expected such as /mnt/studies, or a URI"
            )
        return self

    @property
    def _claims(self) -> bool:
        return self.storage.startswith("/")

    def render(self, command: Sequence[str] = ()) -> Mapping[str, str]:
        words = {"name": self.cluster_name, "namespace": self.namespace, "kind": self.name}
        cluster = self._ray("RayCluster", self._cluster({"dashboard-host": "127.0.0.1"}))
        files = {"cluster.yaml": yaml_text(CLUSTER.format(file="cluster.yaml", **words), cluster)}
        if command:
            files["job.yaml"] = yaml_text(JOB.format(file="job.yaml", **words), self._job(command))
        if self._claims:
            files["storage.yaml"] = yaml_text(STORAGE.format(file="storage.yaml"), self._claim())
        return files | {"Dockerfile": self._dockerfile()}

    def _job(self, command: Sequence[str]) -> dict[str, Any]:
        spec = {
            "entrypoint": shlex.join(command),
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 60,
            "backoffLimit": self.retries,
            "rayClusterSpec": self._cluster({}),
        }
        return self._ray("RayJob", spec)

    def _cluster(self, dashboard: dict[str, str]) -> dict[str, Any]:
        """Kueue wants to know at once what is needed, so with it there is no autoscaler."""
        size = self.min_workers if self.queue is None else self.max_workers
        autoscaler = {"version": "v2", "idleTimeoutSeconds": 60 * self.idle_minutes}
        head = self._pod("ray-head", {"cpu": "2", "memory": f"{self.head_memory_gb}Gi"})
        head["containers"][0]["ports"] = [
            {"name": name, "containerPort": port} for name, port in (("gcs-server", 6379), ("dashboard", 8265))
        ]
        return {
            "rayVersion": version("ray"),
            "authOptions": {"mode": "token"},
            "enableInTreeAutoscaling": self.queue is None,
            **({"autoscalerOptions": autoscaler} if self.queue is None else {}),
            "headGroupSpec": {
                "rayStartParams": {"num-cpus": "0", **dashboard},  # it drives the study; runs go to the workers
                "template": {"spec": head},
            },
            "workerGroupSpecs": [
                {
                    "groupName": "workers",
                    "replicas": size,
                    "minReplicas": size,
                    "maxReplicas": self.max_workers,
                    "rayStartParams": {},
                    "template": {"spec": self._worker()},
                }
            ],
        }

    def _worker(self) -> dict[str, Any]:
        gpus = {"nvidia.com/gpu": str(self.gpus_per_node)} if self.gpus_per_node else {}
        pod = self._pod("ray-worker", {"cpu": str(self.cpus_per_node), "memory": f"{self.memory_gb}Gi", **gpus})
        tolerations = [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in self.tolerations]
        return {
            **pod,
            **({"nodeSelector": dict(self.node_selector)} if self.node_selector else {}),
            **({"tolerations": tolerations} if tolerations else {}),
        }

    def _pod(self, name: str, resources: dict[str, str]) -> dict[str, Any]:
        mounts = [{"name": "shm", "mountPath": "/dev/shm"}]
        volumes: list[dict[str, Any]] = [{"name": "shm", "emptyDir": {"medium": "Memory"}}]  # 64 MB otherwise
        if self._claims:
            mounts.append({"name": "studies", "mountPath": self.storage})
            volumes.append({"name": "studies", "persistentVolumeClaim": {"claimName": f"{self.cluster_name}-studies"}})
        plain = [{"name": key, "value": value} for key, value in self.environment.items()]
        hidden = [
            {"name": key, "valueFrom": {"secretKeyRef": {"name": self.secret, "key": key}}} for key in self.secrets
        ]
        container = {
            "name": name,
            "image": self.image,
            "resources": {"requests": dict(resources), "limits": dict(resources)},
            **({"env": plain + hidden} if plain or hidden else {}),
            "volumeMounts": mounts,
        }
        return {"containers": [container], "volumes": volumes, "securityContext": {"fsGroup": 1000}}

    def _claim(self) -> dict[str, Any]:
        spec = {
            "accessModes": ["ReadWriteMany"],
            **({"storageClassName": self.storage_class} if self.storage_class else {}),
            "resources": {"requests": {"storage": f"{self.storage_gb}Gi"}},
        }
        metadata = {"name": f"{self.cluster_name}-studies", "namespace": self.namespace}
        return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}

    def _ray(self, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
        labels = {"labels": {"kueue.x-k8s.io/queue-name": self.queue}} if self.queue else {}
        metadata = {"name": self.cluster_name, "namespace": self.namespace, **labels}
        return {"apiVersion": "ray.io/v1", "kind": kind, "metadata": metadata, "spec": spec}

    def _dockerfile(self) -> str:
        is_wheel = self.package.endswith(".whl")
        comment = IMAGE.format(image=self.image, wheel="uv build --wheel; " if is_wheel else "")
        package = f"/tmp/{PurePosixPath(self.package).name}" if is_wheel else shlex.quote(self.package)
        lines = DOCKERFILE.format(
            python=PYTHON,
            files=f"{self.constraints} {self.package}" if is_wheel else self.constraints,
            uv=UV,
            pins=PurePosixPath(self.constraints).name,
            package=" ".join([package, *clients(self.storage)]),
        )
        return commented(comment) + lines
