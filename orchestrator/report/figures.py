"""Charts over the searched parameters: parallel coordinates, slices, importance, the front of several objectives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from orchestrator.importance import Importances
from orchestrator.report import svg
from orchestrator.report.facts import Facts
from orchestrator.report.wording import metric_unit, metric_value, parameter
from orchestrator.results import TrialRecord
from orchestrator.study import Objective
from orchestrator.units import is_share

MANY = 9
"""So many integers stand on a scale, fewer each on a place of its own."""


@dataclass(frozen=True)
class ParameterAxis:
    """Where a parameter's values stand: numbers on a scale, anything else on evenly spaced places."""

    scale: svg.Scale
    places: dict[str, float] | None

    def __call__(self, value: Any) -> float:
        return self.scale(value) if self.places is None else self.places[parameter(value)]

    def ticks(self, count: int) -> list[tuple[float, str]]:
        if self.places is not None:
            return [(place, name) for name, place in self.places.items()]
        return [(self.scale(value), parameter(float(value))) for value in self.scale.ticks(count)]


def parameter_axis(facts: Facts, path: str, start: float, end: float) -> ParameterAxis | None:
    """None if no scored trial has the parameter."""
    values = [trial.params[path] for trial in facts.scored if path in trial.params]
    if not values:
        return None
    listed = _countable(facts.parameters[path])
    if listed is None or any(value not in listed for value in values):
        numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
        if numbers:
            log = path in logarithmic(facts) and min(values) > 0
            return ParameterAxis(svg.Scale(min(values), max(values), start, end, log), None)
        listed = values
    names = list(dict.fromkeys(parameter(value) for value in listed))
    gap = (end - start) / len(names)
    return ParameterAxis(svg.Scale(0, 1, start, end), {name: start + (i + 0.5) * gap for i, name in enumerate(names)})


def logarithmic(facts: Facts) -> frozenset[str]:
    """The parameters that were searched on a log scale."""
    return frozenset(path for path, space in facts.parameters.items() if isinstance(space, dict) and "log" in space)


def parallel_coordinates(facts: Facts, width: float = 1000, height: float = 400) -> Markup | None:
    """One line a trial through its parameters to the objective. None without a scored trial."""
    top, bottom, absent = 62.0, height - 58, height - 26
    built = {path: parameter_axis(facts, path, bottom, top) for path in facts.parameters}
    axes = {path: axis for path, axis in built.items() if axis is not None}
    if not axes:
        return None
    values = [trial.objective for trial in facts.scored if trial.objective is not None]
    goal = svg.Scale(*svg.spread(values, 0.03), bottom, top)
    at = [70 + i * (width - 160) / len(axes) for i in range(len(axes) + 1)]

    def place(trial: TrialRecord) -> tuple[bool, bool, float]:
        return trial is facts.best, trial.state == "complete", facts.sign * (trial.objective or 0.0)

    parts: list[Markup] = []
    for trial in sorted(facts.scored, key=place):
        heights = [axis(trial.params[path]) if path in trial.params else absent for path, axis in axes.items()]
        parts.append(_polyline(facts, trial, heights, at, goal))
    for (path, axis), x in zip(axes.items(), at, strict=False):
        missing = any(path not in trial.params for trial in facts.scored)
        parts.append(_upright(x, top, bottom, axis.ticks(5), facts.short[path], path, absent if missing else None))
    ticks = [
        (goal(value), f"{100 * value:.4g}" if is_share(facts.goal.metric) else f"{value:.4g}")
        for value in goal.ticks(5)
    ]
    parts.append(
        _upright(at[-1], top, bottom, ticks, metric_unit(facts.goal.metric), facts.goal.metric, None, right=True)
    )
    return svg.drawing(width, height, *parts, label="Parallel coordinates: parameters of every trial and its objective")


def slices(facts: Facts) -> list[tuple[str, str, Markup]]:
    """(path, short name, objective against the parameter) for each parameter that varies."""
    found = []
    for path in facts.parameters:
        axis = parameter_axis(facts, path, 62, 318)
        if axis is not None:
            found.append((path, facts.short[path], _slice(facts, path, axis)))
    return found


def importance_bars(facts: Facts, found: Importances, width: float = 1000) -> Markup:
    """A bar for each share, a whisker for its interval, and the share each would have if nothing mattered."""
    left, right, row = 190.0, width - 190, 40
    height = 46 + row * len(found.rows)
    x = svg.Scale(0, 1, left, right)
    even = 1 / len(found.rows)
    parts = [svg.tag("line", x1=x(v), x2=x(v), y1=28, y2=height - 6, class_="grid") for v in (0, 0.25, 0.5, 0.75, 1)]
    parts += [svg.text(x(v), 18, f"{100 * v:.0f}", anchor="middle") for v in (0, 0.25, 0.5, 0.75, 1)]
    for i, each in enumerate(found.rows):
        middle = 46 + i * row
        interval = f"{100 * each.low:.0f} to {100 * each.high:.0f} %"
        tip = f"{each.path}: {100 * each.share:.0f} % of the importance, 90 % interval {interval}"
        parts.append(svg.text(left - 14, middle + 5, facts.short.get(each.path, each.path), "name ink", "end", tip))
        parts.append(
            svg.tag(
                "rect",
                svg.tag("title", tip),
                x=left,
                y=middle - 9,
                width=max(x(each.share) - left, 1),
                height=18,
                rx=3,
                class_="bar",
            )
        )
        parts.append(svg.path([(x(each.low), middle), (x(each.high), middle)], "whisker"))
        parts += [svg.path([(x(end), middle - 5), (x(end), middle + 5)], "whisker") for end in (each.low, each.high)]
        parts.append(svg.text(right + 22, middle + 5, f"{100 * each.share:.0f} %", "name ink"))
        parts.append(svg.text(right + 70, middle + 5, interval, "tick"))
    parts.append(svg.tag("line", x1=x(even), x2=x(even), y1=28, y2=height - 6, class_="even"))
    return svg.drawing(width, height, *parts, label="Parameter importance with bootstrap intervals")


def front_chart(facts: Facts, width: float = 1000, height: float = 380) -> Markup | None:
    """The first two objectives of every complete trial, the front joined."""
    complete = [trial for trial in facts.scored if trial.state == "complete"]
    if len(facts.goals) < 2 or not complete:
        return None
    first, second = facts.goals[:2]
    points = {
        trial.fingerprint: (facts.value(trial, second) or 0.0, facts.value(trial, first) or 0.0) for trial in complete
    }
    xs, ys = zip(*points.values(), strict=True)
    x, y = svg.Scale(*svg.spread(xs), 60, width - 40), svg.Scale(*svg.spread(ys), height - 52, 34)
    words = {goal: _axis_words(goal) for goal in (first, second)}
    parts = [
        svg.frame(
            x,
            y,
            x_words=words[second],
            y_words=words[first],
            x_label=metric_unit(second.metric),
            y_label=metric_unit(first.metric),
        )
    ]
    if len(facts.goals) == 2:
        joined = sorted(points[mine] for mine in facts.front)
        parts.append(svg.path([(x(a), y(b)) for a, b in joined], "front"))
    for trial in complete:
        a, b = points[trial.fingerprint]
        on_front = trial.fingerprint in facts.front
        tip = f"trial {trial.number}: {metric_value(first.metric, b)}, {metric_value(second.metric, a)}"
        parts.append(svg.dot(x(a), y(b), svg.BEST if on_front else svg.OTHER, tip, radius=6 if on_front else 5))
        if on_front:
            parts.append(svg.text(x(a) + 9, y(b) - 8, trial.number, "name", style=f"fill:{svg.BEST}"))
    return svg.drawing(width, height, *parts, label="The two objectives of every trial")


def _slice(facts: Facts, path: str, axis: ParameterAxis) -> Markup:
    goal = facts.goal
    shown = [trial for trial in facts.scored if path in trial.params]
    full = [trial.objective or 0.0 for trial in facts.scored if trial.state == "complete"] or [
        trial.objective or 0.0 for trial in shown
    ]
    level = facts.reference.objective if facts.reference else None
    y = svg.Scale(*svg.spread([*full, *([level] if level is not None else [])], 0.1), 178, 22)
    x = axis.scale if axis.places is None else svg.Scale(0, 1, 62, 318)
    parts = []
    for value in y.ticks(4):
        parts.append(svg.tag("line", x1=48, x2=332, y1=y(value), y2=y(value), class_="grid"))
        parts.append(svg.text(40, y(value) + 4, _axis_words(goal)(value), anchor="end"))
    parts += [svg.text(place, 198, name, anchor="middle") for place, name in axis.ticks(4)]
    parts.append(svg.tag("line", x1=48, x2=332, y1=178, y2=178, class_="axis"))
    if level is not None and facts.reference:
        parts.append(
            svg.path(
                [(48, y(level)), (332, y(level))],
                "level",
                f"{facts.reference.label}: {metric_value(goal.metric, level)}",
            )
        )
    for trial in sorted(shown, key=lambda trial: trial is facts.best):
        outcome = f"{parameter(trial.params[path])} → {metric_value(goal.metric, trial.objective)}"
        tip = f"trial {trial.number}, {trial.state}: {outcome}"
        is_best, stopped = trial is facts.best, trial.state == "stopped"
        nudge = 0 if axis.places is None else ((trial.number * 7) % 5 - 2) * 5
        color = svg.STOPPED if stopped else svg.BEST if is_best else svg.PALE
        parts.append(
            svg.dot(
                axis(trial.params[path]) + nudge,
                min(max(y(trial.objective or 0.0), 14), 178),
                color,
                tip,
                hollow=stopped,
                radius=7 if is_best else 4.8,
            )
        )
    return svg.drawing(340, 206, *parts, label=f"{goal.metric} against {path} ({x.low:g} to {x.high:g})")


def _polyline(
    facts: Facts, trial: TrialRecord, heights: Sequence[float], at: Sequence[float], goal: svg.Scale
) -> Markup:
    value = trial.objective or 0.0
    points = list(zip(at, [*heights, goal(value)], strict=True))
    drawn = f"M{points[0][0]:.1f},{points[0][1]:.1f}"
    for (a, b), (c, d) in pairwise(points):
        third = (c - a) * 0.38
        drawn += f"C{a + third:.1f},{b:.1f} {c - third:.1f},{d:.1f} {c:.1f},{d:.1f}"
    full = [other.objective or 0.0 for other in facts.scored if other.state == "complete"] or [value]
    low, high = min(full), max(full)
    share = (value - low) / (high - low) if high > low else 1.0
    is_best = trial is facts.best
    tip = f"trial {trial.number}, {trial.state}: {metric_value(facts.goal.metric, value)}"
    stopped = trial.state == "stopped"
    color = svg.STOPPED if stopped else svg.shade(share if facts.sign > 0 else 1 - share)
    dash = "4 4" if stopped else None
    line = svg.tag(
        "path", d=drawn, class_="line", stroke=color, stroke_width=4 if is_best else 1.9, stroke_dasharray=dash
    )
    return svg.tag("g", svg.tag("title", tip), svg.tag("path", d=drawn, class_="reach"), line, class_="curve")


def _upright(
    x: float,
    top: float,
    bottom: float,
    ticks: Sequence[tuple[float, str]],
    name: str,
    path: str,
    absent: float | None,
    *,
    right: bool = False,
) -> Markup:
    parts = [svg.tag("line", x1=x, x2=x, y1=top - 8, y2=bottom + 8, class_="axis")]
    for place, words in ticks:
        parts.append(svg.tag("line", x1=x - 3, x2=x + 3, y1=place, y2=place, class_="axis"))
        parts.append(svg.text(x + (10 if right else -9), place + 4, words, "tick halo", "start" if right else "end"))
    if absent is not None:
        parts.append(svg.text(x, absent + 15, "not used", "tick faint", "middle"))
    return svg.tag("g", *parts, svg.text(x, top - 26, name, "name ink", "middle", path))


def _axis_words(goal: Objective) -> Callable[[float], str]:
    percent = is_share(goal.metric)
    return lambda value: f"{100 * value:.4g}" if percent else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _countable(space: Any) -> list[Any] | None:
    """The values of a choice, or of a short range of integers."""
    if not isinstance(space, dict):
        return None
    if "choice" in space:
        return list(space["choice"])
    low, high = space.get("int", (0, MANY))
    return list(range(low, high + 1)) if high - low < MANY else None
