"""How an ablation, or what follows a search, is judged: the sections `analysis` and `sequential`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from guidedmix_core import Config
from orchestrator.blocks import continued
from orchestrator.space import refuse
from orchestrator.units import is_share

SMALLEST_MARGIN = 0.01
"""Points of a share. Who asks for less has written a share: 0.003."""
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


def check_margin(analysis: Analysis, metric: str, *place: str) -> None:
    """Refuses one that was given as a share. `place`: that of the analysis in the file."""
    margin = analysis.margin
    if margin is not None and is_share(metric) and margin < SMALLEST_MARGIN:
        refuse(f"{margin} points of {metric}; 0.3 is 0.3 points, a share of 0.003", *place, "margin")


def check_analysis(
    analysis: Analysis, sequential: Sequential | None, metric: str, listed: Sequence[Mapping[str, Any]]
) -> None:
    """Refuses a margin that was given as a share, and blocks that looks can't begin or go on with."""
    check_margin(analysis, metric, "analysis")
    if sequential is None:
        return
    most = sequential.max_blocks
    if not 2 <= len(listed) <= most:
        refuse(f"expected 2 to max_blocks={most} listed ones before the first look, not {len(listed)}", "blocks")
    try:
        continued(listed, most)
    except ValueError as error:
        path, value = error.args
        refuse(
            f"{value!r} has no next one; list {most} values, as many as max_blocks, or whole numbers only",
            *("blocks", path),
        )
