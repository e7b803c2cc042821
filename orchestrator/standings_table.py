"""Studies side by side, in the terminal and as rows of a CSV file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from orchestrator.console import short
from orchestrator.standings import Entry, Standing
from orchestrator.units import show


def standings_table(entries: Sequence[Entry], metric: str) -> Table:
    """A row a standing. A letter marks a study of another protocol, a degree sign a row judged otherwise than its own
    study's first one."""
    any_failed = any(row.failed for entry in entries for row in entry.standings)
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    columns = ["study", "row", "", "n", f"{short(metric)}, ± 95 %", "steps", *["failed"] * any_failed]
    for name in columns:
        table.add_column(name, justify="right" if name in ("n", "failed", "steps") else "left", no_wrap=name != "row")
    marks = _marks(entries)
    for entry in entries:
        for i, row in enumerate(entry.standings):
            named = f"{entry.name}{marks.get(entry.name, '')}" if i == 0 else ""
            failed = [str(row.failed or "")] * any_failed
            cells = [named, f"{row.name}{'°' if row.differs else ''}", row.role if row.role != "cell" else ""]
            cells += [str(len(row.runs)), _value(row, metric), ", ".join(f"{n:,}" for n in row.steps), *failed]
            table.add_row(*map(Text, cells))
    return table


def footnotes(entries: Sequence[Entry]) -> list[str]:
    """What the marks stand for, and what must be known to read the numbers."""
    marks = _marks(entries)
    said = [
        f"{marks[entry.name].strip()} another protocol: {'; '.join(entry.unlike)}" for entry in entries if entry.unlike
    ]
    for entry in entries:
        said += [f"° {entry.name}, {row.name}: {'; '.join(row.differs)}" for row in entry.standings if row.differs]
        said += entry.notes
    lengths = {row.steps for entry in entries for row in entry.standings if row.steps}
    if len(lengths) > 1:
        said.append("Unequal budgets: see steps.")
    return [*said, "Rows of different studies are means side by side; no difference between them is tested."]


def sheet(entries: Sequence[Entry], metric: str) -> list[dict[str, Any]]:
    """Raw numbers, and the runs behind each."""
    rows = []
    for entry in entries:
        for row in entry.standings:
            value = row.value
            low, high = (value and value.interval) or (None, None)
            rows.append(
                {
                    "study": entry.name,
                    "row": row.name,
                    "role": row.role,
                    "metric": metric,
                    "n": len(row.runs),
                    "mean": value and value.mean,
                    "sd": value and value.sd,
                    "low": low,
                    "high": high,
                    "failed": row.failed,
                    "steps": " ".join(map(str, row.steps)),
                    "unlike the first study": "; ".join(entry.unlike),
                    "unlike its own study": "; ".join(row.differs),
                    "runs": " ".join(row.runs),
                }
            )
    return rows


def _marks(entries: Sequence[Entry]) -> dict[str, str]:
    odd = [entry.name for entry in entries if entry.unlike]
    return {name: f" ({chr(ord('a') + i % 26)})" for i, name in enumerate(odd)}


def _value(row: Standing, metric: str) -> str:
    if row.value is None:
        return "-"
    mean = show(metric, row.value.mean)
    return mean if row.value.half is None else f"{mean} ± {show(metric, row.value.half)}"
