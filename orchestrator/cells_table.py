"""What the terminal says of an ablation at its end: a row a cell, and whether there was anything to gain."""

from __future__ import annotations

from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from orchestrator.comparison import ENOUGH_HEADROOM, Cell, Comparison
from orchestrator.console import duration, short, show
from orchestrator.stats import COVERAGE, Estimate

WIDTH = 120
"""What the table needs. A narrower terminal breaks its lines, which is better than to break its words."""
STYLES = {"better": "green", "worse": "red", "reference": "bold"}


def cells_table(comparison: Comparison) -> Table:
    """In the order of the file. What failed has a column if something did."""
    any_failed = any(cell.failed for cell in comparison.cells)
    columns: tuple[tuple[str, JustifyMethod], ...] = (
        ("cell", "left"),
        ("n", "right"),
        (f"{short(comparison.objective.metric)}, ± {100 * COVERAGE:.0f} %", "left"),
        ("difference", "left"),
        ("", "left"),
        ("time a run", "right"),
        *((("failed", "right"),) if any_failed else ()),
    )
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name, justify in columns:
        table.add_column(name, justify=justify, no_wrap=True)
    for cell in comparison.cells:
        failed = [str(cell.failed) if cell.failed else ""] if any_failed else []
        table.add_row(*map(Text, [*_row(cell, comparison), *failed]), style=STYLES.get(cell.verdict, ""))
    return table


def headroom_line(comparison: Comparison) -> Text | None:
    """What there is to gain, and a warning if it is too little. None if no ceiling is declared."""
    ceiling, room = comparison.ceiling, comparison.headroom
    if ceiling is None:
        return None
    if room is None:
        return Text(f"headroom unknown: {ceiling.name} and {comparison.reference.name} share no complete block")
    said = f"headroom {_difference(comparison.objective.metric, room)}: {ceiling.name} against"
    line = Text(f"{said} {comparison.reference.name}")
    if comparison.has_headroom is False:
        line.append(
            f"\nLess than {100 * ENOUGH_HEADROOM:.0f} points of mIoU: no method can show a gain here. Fewer labels, "
            "longer training or other data would leave more to gain.",
            style="yellow",
        )
    return line


def _row(cell: Cell, comparison: Comparison) -> list[str]:
    metric, n = comparison.objective.metric, len(cell.complete)
    versus = "" if cell.versus is None else _difference(metric, cell.versus)
    if cell.versus is not None and cell.versus.n < n:
        versus += f", n {cell.versus.n}"
    return [
        cell.name,
        str(n) if n == comparison.blocks else f"{n} of {comparison.blocks}",
        _mean(metric, cell.value),
        versus,
        cell.verdict,
        "" if cell.seconds is None else duration(cell.seconds),
    ]


def _mean(metric: str, value: Estimate | None) -> str:
    if value is None:
        return "-"
    mean = show(metric, value.mean)
    return mean if value.half is None else f"{mean} ± {show(metric, value.half)}"


def _difference(metric: str, versus: Estimate) -> str:
    """`+3.2 (+1.0 to +5.4)`."""
    if versus.interval is None:
        return signed(metric, versus.mean)
    low, high = (signed(metric, end) for end in versus.interval)
    return f"{signed(metric, versus.mean)} ({low} to {high})"


def signed(metric: str, value: float) -> str:
    written = show(metric, abs(value))
    return written if float(written) == 0 else f"{'+' if value > 0 else '-'}{written}"
