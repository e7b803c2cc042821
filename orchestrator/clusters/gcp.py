"""Google's cloud, by Ray's cluster launcher."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from orchestrator.clusters._launcher import Launcher

ACCOUNT = "ray-autoscaler-sa-v1@{project}.iam.gserviceaccount.com"
"""Ray makes it for the head; it may read and write buckets of the project."""


class Gcp(Launcher):
    """Machines of Compute Engine: a head, and GPU workers that come and go. Studies on GCS, or on Filestore."""

    title = "A Ray cluster on Compute Engine"
    client = ("google-api-python-client==2.202.0",)
    once = "pip install google-api-python-client==2.202.0; gcloud auth application-default login"
    leaves = "the service account and SSH key of ray-autoscaler, and your storage, stay"

    project: str = Field(description="its id; the APIs of Compute Engine, IAM and Resource Manager are on")
    region: str = "us-central1"
    zone: str = "us-central1-a"
    head_type: str = "e2-standard-2"
    worker_type: str = Field("g2-standard-8", description="a type that brings its GPUs: g2, a2, a3")
    image: str = Field(description="projects/PROJECT/global/images/family/FAMILY: see docs/clusters.md")

    def provider(self) -> dict[str, Any]:
        return {
            "type": "gcp",
            "region": self.region,
            "availability_zone": self.zone,
            "project_id": self.project,
            "cache_stopped_nodes": False,
        }

    def head_node(self) -> dict[str, Any]:
        return self._node(self.head_type)

    def worker_node(self) -> dict[str, Any]:
        spot = {"provisioningModel": "SPOT", "instanceTerminationAction": "DELETE", "automaticRestart": False}
        # Only storage is in the scope of the workers; the head's account may also start machines.
        scopes = ["https://www.googleapis.com/auth/devstorage.read_write"]
        return {
            **self._node(self.worker_type),
            "scheduling": {"onHostMaintenance": "TERMINATE", **(spot if self.spot else {})},
            "serviceAccounts": [{"email": ACCOUNT.format(project=self.project), "scopes": scopes}],
        }

    def _node(self, machine_type: str) -> dict[str, Any]:
        disk_type = f"zones/{self.zone}/diskTypes/pd-balanced"
        disk = {"diskSizeGb": self.disk_gb, "diskType": disk_type, "sourceImage": self.image}
        return {
            "machineType": machine_type,
            "disks": [{"boot": True, "autoDelete": True, "type": "PERSISTENT", "initializeParams": disk}],
        }
