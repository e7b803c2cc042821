"""What clusters have in common whose machines come and go with the work."""

from __future__ import annotations

from abc import ABC

from pydantic import Field, model_validator

from orchestrator.clusters import Cluster


class Elastic(Cluster, ABC):
    """A head without GPU that is always there, and worker nodes that Ray's autoscaler starts and ends."""

    cluster_name: str = Field("guidedmix", pattern=r"^[a-z][a-z0-9-]{0,38}$", description="of what the tool makes")
    min_workers: int = Field(0, ge=0, description="worker nodes that are kept when nothing runs")
    max_workers: int = Field(4, ge=1, description="worker nodes at most")
    gpus_per_node: int = Field(1, ge=0, description="of a worker node")
    cpus_per_node: int = Field(8, ge=1, description="of a worker node")
    idle_minutes: int = Field(10, ge=1, description="a worker node without work is ended after these")

    @model_validator(mode="after")
    def _workers_are_ordered(self) -> Elastic:
        if self.min_workers > self.max_workers:
            raise ValueError(f"min_workers={self.min_workers}: expected at most max_workers={self.max_workers}")
        return self

    @property
    def num_gpus(self) -> int:
        return self.max_workers * self.gpus_per_node

    @property
    def address(self) -> str:
        return "http://127.0.0.1:8265"  # the near end of a tunnel
