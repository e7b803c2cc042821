"""A Ray cluster that is running."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from orchestrator.clusters import Cluster


class RayJob(Cluster):
    """A Ray cluster that is running, reached through its dashboard."""

    gpus: int | None = Field(None, ge=0, description="in all, at its largest; null: as many as this machine has")
    dashboard: str = Field("http://127.0.0.1:8265", description="where it answers; a tunnel leads there")
    auth: Literal["none", "token"] = Field(
        "token", description="token: that of RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token, never in a file"
    )

    @property
    def num_gpus(self) -> int | None:
        return self.gpus

    @property
    def address(self) -> str:
        return self.dashboard
