"""This machine."""

from __future__ import annotations

from orchestrator.clusters import Cluster


class Local(Cluster):
    """This machine: `guidedmix tune` and `guidedmix ablate` run on it, nothing is submitted."""
