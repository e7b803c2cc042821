"""The table of an ablation as a paper prints it: what stands in each row and what the caption has to say.

Markdown and LaTeX only spell it; every number of it is in `cells.csv`, and the runs behind it are in `runs.csv`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.analysis import Analysis
from orchestrator.comparison import Cell, Comparison
from orchestrator.failures import adjustment_words
from orchestrator.notes import notes
from orchestrator.report.facts import Facts
from orchestrator.report.wording import count, difference, interval, listed, metric_title, metric_unit, metric_value
from orchestrator.results import ENDED
from orchestrator.signs import ADJUSTED
from orchestrator.units import is_share

CHECK = "✓"
ABSENT = ("off", "none", "no", "false")
"""Levels that take a factor away: nothing is printed for them."""
NO_LEVEL = "–"
CORRECTIONS = {"holm": ["(Holm)"], "bh": ["(BH)"], "none": []}


@dataclass(frozen=True)
class PaperRow:
    name: str
    levels: tuple[str, ...]
    """A check mark, nothing, or the level's name, by factor."""
    n: str
    """`3 of 4†`: the sign is that of runs which memory made smaller."""
    mean: str
    half: str
    """`0.8` of `57.2 ± 0.8`; empty without an interval."""
    gap: str
    """With `~` if it is that of a mixed model."""
    interval: str
    """`+1.0 to +5.4`."""
    p: str
    """After the correction."""
    star: str
    """Only where the comparison gives one."""
    failed: str
    """`2 failed`; empty if none did."""


@dataclass(frozen=True)
class PaperTable:
    study: str
    factors: tuple[str, ...]
    unit: str
    """Of the objective, as a column's head: `mIoU, %`."""
    gap_unit: str
    p_title: str
    """`p` with the name of its correction."""
    rows: tuple[PaperRow, ...]
    ceiling: PaperRow | None
    """Stands apart: it shows what there is to gain and is no rival."""
    caption: tuple[str, ...]
    """Sentences."""
    unfinished: str
    """`UNFINISHED: 3 of 36 runs have not ended.`; empty if all have."""


def paper_table(facts: Facts, comparison: Comparison, unfinished: str, said: Sequence[str] = ()) -> PaperTable:
    """The reference first, then the cells in the order of the file. `said`: what else the caption says."""
    factors = factors_of(facts.request)
    cells = sorted(comparison.cells, key=lambda cell: cell is not comparison.reference)
    rows = {cell.name: _row(cell, comparison, facts.request, factors) for cell in cells}
    ceiling = comparison.ceiling
    metric = comparison.objective.metric
    return PaperTable(
        study=facts.folder.name,
        factors=tuple(factors),
        unit=metric_unit(metric),
        gap_unit=f"Δ{', points' if is_share(metric) else ''}",
        p_title=p_title(comparison.analysis),
        rows=tuple(rows[cell.name] for cell in cells if cell is not ceiling),
        ceiling=None if ceiling is None else rows[ceiling.name],
        caption=(*_caption(facts, comparison, factors), *said),
        unfinished=unfinished,
    )


def unfinished(facts: Facts, comparison: Comparison | None) -> str:
    """What every export of a study says that is not over; empty if it is."""
    wanted = max(facts.request["planned"], len(facts.records))
    if comparison is not None:  # one that adds blocks does not need all that it planned
        asked = {digest for row in facts.request["runs"].values() for digest in row[: comparison.blocks]}
        wanted = len(asked | {record.fingerprint for record in facts.records})
    ended = sum(record.state in ENDED for record in facts.records)
    if ended < wanted:
        return f"UNFINISHED: {ended} of {count(wanted, 'run')} {'has' if ended == 1 else 'have'} ended."
    if comparison is not None and comparison.looks is not None and comparison.looks.undecided:
        return f"UNFINISHED: more blocks are due for {listed(comparison.looks.undecided)}."
    return ""


def factors_of(request: Mapping[str, Any]) -> dict[str, str | None]:
    """Of the factors that the cells' levels name: the first level, that of the complete method, if the file says."""
    declared = request.get("factors") or {}
    named = dict.fromkeys(factor for levels in (request.get("levels") or {}).values() for factor in levels)
    return {factor: next(map(str, declared.get(factor) or ()), None) for factor in named}


def level_mark(level: str | None, first: str | None) -> str:
    """A check mark for the level of the complete method, nothing for what takes the factor away, else its name."""
    if level is None:
        return NO_LEVEL
    if level == first:
        return CHECK
    return "" if level.lower() in ABSENT else level


def marks(cell: str, request: Mapping[str, Any], factors: Mapping[str, str | None]) -> tuple[str, ...]:
    """Of one cell, by factor. A cell that no design made has no levels."""
    levels = (request.get("levels") or {}).get(cell) or {}
    return tuple(level_mark(levels.get(factor), first) for factor, first in factors.items())


def _row(cell: Cell, comparison: Comparison, request: Mapping[str, Any], factors: Mapping[str, str | None]) -> PaperRow:
    metric, versus, evidence = comparison.objective.metric, cell.versus, cell.evidence
    modeled = " ~" if evidence is not None and evidence.basis == "mixed model" else ""
    half = None if cell.value is None else cell.value.half
    return PaperRow(
        name=cell.name,
        levels=marks(cell.name, request, factors),
        n=n_of_blocks(cell, comparison),
        mean=metric_value(metric, cell.value and cell.value.mean),
        half="" if half is None else metric_value(metric, half),
        gap="" if versus is None else difference(metric, versus.mean) + modeled,
        interval=interval(metric, (versus and versus.interval) or ()),
        p="" if evidence is None or evidence.p_adjusted is None else p_words(evidence.p_adjusted),
        star="*" * cell.is_starred,
        failed=f"{cell.failed} failed" if cell.failed else "",
    )


def _caption(facts: Facts, comparison: Comparison, factors: Mapping[str, str | None]) -> list[str]:
    coverage, metric, reference = (
        f"{100 * comparison.analysis.interval:g} %",
        comparison.objective.metric,
        comparison.reference.name,
    )
    run = facts.request["run"]
    part = facts.request.get("part") or run["evaluate"]["part"]  # what follows a search may be judged by another one
    where = f"on the {part} part" + (f" of {run['data']['name']}" if "data" in run else "")
    said = [
        f"{metric_title(metric)} {where}: mean ± half the {coverage} interval over n blocks, after the last step.",
        f"Δ: mean difference to {reference} inside the blocks, with its {coverage} interval (Student's t).",
        f"A block: {_blocks(facts.request['blocks'])}.",
    ]
    if known := [f"{factor} {first}" for factor, first in factors.items() if first is not None]:
        said.append(f"{CHECK}: {listed(known)}.")
    said += notes(comparison)
    if small := [cell.name for cell in comparison.cells if cell.is_small and cell is not comparison.ceiling]:
        said.append(f"Shown to differ from {reference} by less than {comparison.margin_words}: {listed(small)}.")
    if failed := [f"{cell.name} ({cell.failed})" for cell in comparison.cells if cell.failed]:
        said.append(f"Failed runs have no value and count in no mean: {listed(failed)}.")
    said += adjusted_words(comparison.cells)
    said.append(f"Study {facts.folder.name}, identity {facts.request['identity']}; its runs are listed in runs.csv.")
    return said


def p_title(analysis: Analysis) -> str:
    return " ".join(["p", *CORRECTIONS[analysis.correction]])


def n_of_blocks(cell: Cell, comparison: Comparison) -> str:
    """`4`, `2 of 4`, `4†`."""
    n = len(cell.complete)
    written = str(n) if n >= comparison.blocks else f"{n} of {comparison.blocks}"
    return written + ADJUSTED * bool(cell.adjusted)


def adjusted_words(cells: Iterable[Cell]) -> list[str]:
    """What was done about the runs whose memory ran out; what was done alike is said once."""
    alike: dict[str, dict[str, None]] = {}
    for cell in cells:
        for run in cell.adjusted:
            if run.adjusted is not None:  # equal cells share their runs
                alike.setdefault(adjustment_words(run.adjusted), {})[f"{run.label}{ADJUSTED}"] = None
    return [f"{listed(labels)}: {words}." for words, labels in alike.items()]


def p_words(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _blocks(blocks: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Sequence[Any]]]) -> str:
    """`seed 0, 1, 2 with split.seed 0, 1, 2`; sections that are crossed are joined by `times`."""
    sections = [blocks] if isinstance(blocks, Mapping) else blocks
    said = [
        " with ".join(f"{path} {', '.join(map(str, values))}" for path, values in section.items())
        for section in sections
    ]
    return " times ".join(said)
