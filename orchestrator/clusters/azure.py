"""Microsoft's cloud, by Ray's cluster launcher."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from orchestrator.clusters._launcher import Launcher


class Azure(Launcher):
    """Machines of Azure: a head, and GPU workers that come and go. Studies on Azure Files by `nfs`."""

    title = "A Ray cluster on Azure"
    client = (
        "azure-core==1.35.0",
        "azure-identity==1.23.1",
        "azure-mgmt-compute==35.0.0",
        "azure-mgmt-network==29.0.0",
        "azure-mgmt-resource==24.0.0",
        "azure-common==1.1.28",
        "msrest==0.7.1",
        "msrestazure==0.6.4.post1",
    )
    once = "pip install azure-cli-core " + " ".join(client) + "; az login"
    leaves = "the resource group, with network and storage, stays: `az group delete` removes all of it"

    region: str = "westus2"
    resource_group: str = Field("guidedmix", description="made if it is not there")
    head_type: str = "Standard_D2s_v5"
    worker_type: str = "Standard_NC24ads_A100_v4"
    cpus_per_node: int = Field(24, ge=1, description="of a worker node")
    image: str = Field(
        "microsoft-dsvm:ubuntu-hpc:2204:latest",
        pattern=r"^[\w.-]+:[\w.-]+:[\w.-]+:[\w.-]+$",
        description="PUBLISHER:OFFER:SKU:VERSION",
    )

    def provider(self) -> dict[str, Any]:
        return {
            "type": "azure",
            "location": self.region,
            "resource_group": self.resource_group,
            "cache_stopped_nodes": False,
        }

    def head_node(self) -> dict[str, Any]:
        return {"azure_arm_parameters": self._machine(self.head_type)}

    def worker_node(self) -> dict[str, Any]:
        spot = {"priority": "Spot", "billingProfile": {"maxPrice": -1}} if self.spot else {}  # -1: up to the full price
        return {"azure_arm_parameters": self._machine(self.worker_type) | spot}

    def _machine(self, size: str) -> dict[str, Any]:
        publisher, offer, sku, version = self.image.split(":")
        return {
            "vmSize": size,
            "osDiskSize": self.disk_gb,
            "imagePublisher": publisher,
            "imageOffer": offer,
            "imageSku": sku,
            "imageVersion": version,
        }
