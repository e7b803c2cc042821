"""Charts by hand: elements that escape what they hold, scales with round ticks, and the frame of every chart."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

BEST = "#0063a6"
REFERENCE = "#c8500a"
OTHER = "#9db4c9"
STOPPED = "#b9bec6"
GREEN = "#00805f"
AMBER = "#b77900"
PALE = "#74a3c9"
SHADES = ("#d3dde6", "#a9c3d9", "#74a3c9", "#3a80b6", "#0063a6", "#003f73")
"""Light to dark, the best is dark. All colors here stay apart for every common kind of color blindness."""


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """`<name attributes>children</name>`. `stroke_width` is written stroke-width, `class_` class; None: left out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_short(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(escape(child) for child in children)
    return Markup(f"<{name}{written}>{inner}</{name}>")


def text(
    x: float,
    y: float,
    words: object,
    kind: str = "tick",
    anchor: str = "start",
    tip: str | None = None,
    **attributes: object,
) -> Markup:
    title = [tag("title", tip)] if tip else []
    return tag("text", *title, str(words), x=x, y=y, class_=kind, text_anchor=anchor, **attributes)


def path(points: Iterable[tuple[float, float]], kind: str, tip: str | None = None, **attributes: object) -> Markup:
    drawn = "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return tag("path", *([tag("title", tip)] if tip else []), d=drawn, class_=kind, **attributes)


def dot(x: float, y: float, color: str, tip: str, *, hollow: bool = False, radius: float = 4.5) -> Markup:
    fill, edge = ("#fff", color) if hollow else (color, "#fff")
    return tag(
        "circle", tag("title", tip), cx=x, cy=y, r=radius, fill=fill, stroke=edge, stroke_width=1.6 if hollow else 1.2
    )


def cross(x: float, y: float, color: str, tip: str) -> Markup:
    drawn = f"M{x - 4:.1f},{y - 4:.1f}l8,8m0,-8l-8,8"
    return tag("path", tag("title", tip), d=drawn, stroke=color, stroke_width=2, fill="none")


def drawing(width: float, height: float, *children: object, label: str) -> Markup:
    """The whole picture; `label` is what a screen reader says."""
    return tag(
        "svg",
        *children,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=label,
    )


def shade(share: float) -> str:
    """The color at a share in [0, 1], from light to dark."""
    place = min(max(share, 0.0), 1.0) * (len(SHADES) - 1)
    low = min(int(place), len(SHADES) - 2)
    rest = place - low
    pairs = zip(_rgb(SHADES[low]), _rgb(SHADES[low + 1]), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * rest):02x}" for a, b in pairs)


@dataclass(frozen=True)
class Scale:
    """From values to pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self._read(self.low), self._read(self.high)
        share = (self._read(value) - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Round values inside the range: powers of ten (with 2 and 5 if there are few), or steps of 1, 2 or 5."""
        if self.high <= self.low:
            return [self.low]
        if self.log:
            for digits in ((1,), (1, 3), (1, 2, 5)):
                exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
                found = [
                    digit * 10.0**e
                    for e in exponents
                    for digit in digits
                    if self.low * 0.999 <= digit * 10.0**e <= self.high * 1.001
                ]
                if len(found) >= 3:
                    break
            return found or [self.low, self.high]
        step = _round_step((self.high - self.low) / count)
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def _read(self, value: float) -> float:
        return math.log10(value) if self.log else value


def spread(values: Sequence[float], margin: float = 0.06) -> tuple[float, float]:
    """The range of the values with some air; never empty."""
    low, high = min(values), max(values)
    air = (high - low) * margin or abs(high) * margin or 1.0
    return low - air, high + air


def frame(
    x: Scale,
    y: Scale,
    *,
    x_words: Callable[[float], str],
    y_words: Callable[[float], str],
    x_label: str = "",
    y_label: str = "",
    num_x: int = 6,
    num_y: int = 5,
) -> Markup:
    """Grid lines, tick labels and the names of both axes; `y.start` is the bottom."""
    parts = [Markup("")]
    for value in y.ticks(num_y):
        parts.append(tag("line", x1=x.start, x2=x.end, y1=y(value), y2=y(value), class_="grid"))
        parts.append(text(x.start - 10, y(value) + 4, y_words(value), anchor="end"))
    for value in x.ticks(num_x):
        parts.append(text(x(value), y.start + 20, x_words(value), anchor="middle"))
    parts.append(tag("line", x1=x.start, x2=x.end, y1=y.start, y2=y.start, class_="axis"))
    parts.append(text(x.start - 34, y.end - 14, y_label, "label"))
    parts.append(text(x.end, y.start + 40, x_label, "label", anchor="end"))
    return Markup("").join(parts)


def apart(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The places moved as little as it takes for labels `gap` high not to overlap."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = list(places)
    for before, i in zip([None, *order], order, strict=False):
        moved[i] = max(moved[i], low if before is None else moved[before] + gap)
    for after, i in zip([None, *reversed(order)], reversed(order), strict=False):
        moved[i] = min(moved[i], high if after is None else moved[after] - gap)
    return moved


def _round_step(raw: float) -> float:
    size = 10.0 ** math.floor(math.log10(raw))
    return next(factor * size for factor in (1, 2, 5, 10) if factor * size >= raw * 0.999)


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))


def _short(value: object) -> object:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value
