"""Amazon's cloud, by Ray's cluster launcher."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from orchestrator.clusters._launcher import Launcher


class Aws(Launcher):
    """Machines of EC2: a head, and GPU workers that come and go. Studies on S3, or on EFS by `nfs`."""

    title = "A Ray cluster on EC2"
    client = ("boto3==1.44.5",)
    once = "pip install boto3==1.44.5; aws configure"
    leaves = "the security group and key pair ray-autoscaler-*, and your storage, stay"

    region: str = "us-west-2"
    zone: str | None = Field(None, description="availability zones, comma-separated; null: any of the region")
    head_type: str = "m6i.large"
    worker_type: str = "g5.2xlarge"
    image: str = Field(
        description="an AMI of this region, such as the Deep Learning Base GPU AMI: see docs/clusters.md"
    )
    instance_profile: str | None = Field(
        None, description="ARN of the role of all nodes; null: Ray gives one to the head, none to the workers"
    )

    @model_validator(mode="after")
    def _workers_may_write_to_s3(self) -> Aws:
        may = self.instance_profile is not None or "AWS_ACCESS_KEY_ID" in self.secrets
        if self.storage.startswith(("s3://", "s3a://")) and not may:
            raise ValueError(
                f"storage={self.storage}: workers have no role by default, so they can't write there; give "
                "instance_profile, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in secrets"
            )
        return self

    def provider(self) -> dict[str, Any]:
        zone = {} if self.zone is None else {"availability_zone": self.zone}
        # Stopped machines would be reused, and their disks go on costing.
        return {"type": "aws", "region": self.region, **zone, "cache_stopped_nodes": False}

    def head_node(self) -> dict[str, Any]:
        return self._node(self.head_type)

    def worker_node(self) -> dict[str, Any]:
        spot = {"InstanceMarketOptions": {"MarketType": "spot"}} if self.spot else {}
        return self._node(self.worker_type) | spot

    def _node(self, instance_type: str) -> dict[str, Any]:
        profile = {} if self.instance_profile is None else {"IamInstanceProfile": {"Arn": self.instance_profile}}
        disk = {"VolumeSize": self.disk_gb, "VolumeType": "gp3", "DeleteOnTermination": True}
        return {
            "InstanceType": instance_type,
            "ImageId": self.image,
            "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": disk}],
            "MetadataOptions": {"HttpTokens": "required"},
            **profile,
        }
