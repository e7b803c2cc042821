"""Which metrics are shares of one: they are written in percent, and their differences in points, hundredths of one."""

from __future__ import annotations

SHARES = {"miou", "iou", "accuracy", "coverage", "precision", "recall", "target_accuracy", "plain_accuracy"}


def is_share(metric: str) -> bool:
    return any(part in SHARES for part in metric.split("/"))


def scale_of(metric: str) -> float:
    """What a value is multiplied by where it is written."""
    return 100.0 if is_share(metric) else 1.0


def show(metric: str, value: float | None) -> str:
    """A share such as an IoU in percent with one decimal, as papers print it; another number with four digits."""
    if value is None:
        return "-"
    return f"{100 * value:.1f}" if is_share(metric) else f"{value:.4g}"


def show_end(metric: str, value: float) -> str:
    """An end of an interval, with its sign: an end that rounds to zero has one more decimal, as what matters is the
    side of zero on which it lies."""
    written = show(metric, abs(value))
    if is_share(metric) and float(written) == 0 and value:
        written = f"{100 * abs(value):.2f}"
    return f"{'-' if value < 0 else '+'}{written}" if value else written
