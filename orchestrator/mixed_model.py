"""A difference where blocks are missing: restricted maximum likelihood over all complete runs of two cells."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from orchestrator.stats import COVERAGE, Estimate, have_no_spread, of_error

SHARES = 1 - np.geomspace(1, 1e-8, 400)
"""Of the variance that blocks share: from 0 to all but 1e-8 of it. A grid that ends sooner makes small noise larger."""


def mixed_difference(
    values: Mapping[int, float], reference: Mapping[int, float], coverage: float = COVERAGE
) -> Estimate | None:
    """The cell minus `reference`, in value = cell + block + noise: cells fixed, blocks drawn from a normal one.

    A run whose partner in the block is lost still counts, the more the less a block decides. With no run missing it is
    the mean of the paired differences. Only these two cells are in the model: one that has lost runs must not borrow
    the small spread of others. Degrees of freedom are those of the pairs, their number minus one (containment).

    None of fewer than two pairs, and where pairs have no spread. Missing runs are taken to be missing by chance; of
    runs that failed because they diverged that is kind to the cell.

    Patterson and Thompson 1971. The share of the variance that is the blocks' is searched on a grid: statsmodels'
    MixedLM left the maximum in one of ten samples of this size.
    """
    common = sorted(set(values) & set(reference))
    if len(common) < 2 or have_no_spread([values[block] - reference[block] for block in common]):
        return None
    rows = [(1.0, block, value) for block, value in values.items()]
    rows += [(0.0, block, value) for block, value in reference.items()]
    cell, block, y = (np.array(column) for column in zip(*rows, strict=True))
    design = np.column_stack([np.ones(len(y)), cell])
    together = (block[:, None] == block[None, :]).astype(float)
    fits = [_fit(design, (1 - share) * np.eye(len(y)) + share * together, y) for share in SHARES]
    _, mean, se = max(fits, key=lambda fit: fit[0])
    return of_error(len(common), mean, None, se, coverage)


def _fit(design: np.ndarray, covariance: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Restricted log-likelihood with the scale at its best, the difference, and its standard error."""
    weights = np.linalg.inv(covariance)
    information = design.T @ weights @ design
    coefficients = np.linalg.solve(information, design.T @ weights @ y)
    rest = y - design @ coefficients
    free = len(y) - 2
    scale = float(rest @ weights @ rest) / free
    logs = free * np.log(scale) + np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(information)[1]
    return -float(logs) / 2, float(coefficients[1]), float(np.sqrt(scale * np.linalg.inv(information)[1, 1]))
