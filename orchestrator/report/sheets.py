"""The numbers of a study as CSV, a row a cell and a row a run. Raw: an mIoU is a share of one, a time is in seconds."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.comparison import Cell, Comparison
from orchestrator.report.facts import Facts
from orchestrator.report.paper import factors_of
from orchestrator.results import TrialRecord
from orchestrator.stats import estimate
from orchestrator.units import scale_of

Row = Mapping[str, Any]
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet runs a text that begins so."""


def written(rows: Iterable[Row]) -> str:
    """All keys of all rows are columns, in the order in which they first come. RFC 4180, lines end in a line feed."""
    rows = list(rows)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(map(_plain, columns))
    lines.writerows([_plain(row.get(column)) for column in columns] for row in rows)
    return text.getvalue()


def cell_rows(facts: Facts, comparison: Comparison, unfinished: str) -> list[dict[str, Any]]:
    """Of an ablation, in the order of the file."""
    levels = facts.request.get("levels") or {}
    return [
        {
            "study": facts.folder.name,
            "status": unfinished or "complete",
            "cell": cell.name,
            "role": _role(cell, comparison),
            **{f"factor.{factor}": (levels.get(cell.name) or {}).get(factor) for factor in factors_of(facts.request)},
            "metric": comparison.objective.metric,
            "blocks": comparison.blocks,
            "failed": cell.failed,
            "adjusted": len(cell.adjusted),
            **_value(cell),
            **_versus(cell),
            "correction": comparison.analysis.correction,
            "margin": _margin(comparison),
            "verdict": cell.verdict,
            "small": cell.is_small,
            "star": cell.is_starred,
            **_spent(facts, cell),
            "runs": " ".join(run.fingerprint for run in cell.complete.values()),
        }
        for cell in comparison.cells
    ]


def _spent(facts: Facts, cell: Cell) -> dict[str, float | None]:
    """By a complete run, without and with its stages; by all runs of the cell, also those that failed."""
    own = estimate([run.seconds for run in cell.complete.values()])
    seconds = sum(run.seconds_spent for run in cell.runs if run is not None)
    alone = {"seconds": own and own.mean, "seconds_in_all": cell.seconds}
    return {**alone, "gpu_hours": facts.spending.gpu_hours(seconds), "price": facts.spending.price(seconds)}


def run_rows(facts: Facts, comparison: Comparison | None, unfinished: str) -> list[dict[str, Any]]:
    """Of an ablation a row for each cell in each block, also for a run that has not begun; equal cells share theirs.

    Of anything else a row a run.
    """
    if comparison is None:
        return [_run_row(facts, record, unfinished, {"run": facts.name(record)}) for record in facts.records]
    found = {record.fingerprint: record for record in facts.records}
    levels = facts.request.get("levels") or {}
    factors = factors_of(facts.request)
    rows = []
    for cell, digests in facts.request["runs"].items():
        of_cell = {f"factor.{factor}": (levels.get(cell) or {}).get(factor) for factor in factors}
        for block, digest in enumerate(digests):
            known = {"cell": cell, "block": block, **of_cell}
            if digest in found:
                rows.append(_run_row(facts, found[digest], unfinished, known))
            elif block < comparison.blocks:
                rows.append(_head(facts, unfinished, digest, known) | {"state": "not begun"})
    return rows


def _run_row(facts: Facts, record: TrialRecord, unfinished: str, known: Row) -> dict[str, Any]:
    made = facts.environments[record.fingerprint]
    return {
        **_head(facts, unfinished, record.fingerprint, known),
        "state": record.state,
        "failure": (record.failure or {}).get("reason"),
        "halvings": (record.adjusted or {}).get("halvings"),
        **{f"change.{path}": value for path, value in record.params.items()},
        "step": record.step,
        "steps": record.steps,
        "steps_in_all": record.steps_in_all,
        "seconds": record.seconds,
        "seconds_in_all": record.seconds_in_all,
        "device": made.get("device"),
        "data": made.get("data"),
        "commit": (made.get("git") or {}).get("sha"),
        "objective": record.objective,
        **record.metrics,
    }


def _head(facts: Facts, unfinished: str, digest: str, known: Row) -> dict[str, Any]:
    return {"study": facts.folder.name, "status": unfinished or "complete", "fingerprint": digest, **known}


def _role(cell: Cell, comparison: Comparison) -> str:
    return "reference" if cell is comparison.reference else "ceiling" if cell is comparison.ceiling else "cell"


def _value(cell: Cell) -> dict[str, Any]:
    value = cell.value
    low, high = (value and value.interval) or (None, None)
    return {
        "n": 0 if value is None else value.n,
        "mean": value and value.mean,
        "sd": value and value.sd,
        "low": low,
        "high": high,
    }


def _margin(comparison: Comparison) -> float | None:
    """In the metric's own unit."""
    margin = comparison.analysis.margin
    return None if margin is None else margin / scale_of(comparison.objective.metric)


def _versus(cell: Cell) -> dict[str, Any]:
    versus, evidence = cell.versus, cell.evidence
    low, high = (versus and versus.interval) or (None, None)
    effect = evidence and evidence.effect
    g_low, g_high = (effect and effect.interval) or (None, None)
    bca_low, bca_high = (evidence and evidence.bootstrap.interval) or (None, None)
    return {
        "pairs": 0 if versus is None else versus.n,
        "difference": versus and versus.mean,
        "difference_low": low,
        "difference_high": high,
        "basis": evidence and evidence.basis,
        "p": evidence and evidence.p,
        "p_adjusted": evidence and evidence.p_adjusted,
        "p_smaller": evidence and evidence.p_smaller,
        "p_smaller_adjusted": evidence and evidence.p_smaller_adjusted,
        "p_sign_flip": evidence and evidence.p_sign_flip,
        "p_signed_rank": evidence and evidence.p_signed_rank,
        "hedges_g": effect and effect.g,
        "hedges_g_low": g_low,
        "hedges_g_high": g_high,
        "bca_low": bca_low,
        "bca_high": bca_high,
        "decided_after": evidence and evidence.decided_after,
    }


def _plain(value: Any) -> Any:
    """A text that a spreadsheet would run gets an apostrophe, which shows it as it is."""
    if not isinstance(value, (str, list, tuple, dict)):
        return value
    text = str(value)
    return f"'{text}" if text.startswith(FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
