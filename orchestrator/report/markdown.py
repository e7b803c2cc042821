"""The table of an ablation in Markdown, for a README, an issue or a lab book."""

from __future__ import annotations

import re

from orchestrator.report.paper import PaperRow, PaperTable


def markdown(table: PaperTable) -> str:
    """The whole of `report.md`."""
    heads = ["", *map(escaped, table.factors), "n", escaped(table.unit), escaped(table.gap_unit), "interval"]
    aligned = ["---", *([":-:"] * len(table.factors)), "--:", "--:", "--:", ":--"]
    rows = [_cells(row) for row in table.rows]
    if table.ceiling is not None:
        rows.append([f"*{first}*" if i == 0 else first for i, first in enumerate(_cells(table.ceiling))])
    warning = [f"**{escaped(table.unfinished)}**", ""] if table.unfinished else []
    apart = [f"The last row, *{escaped(table.ceiling.name)}*, is the ceiling and no rival."] if table.ceiling else []
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
        *[f"![{name}]({file}.svg)\n" for name, file in (("differences", "forest"), ("learning curves", "curves"))],
    ]
    return "\n".join(lines)


def escaped(words: str) -> str:
    """So that it is read as it is written, also in a table."""
    words = re.sub(r"\s+", " ", words).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", words)


def _cells(row: PaperRow) -> list[str]:
    mean = f"{row.mean} ± {row.half}" if row.half else row.mean
    n = f"{row.n}, {row.failed}" if row.failed else row.n
    return [*map(escaped, (row.name, *row.levels, n, mean, row.gap + row.star, row.interval))]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
