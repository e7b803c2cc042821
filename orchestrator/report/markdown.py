"""The table of an ablation in Markdown, for a README, an issue or a lab book."""

from __future__ import annotations

import re
from collections.abc import Collection

from orchestrator.report.paper import PaperRow, PaperTable

PICTURES = {
    "forest.svg": "differences to the reference",
    "curves.svg": "learning curves",
    "classes.svg": "differences of each class",
    "masks.svg": "pseudo masks against the objective",
}


def markdown(table: PaperTable, figures: Collection[str] = ()) -> str:
    """The whole of `report.md`. `figures`: names of the files beside it."""
    heads = [
        "",
        *map(escaped, table.factors),
        "n",
        escaped(table.unit),
        escaped(table.gap_unit),
        "interval",
        escaped(table.p_title),
    ]
    aligned = ["---", *([":-:"] * len(table.factors)), "--:", "--:", "--:", ":--", "--:"]
    rows = [_cells(row) for row in table.rows]
    if table.ceiling is not None:
        rows.append([f"*{first}*" if i == 0 else first for i, first in enumerate(_cells(table.ceiling))])
    warning = [f"**{escaped(table.unfinished)}**", ""] if table.unfinished else []
    apart = (
        [f"The last row, *{escaped(table.ceiling.name)}*, is the ceiling and no rival: its p is not corrected."]
        if table.ceiling
        else []
    )
    lines = [
        f"# {escaped(table.study)}",
        "",
        *warning,
        _line(heads),
        _line(aligned),
        *map(_line, rows),
        "",
        " ".join([*map(escaped, table.caption), *apart]),
        "",
        *[f"![{words}]({file})\n" for file, words in PICTURES.items() if file in figures],
    ]
    return "\n".join(lines)


def escaped(words: str) -> str:
    """So that it is read as it is written, also in a table."""
    words = re.sub(r"\s+", " ", words).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", words)


def _cells(row: PaperRow) -> list[str]:
    mean = f"{row.mean} ± {row.half}" if row.half else row.mean
    n = f"{row.n}, {row.failed}" if row.failed else row.n
    return [*map(escaped, (row.name, *row.levels, n, mean, row.gap, row.interval, row.p + row.star))]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
