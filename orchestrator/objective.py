"""What makes one run better than another."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from guidedmix_core import BY_CLASS, METRICS, Config, nearest

BY_NAME = (*BY_CLASS, "train/", "time/")
"""A class, a term of the loss, or a duration follows."""


def _reported(metric: str) -> str:
    if metric not in METRICS and not metric.startswith(BY_NAME):
        families = [f"{family}…" for family in BY_NAME]
        raise ValueError(f"no run reports {metric!r}; {nearest(metric, METRICS)}, {', '.join(families)}")
    return metric


class Objective(Config):
    """The direction of a metric."""

    metric: Annotated[str, AfterValidator(_reported)] = Field(
        "val/miou", description="a metric of the last evaluation, such as val/iou/CLASS"
    )
    mode: Literal["max", "min"] = "max"
