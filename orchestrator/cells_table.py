"""What the terminal says of an ablation at its end: a row a cell, how cells were judged, and what there was to gain."""

from __future__ import annotations

from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from orchestrator.comparison import ENOUGH_HEADROOM, Cell, Comparison
from orchestrator.console import duration, short
from orchestrator.failures import counted
from orchestrator.stats import Estimate
from orchestrator.units import show, show_end

WIDTH = 120
"""What the table needs. A narrower terminal breaks its lines, which is better than to break its words."""
STYLES = {"better": "green", "worse": "red", "reference": "bold"}
CORRECTIONS = {"holm": "Holm", "bh": "BH", "none": ""}


def cells_table(comparison: Comparison) -> Table:
    """In the order of the file. What failed has a column if something did, and when a cell was decided if looks were
    taken."""
    correction = CORRECTIONS[comparison.analysis.correction]
    columns: dict[str, JustifyMethod] = {
        "cell": "left",
        "n": "right",
        f"{short(comparison.objective.metric)}, ± {100 * comparison.analysis.interval:g} %": "left",
        "difference": "left",
        f"p, {correction}" if correction else "p": "left",
        "": "left",
    }
    columns |= {"decided": "left"} if comparison.looks else {}
    columns |= {"time a run": "right"}
    columns |= {"failed": "left"} if any(cell.failed for cell in comparison.cells) else {}
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name, justify in columns.items():
        table.add_column(name, justify=justify, no_wrap=True)
    for cell in comparison.cells:
        found = _row(cell, comparison)
        row = [found.get(name.partition(",")[0], found["mean"]) for name in columns]
        table.add_row(*map(Text, row), style=STYLES.get(cell.verdict, ""))
    return table


def headroom_line(comparison: Comparison) -> Text | None:
    """What there is to gain, and a warning if it is too little. None if no ceiling is declared."""
    ceiling, room = comparison.ceiling, comparison.headroom
    if ceiling is None:
        return None
    if room is None:
        return Text(f"headroom unknown: {ceiling.name} and {comparison.baseline.name} share no complete block")
    said = f"headroom {written_difference(comparison.objective.metric, room)}: {ceiling.name} against"
    line = Text(f"{said} {comparison.baseline.name}")
    if comparison.has_headroom is False:
        line.append(
            f"\nLess than {100 * ENOUGH_HEADROOM:.0f} points of mIoU: labels are hardly what limits this schedule. "
            "Fewer labels, longer training or other data would leave more to gain.",
            style="yellow",
        )
    return line


def written_difference(metric: str, versus: Estimate) -> str:
    """`+3.2 (+1.0 to +5.4)`."""
    if versus.interval is None:
        return signed(metric, versus.mean)
    low, high = (show_end(metric, end) for end in versus.interval)
    return f"{signed(metric, versus.mean)} ({low} to {high})"


def signed(metric: str, value: float) -> str:
    written = show(metric, abs(value))
    return written if float(written) == 0 else f"{'+' if value > 0 else '-'}{written}"


def _row(cell: Cell, comparison: Comparison) -> dict[str, str]:
    metric, n, evidence = comparison.objective.metric, len(cell.complete), cell.evidence
    gap = decided = p = ""
    if evidence is not None:
        gap = written_difference(metric, evidence.versus) + (" ~" if evidence.basis == "mixed model" else "")
        gap += f", n {evidence.versus.n}" if evidence.versus.n < n else ""
        p = "" if evidence.p_adjusted is None else _p(evidence.p_adjusted) + "*" * cell.is_starred
        after = evidence.decided_after
        is_open = evidence.basis == "repeated looks" and after is None
        decided = "open" if is_open else "" if after is None else f"after {after}"
    return {
        "cell": cell.name,
        "n": (str(n) if n >= comparison.blocks else f"{n} of {comparison.blocks}") + "†" * bool(cell.adjusted),
        "mean": _mean(metric, cell.value),
        "difference": gap,
        "p": p,
        "": _verdict(cell, comparison),
        "decided": decided,
        "time a run": "" if cell.seconds is None else duration(cell.seconds),
        "failed": counted(cell.failures),
    }


def _mean(metric: str, value: Estimate | None) -> str:
    if value is None:
        return "-"
    mean = show(metric, value.mean)
    return mean if value.half is None else f"{mean} ± {show(metric, value.half)}"


def _verdict(cell: Cell, comparison: Comparison) -> str:
    """Which says how small, if it is."""
    if cell.verdict == "smaller than the margin":
        return f"smaller than {comparison.margin_words}"
    return f"{cell.verdict}, by less than {comparison.margin_words}" if cell.is_small else cell.verdict


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"
