"""How an ablation is judged: the sections `analysis` and `sequential` of its file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from guidedmix_core import Config

Correction = Literal["holm", "bh", "none"]


class Analysis(Config):
    """What a comparison has to show before it is called a difference."""

    interval: float = Field(
        0.95, ge=0.5, lt=1, description="how often an interval covers the true difference; tests have the level 1 - it"
    )
    correction: Correction = Field(
        "holm",
        description="for several comparisons with one reference, the ceiling left out. holm: the chance of any false "
        "claim is at most 1 - interval; bh: the expected share of false claims is; none: each stands for itself",
    )
    margin: float | None = Field(
        None,
        gt=0,
        description="the smallest difference that matters, as tables write it: 0.3 is 0.3 points of mIoU. What is "
        "shown to be smaller is said to be; null: nothing is",
    )
    image_resamples: int | None = Field(
        2000, ge=200, description="of the evaluated images, for intervals that say what other images would change; "
        "null: none"
    )  # fmt: skip

    @property
    def alpha(self) -> float:
        """The level of every test, so that p and interval agree."""
        return round(1 - self.interval, 12)


class Sequential(Config):
    """Blocks are added to a cell until its difference is shown, or shown to be smaller than `analysis.margin`.

    Levels are those of repeated looks; see `orchestrator/sequential.py`.
    """

    max_blocks: int = Field(
        ge=3,
        le=50,
        description="of a cell, the listed ones included. Those beyond the list go on from the largest number of each "
        "path, such as seed and split.seed",
    )
