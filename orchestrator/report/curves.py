"""Charts over steps: the objective of every trial, the losses of one run, the quality of its pseudo masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from orchestrator.report import svg
from orchestrator.report.facts import Facts
from orchestrator.report.wording import metric_title, metric_unit, metric_value
from orchestrator.results import TrialRecord
from orchestrator.units import is_share

End = Literal["dot", "open", "cross", "none"]
ENDS: dict[str, End] = {"complete": "none", "running": "none", "stopped": "open", "failed": "cross"}
DASHES = ("7 4", "2 4", "10 3 2 3", "4 2")


@dataclass(frozen=True)
class Line:
    """One curve. `label` is written at its end, `tip` shown when the pointer is on it."""

    points: list[tuple[float, float]]
    tip: str
    color: str
    label: str | None = None
    dash: str | None = None
    wide: bool = False
    end: End = "none"
    band: tuple[tuple[float, float, float], ...] = ()
    """(step, lowest, highest) of what the curve is the mean of."""


def learning_curves(facts: Facts, metric: str) -> Markup | None:
    """All trials with the best in front, references dashed. None if nothing was evaluated yet."""
    lines = [_trial_line(facts, trial, metric) for trial in reversed(facts.ranking) if trial is not facts.best]
    for reference, dash in zip(facts.references, DASHES * len(facts.references), strict=False):
        points = _points(facts, reference, metric)
        if reference.role == "reference" and points:
            label = f"{_short(str(reference.label))} · {metric_value(metric, points[-1][1])}"
            lines.append(Line(points, label, svg.REFERENCE, label, dash, end="dot"))
    if facts.best is not None:
        points = _points(facts, facts.best, metric)
        label = f"{facts.name(facts.best)} · {metric_value(metric, points[-1][1])}" if points else ""
        lines.append(Line(points, label, svg.BEST, label, wide=True, end="dot"))
    lines = [line for line in lines if line.points]
    return line_chart(lines, metric, "Learning curves of all trials") if lines else None


def loss_curves(facts: Facts, run: TrialRecord) -> Markup | None:
    """Every `train/` term of one run."""
    colors = (svg.BEST, svg.REFERENCE, svg.GREEN, svg.AMBER, "#8a5a9e", "#5b6675")
    terms = dict.fromkeys(
        key for row in facts.curves[run.fingerprint] for key in row if key.startswith("train/") and key != "train/lr"
    )
    lines = []
    for i, term in enumerate(terms):
        points = _points(facts, run, term)
        name = term.removeprefix("train/")
        lines.append(
            Line(points, f"{name} {metric_value(term, points[-1][1])}", colors[i % len(colors)], name, wide=i == 0)
        )
    return line_chart(lines, "train/loss", "Training losses", height=300) if lines else None


def mask_quality(facts: Facts, run: TrialRecord) -> list[tuple[str, Markup]]:
    """(title, chart): what is kept and how right it is; target against plain prediction. Empty without telemetry."""
    pairs = (
        ("What is taught, and how right it is", {"coverage": svg.AMBER, "precision": svg.BEST, "recall": svg.GREEN}),
        ("Target against plain prediction", {"target_accuracy": svg.BEST, "plain_accuracy": svg.REFERENCE}),
    )
    charts = []
    for label, colors in pairs:
        lines = []
        for name, color in colors.items():
            if points := _points(facts, run, f"pseudo/{name}"):
                words = name.removesuffix("_accuracy")
                tip = f"{words} · {metric_value('pseudo/accuracy', points[-1][1])}"
                lines.append(
                    Line(points, tip, color, tip, DASHES[0] if name == "plain_accuracy" else None, wide=True, end="dot")
                )
        if lines:
            charts.append(
                (
                    label,
                    line_chart(
                        lines,
                        "pseudo/accuracy",
                        label,
                        width=490,
                        height=290,
                        right=136,
                        y_label="% of pixels",
                        num_x=4,
                    ),
                )
            )
    return charts


def line_chart(
    lines: Sequence[Line],
    metric: str,
    label: str,
    *,
    width: float = 1000,
    height: float = 400,
    right: float = 196,
    y_label: str | None = None,
    num_x: int = 6,
) -> Markup:
    """Curves over steps in one frame, labels at their ends, moved apart where they would overlap."""
    xs, ys = zip(*[point for line in lines for point in line.points], strict=True)
    ys = [*ys, *(end for line in lines for _, *ends in line.band for end in ends)]
    low, high = svg.spread(ys, 0.04)
    x = svg.Scale(0, max(xs), 56, width - right)
    y = svg.Scale(max(low, 0) if min(ys) >= 0 else low, high, height - 52, 34)
    percent = is_share(metric)
    parts = [
        svg.frame(
            x,
            y,
            x_words=lambda value: f"{value:,.0f}",
            y_words=lambda value: f"{100 * value:.4g}" if percent else f"{value:.4g}",
            x_label="training step",
            y_label=metric_unit(metric) if y_label is None else y_label,
            num_x=num_x,
        )
    ]
    parts += [_band(line, x, y) for line in lines if line.band] + [_drawn(line, x, y) for line in lines]
    named = [line for line in lines if line.label]
    places = svg.apart([y(line.points[-1][1]) for line in named], 19, y.end, y.start - 6)
    for line, place in zip(named, places, strict=True):
        end_x, end_y = x(line.points[-1][0]), y(line.points[-1][1])
        if abs(place - end_y) > 4:
            parts.append(svg.path([(end_x + 7, end_y), (end_x + 18, place)], "leader"))
        kind = "name strong" if line.wide else "name"
        parts.append(svg.text(end_x + 22, place + 4, line.label, kind, style=f"fill:{line.color}"))
    return svg.drawing(width, height, *parts, label=f"{label}: {metric_title(metric)} over training steps")


def _trial_line(facts: Facts, trial: TrialRecord, metric: str) -> Line:
    points = _points(facts, trial, metric)
    last = metric_value(metric, points[-1][1]) if points else "–"
    color = svg.OTHER if trial.state == "complete" else svg.STOPPED if trial.state != "failed" else svg.REFERENCE
    return Line(
        points, f"trial {trial.number}, {trial.state} at step {trial.step:,}: {last}", color, end=ENDS[trial.state]
    )


def _points(facts: Facts, record: TrialRecord, metric: str) -> list[tuple[float, float]]:
    """After the steps of its stages."""
    before = record.steps_before
    return [(before + row["step"], row[metric]) for row in facts.curves[record.fingerprint] if metric in row]


def _short(label: str) -> str:
    return label if len(label) <= 17 else f"{label[:16]}…"


def _band(line: Line, x: svg.Scale, y: svg.Scale) -> Markup:
    lower = [(x(step), y(low)) for step, low, _ in line.band]
    upper = [(x(step), y(high)) for step, _, high in reversed(line.band)]
    return svg.path([*lower, *upper], "band", fill=line.color)


def _drawn(line: Line, x: svg.Scale, y: svg.Scale) -> Markup:
    points = [(x(step), y(value)) for step, value in line.points]
    end_x, end_y = points[-1]
    width = 3 if line.wide else 1.6
    parts = [
        svg.path(points, "reach"),
        svg.path(points, "line", stroke=line.color, stroke_width=width, stroke_dasharray=line.dash),
    ]
    if line.end == "cross":
        parts.append(svg.cross(end_x, end_y, line.color, line.tip))
    elif line.end != "none" or len(points) == 1:
        parts.append(
            svg.dot(end_x, end_y, line.color, line.tip, hollow=line.end == "open", radius=5 if line.wide else 3.6)
        )
    return svg.tag("g", svg.tag("title", line.tip), *parts, class_="curve")
