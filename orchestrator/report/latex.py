"""The table of an ablation in LaTeX: `\\usepackage{booktabs,graphicx}` and `\\input{table.tex}` is all it needs."""

from __future__ import annotations

import re

from orchestrator.report.paper import PaperRow, PaperTable
from orchestrator.report.spelling import escaped

NO_WIDER = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
"""A table that is wider than the text is made as wide."""


def latex(table: PaperTable) -> str:
    """The whole of `table.tex`."""
    columns = f"l{'c' * len(table.factors)}rrrlr"
    heads = [
        "",
        *map(escaped, table.factors),
        "$n$",
        escaped(table.unit),
        escaped(table.gap_unit),
        "interval",
        escaped(table.p_title),
    ]
    apart = [r"\midrule", _line(table.ceiling)] if table.ceiling is not None else []
    warning = [rf"\textbf{{{escaped(table.unfinished)}}}"] if table.unfinished else []
    ceiling = (
        [f"Below the line: {escaped(table.ceiling.name)}, the ceiling; its p is not corrected."]
        if table.ceiling is not None
        else []
    )
    caption = " ".join([*warning, *map(escaped, table.caption), *ceiling])
    lines = [
        r"% \usepackage{booktabs,graphicx}",
        r"\providecommand{\present}{\ensuremath{\surd}}% or, with amssymb: \newcommand{\present}{\checkmark}",
        r"\begin{table}[t]",
        r"\centering\small",
        rf"\caption{{{caption}}}",
        rf"\label{{tab:{re.sub('[^A-Za-z0-9]+', '-', table.study)}}}",
        NO_WIDER,
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        rf"{' & '.join(heads)} \\",
        r"\midrule",
        *map(_line, table.rows),
        *apart,
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _line(row: PaperRow) -> str:
    mean = rf"{escaped(row.mean)} $\pm$ {escaped(row.half)}" if row.half else escaped(row.mean)
    n = escaped(row.n) + (rf" ({escaped(row.failed)})" if row.failed else "")
    cells = [escaped(row.name), *map(escaped, row.levels), n, mean, *map(escaped, (row.gap, row.interval))]
    return rf"{' & '.join([*cells, escaped(row.p) + escaped(row.star)])} \\"
