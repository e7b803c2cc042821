"""What the factors of a design do: a table, a half-normal plot, and the pairs that change each other most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from markupsafe import Markup

from orchestrator.comparison import Cell, Comparison
from orchestrator.factorial import FactorEffect, half_normal
from orchestrator.report import svg
from orchestrator.report.wording import difference, interval, metric_title, metric_unit, metric_value
from orchestrator.units import scale_of

MOST_PAIRS = 6
"""Interaction plots, of the largest interactions."""
LONGEST = 9
"""Letters of a level beside its line; the rest is in the tip."""
COLORS = (svg.BEST, svg.REFERENCE, svg.GREEN, svg.AMBER)
"""Of a factor's levels; the others are gray."""
LABELED = 8
"""Points of the half-normal plot that have their name beside them, the largest."""


@dataclass(frozen=True)
class EffectRow:
    name: str
    effect: str
    interval: str
    n: int
    confounded: str
    is_shown: bool
    """The interval excludes zero; each stands for itself."""


def effect_rows(comparison: Comparison) -> list[EffectRow]:
    """By size."""
    metric = comparison.objective.metric
    found = sorted(_effects(comparison), key=lambda effect: -abs(effect.estimate.mean))
    return [
        EffectRow(
            name=effect.name,
            effect=difference(metric, effect.estimate.mean),
            interval=interval(metric, effect.estimate.interval or ()),
            n=effect.estimate.n,
            confounded=effect.confounded,
            is_shown=effect.estimate.excludes_zero,
        )
        for effect in found
    ]


def half_normal_chart(comparison: Comparison) -> Markup | None:
    """Sizes against half-normal quantiles. Effects that are noise lie on a line through zero; what counts lies above
    it. None of fewer than four effects, which say nothing of a line."""
    points = [(place, abs(effect.estimate.mean), effect.name) for place, effect in half_normal(_effects(comparison))]
    if len(points) < 4:
        return None
    scale, metric = scale_of(comparison.objective.metric), comparison.objective.metric
    width, height = 1000.0, 380.0
    x = svg.Scale(0, 1.06 * points[-1][0], 56, width - 190)
    y = svg.Scale(0, 1.06 * points[-1][1], height - 52, 34)
    parts = [
        svg.frame(
            x,
            y,
            x_words=lambda value: f"{value:.3g}",
            y_words=lambda value: f"{scale * value:.3g}",
            x_label="half-normal quantile",
            y_label=f"size of the effect on {metric_title(metric)}{', points' if scale == 100 else ''}",
        )
    ]
    parts += [
        svg.dot(x(place), y(size), svg.BEST, f"{name}: {metric_value(metric, size)}") for place, size, name in points
    ]
    named = points[-LABELED:]
    places = svg.apart([y(size) for _, size, _ in named], 17, y.end, y.start - 6)
    for (place, _, name), at in zip(named, places, strict=True):
        parts.append(svg.text(x(place) + 10, at + 4, name, "name"))
    return svg.drawing(width, height, *parts, label="Half-normal plot of the effects")


def interaction_charts(comparison: Comparison, request: Mapping[str, Any]) -> list[tuple[str, Markup]]:
    """(title, chart) of the largest two-factor interactions: lines that are not parallel."""
    pairs = [effect for effect in _effects(comparison) if len(effect.factors) == 2]
    largest = sorted(pairs, key=lambda effect: -abs(effect.estimate.mean))
    shown = [*dict.fromkeys((effect.factors[0], effect.factors[1]) for effect in largest)][:MOST_PAIRS]
    levels = {name: own for name, own in (request.get("levels") or {}).items() if own}
    cells = [cell for cell in comparison.cells if cell.name in levels]
    return [
        (
            f"{first} × {second}, a line a level of {second}",
            _interaction(first, second, cells, levels, comparison),
        )
        for first, second in shown
    ]


def _interaction(
    first: str, second: str, cells: list[Cell], levels: Mapping[str, Mapping[str, str]], comparison: Comparison
) -> Markup:
    """The second factor's levels are lines over those of the first."""
    metric = comparison.objective.metric
    means = _means(first, second, cells, levels, comparison)
    over = list(dict.fromkeys(level for level, _ in means))
    lines = list(dict.fromkeys(level for _, level in means))
    width, height, left, right = 320.0, 240.0, 56.0, 250.0
    y = svg.Scale(*svg.spread([*means.values()], 0.12), height - 40, 34)
    apart = (right - left - 58) / (len(over) - 1)
    at = {level: left + 34 + i * apart for i, level in enumerate(over)}
    scale = scale_of(metric)
    parts = [svg.tag("line", x1=left, x2=right, y1=y(tick), y2=y(tick), class_="grid") for tick in y.ticks(4)]
    parts += [svg.text(left - 8, y(tick) + 4, f"{scale * tick:.4g}", anchor="end") for tick in y.ticks(4)]
    parts += [
        svg.text(place, height - 18, _tick(first, level, len(over)), anchor="middle") for level, place in at.items()
    ]
    parts.append(svg.text(left - 34, 18, metric_unit(metric), "label"))
    ends = svg.apart([y(means[over[-1], line]) for line in lines], 17, 30, height - 44)
    for line, color, end in zip(lines, _colors(len(lines)), ends, strict=True):
        points = [(at[level], y(means[level, line])) for level in over]
        parts.append(svg.path(points, "line", stroke=color, stroke_width=2.4))
        parts += [
            svg.dot(*point, color, f"{first} {level}, {second} {line}: {metric_value(metric, means[level, line])}")
            for level, point in zip(over, points, strict=True)
        ]
        parts.append(svg.text(right - 12, end + 4, _cut(line), "name", style=f"fill:{color}"))
    return svg.drawing(width, height, *parts, label=f"Interaction of {first} and {second}")


def _means(
    first: str, second: str, cells: list[Cell], levels: Mapping[str, Mapping[str, str]], comparison: Comparison
) -> dict[tuple[str, str], float]:
    """Over the cells that have both levels, and the blocks that all cells of the design have."""
    known = {cell.name: cell.values(comparison.objective.metric) for cell in cells}
    blocks = set.intersection(*(set(values) for values in known.values()))
    found: dict[tuple[str, str], list[float]] = {}
    for cell in cells:
        place = (str(levels[cell.name][first]), str(levels[cell.name][second]))
        found.setdefault(place, []).append(fmean(known[cell.name][block] for block in blocks))
    return {place: fmean(values) for place, values in found.items()}


def _cut(level: str) -> str:
    return level if len(level) <= LONGEST else f"{level[: LONGEST - 1]}…"


def _tick(factor: str, level: str, levels: int) -> str:
    return f"{factor} {level}" if levels == 2 else _cut(level)


def _colors(lines: int) -> list[str]:
    return [*COLORS[:lines], *[svg.OTHER] * (lines - len(COLORS))]


def _effects(comparison: Comparison) -> list[FactorEffect]:
    return [] if comparison.effects is None else comparison.effects.found
