"""This machine."""

from __future__ import annotations

from pydantic import Field

from orchestrator.clusters import Cluster


class Local(Cluster):
    """This machine: `guidedmix tune` and `guidedmix ablate` run on it, nothing is submitted."""

    gpus: int | None = Field(None, ge=0, description="null: all that it has")

    @property
    def num_gpus(self) -> int | None:
        return self.gpus
