"""How numbers, times, parameters and spaces are written."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from orchestrator.units import is_share, show_end

TITLES = {
    "val/miou": "mIoU",
    "val/accuracy": "pixel accuracy",
    "time/seconds": "seconds",
    "train/loss": "training loss",
}
TITLES |= {f"pseudo/{name}": f"mask {name}" for name in ("coverage", "precision", "recall")}


MOST_LISTED = 24


def metric_title(metric: str) -> str:
    return TITLES.get(metric, metric)


def metric_unit(metric: str) -> str:
    """The title with its unit, for a column or an axis."""
    return f"{metric_title(metric)}, %" if is_share(metric) else metric_title(metric)


def metric_value(metric: str, value: float | None) -> str:
    """Shares in percent with one decimal, anything else with four digits."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{100 * value:.1f}" if is_share(metric) else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def difference(metric: str, value: float) -> str:
    """With its sign; a true minus. What rounds to zero has none."""
    written = metric_value(metric, abs(value))
    if float(written.replace(",", "")) == 0:
        return f"±{written}"
    return f"{'+' if value > 0 else '−'}{written}"


def interval(metric: str, ends: Iterable[float]) -> str:
    """`+1.0 to +5.4`. What rounds to zero has its sign and the digits that it takes: `−0.03`."""
    return " to ".join(
        difference(metric, end) if metric_value(metric, abs(end)) != "0.0" else show_end(metric, end).replace("-", "−")
        for end in ends
    )


def parameter(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return value if isinstance(value, str) else json.dumps(value)


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """Dotted path to the shortest ending that is unlike all others; `method.name` reads as `method`."""
    paths = list(dict.fromkeys(paths))
    trimmed = {path: path.removesuffix(".name").split(".") for path in paths}
    others = trimmed.values()

    def ending(parts: list[str]) -> list[str]:
        endings = (parts[-length:] for length in range(1, len(parts) + 1))
        return next((end for end in endings if sum(other[-len(end) :] == end for other in others) == 1), parts)

    return {path: ".".join(ending(parts)) for path, parts in trimmed.items()}


def duration(seconds: float) -> str:
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, rest = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min" if minutes >= 10 or not rest else f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h" if hours else f"{days} days"


def moment(iso: str | None) -> str:
    return "–" if iso is None else f"{_time(iso):%-d %b %Y, %H:%M} UTC"


def period(start: str | None, end: str | None) -> str:
    if start is None or end is None:
        return moment(start or end)
    first, last = _time(start), _time(end)
    if first.date() == last.date():
        return f"{first:%-d %b %Y, %H:%M} – {last:%H:%M} UTC"
    return f"{first:%-d %b %Y, %H:%M} – {last:%-d %b %Y, %H:%M} UTC"


def count(number: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(words: Iterable[str]) -> str:
    """`a, b and c`; of very many the first ones, and how many there are besides."""
    *head, last = words
    if len(head) >= MOST_LISTED:
        head, last = head[:MOST_LISTED], f"{len(head) + 1 - MOST_LISTED} more"
    return f"{', '.join(head)} and {last}" if head else last


def space(distribution: Any) -> str:
    """What was searched, in words: `0.5 to 0.99`, `0.001 to 0.1, log scale`, `image or context`."""
    if not isinstance(distribution, Mapping):
        return parameter(distribution)
    kinds = {key: value for key, value in distribution.items() if key != "when"}
    kind, value = next(iter(kinds.items()), ("", ""))
    if isinstance(value, list) and kind != "choice" and len(value) >= 2:
        said = f"{parameter(value[0])} to {parameter(value[1])}"
        said += {"log": ", log scale", "int": ", integers"}.get(kind, "")
        said += f", steps of {parameter(value[2])}" if len(value) > 2 else ""
    else:
        said = " or ".join(parameter(each) for each in value) if isinstance(value, list) else json.dumps(kinds)
    when = distribution.get("when")
    return f"{said}, if {_conditions(when)}" if when else said


def _conditions(when: Any) -> str:
    if not isinstance(when, Mapping):
        return parameter(when)
    return " and ".join(
        f"{path} is {' or '.join(parameter(each) for each in (wanted if isinstance(wanted, list) else [wanted]))}"
        for path, wanted in when.items()
    )


def _time(iso: str) -> datetime:
    return datetime.fromisoformat(iso)
