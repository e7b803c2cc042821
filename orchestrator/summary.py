"""`summary.json`: the study in one file for whoever wants to read it, made from the records and nothing else."""

from __future__ import annotations

import json
import operator
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.budgets import Budgets, TunedRuns, budgets
from orchestrator.comparison import Cell, Comparison, asked_for, compare
from orchestrator.confirmation import Confirmation, Winner, confirmation
from orchestrator.evidence import Evidence
from orchestrator.factorial import FactorEffect, half_normal
from orchestrator.folder import StudyFolder, plain, write_atomic
from orchestrator.image_bootstrap import Gap, ImageGaps, image_gaps, with_gaps
from orchestrator.results import ENDED, Records, TrialRecord, best, class_names, objectives_of
from orchestrator.stats import Estimate

ROW = ("fingerprint", "number", "role", "label", "params", "seed", "state", "objective", "step", "steps", "seconds")
ROW = (*ROW, "mlflow_run_id", "cell", "block", "reused_from")


def summarize(folder: StudyFolder) -> dict[str, Any]:
    """The content of `summary.json`."""
    return json.loads(Summary(folder).text())


def write_summary(folder: StudyFolder) -> None:
    Summary(folder).write()


class Summary:
    """Writes `summary.json` again and again, and makes anew only what has changed: a study may have 10,000 runs."""

    def __init__(self, folder: StudyFolder) -> None:
        self.folder = folder
        self._records = Records(folder)
        self._tuned = TunedRuns(folder)
        self._request: tuple[tuple[int, ...], dict[str, Any]] = ((), {})
        self._rows: dict[str, tuple[TrialRecord, str]] = {}
        self._cells: tuple[list[TrialRecord], dict[str, Any], dict[str, Any]] = ([], {}, {})

    def write(self) -> None:
        write_atomic(self.folder.summary, self.text())

    def records(self) -> list[TrialRecord]:
        """What the study asks for, as it is now."""
        return asked_for(self._asked(), self._records.load())

    def text(self) -> str:
        request, records = self._asked(), self.records()
        content = _overview(self.folder.name, request, records)
        content["reused"] = dict(Counter(record.reused_from for record in records if record.reused_from))
        if request["kind"] == "ablate":
            content |= self._comparison(request, records)
        if request.get("references"):
            content["budgets"] = _budgets(budgets(self._tuned, request, records))
        if request.get("confirm"):
            content["confirmation"] = self._confirmed(confirmation(request, records))
        rows = ",\n    ".join(self._row(record) for record in records)
        text = json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False)
        return text.replace('"trials": []', f'"trials": [\n    {rows}\n  ]' if rows else '"trials": []', 1) + "\n"

    def _asked(self) -> dict[str, Any]:
        """The study's request, which `claim` replaces as a whole."""
        try:
            found = os.stat(self.folder.study_yaml)
        except FileNotFoundError:
            return self.folder.request()  # which says what is missing
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        if stamp != self._request[0]:
            self._request = (stamp, self.folder.request())
        return self._request[1]

    def _row(self, record: TrialRecord) -> str:
        known, text = self._rows.get(record.fingerprint, (None, ""))
        if known is not record:
            text = json.dumps(plain(_row(record)), ensure_ascii=False, allow_nan=False)
            self._rows[record.fingerprint] = (record, text)
        return text

    def _comparison(self, request: dict[str, Any], records: list[TrialRecord]) -> dict[str, Any]:
        """Runs that have no end yet change nothing in it."""
        ended = [record for record in records if record.state in ENDED]
        known, asked, found = self._cells
        is_known = asked is request and len(known) == len(ended) and all(map(operator.is_, known, ended))
        if not is_known:
            comparison = compare(request, records)
            found = compared(comparison, self._over_images(comparison) if len(ended) >= request["planned"] else {})
            self._cells = (ended, request, found)
        return found

    def _confirmed(self, found: Confirmation | str | None) -> dict[str, Any] | None:
        """null while the search goes on."""
        if found is None:
            return None
        if isinstance(found, str):
            return {"refusal": found}
        is_over = all(len(cell.complete) + cell.failed == len(cell.runs) for cell in found.comparison.cells)
        return {
            "winners": [_winner(winner) for winner in found.winners],
            **compared(found.comparison, self._over_images(found.comparison) if is_over else {}),
            "parts": {"search": found.chosen_by, "fresh": found.part},
            "is_current": found.is_current,
        }

    def _over_images(self, comparison: Comparison) -> dict[str, Any]:
        """By cell. It reads the counts of every run, so it waits until no run is missing."""
        over = image_gaps(self.folder, comparison, comparison.cells)
        runs = [*comparison.reference.complete.values()]
        names = class_names(self.folder.trial(runs[0].fingerprint)) if with_gaps(over) else []
        return {cell: _images(gaps, names) for cell, gaps in over.items()}


def _overview(name: str, request: dict[str, Any], records: list[TrialRecord]) -> dict[str, Any]:
    """All but the comparison, and without the trials' rows."""
    goals = objectives_of(request)
    states = [record.state for record in records]
    winner = best(records, goals[0])
    overview = {
        "study": name,
        "kind": request["kind"],
        "objective": {"metric": goals[0].metric, "mode": goals[0].mode},
        "counts": {"planned": request["planned"], **{state: states.count(state) for state in ENDED}},
        "trials": [],
        "best": None if winner is None else _row(winner),
    }
    if len(goals) > 1:
        overview["objectives"] = [{"metric": goal.metric, "mode": goal.mode} for goal in goals]
    return overview


def _row(record: TrialRecord) -> dict[str, Any]:
    row = {key: getattr(record, key) for key in ROW}
    noted = {"failure": record.failure, "adjusted": record.adjusted}
    return {**row, **{key: value for key, value in noted.items() if value}}


def compared(comparison: Comparison, over_images: Mapping[str, Any]) -> dict[str, Any]:
    """The cells, `over_images` by their names; the headroom, if there is a ceiling: null until both cells share a
    block; effects of a design."""
    found: dict[str, Any] = {"cells": [_cell(cell, over_images.get(cell.name)) for cell in comparison.cells]}
    if comparison.ceiling is not None:
        room = comparison.headroom
        found["headroom"] = room and {**_difference(room), "enough": comparison.has_headroom}
    if comparison.effects is not None:
        effects = comparison.effects
        found["effects"] = [_effect(effect) for effect in effects.found]
        if effects.absent:
            found["effects_absent"] = effects.absent
        found["half_normal"] = [
            {"quantile": place, "size": abs(effect.estimate.mean), "factors": effect.factors}
            for place, effect in half_normal(effects.found)
        ]
    return found


def _budgets(found: Budgets) -> list[dict[str, Any]]:
    """The search first. Of a reference that was not tuned: one trial, itself."""
    rows = {"search": found.search, **found.references}
    return [
        {"of": name, "tuned": own is not None}
        | ({"trials": 1} if own is None else {"trials": own.trials, "seconds": own.seconds})
        | ({"best": own.best.fingerprint} if own is not None and own.best is not None else {})
        for name, own in rows.items()
    ]


def _winner(winner: Winner) -> dict[str, Any]:
    value, gap = winner.cell.value, winner.gap
    return {
        "trial": winner.trial.number,
        "params": winner.trial.params,
        "search": winner.trial.objective,
        "n": 0 if value is None else value.n,
        "mean": value and value.mean,
        "ci": value and value.interval,
        "gap": gap and {"n": gap.n, **_difference(gap)},
        "vs": {label: versus and {"n": versus.n, **_difference(versus)} for label, versus in winner.versus.items()},
        "runs": [run.fingerprint for run in winner.cell.complete.values()],
    }


def _cell(cell: Cell, over_images: Any) -> dict[str, Any]:
    value = cell.value
    return {
        "name": cell.name,
        "levels": cell.levels,
        "changes": cell.changes,
        "n": 0 if value is None else value.n,
        "mean": value and value.mean,
        "sd": value and value.sd,
        "ci": value and value.interval,
        "vs_reference": cell.evidence and {**_evidence(cell.evidence), "images": over_images},
        "verdict": cell.verdict,
        "is_small": cell.is_small,
        "star": cell.is_starred,
        "failed": cell.failed,
        "failures": dict(Counter(cell.failures)),
        "adjusted": len(cell.adjusted),
    }


def _evidence(evidence: Evidence) -> dict[str, Any]:
    versus, effect = evidence.versus, evidence.effect
    return {
        "n": versus.n,
        **_difference(versus),
        "sd": versus.sd,
        "basis": evidence.basis,
        "p": evidence.p,
        "p_adjusted": evidence.p_adjusted,
        "p_smaller": evidence.p_smaller,
        "p_smaller_adjusted": evidence.p_smaller_adjusted,
        "p_sign_flip": evidence.p_sign_flip,
        "p_signed_rank": evidence.p_signed_rank,
        "effect_size": effect and {"hedges_g": effect.g, "ci": effect.interval},
        "bootstrap": {"ci": evidence.bootstrap.interval, "absent": evidence.bootstrap.absent},
        "decided_after": evidence.decided_after,
    }


def _images(gaps: ImageGaps | str, names: Sequence[str]) -> dict[str, Any]:
    if isinstance(gaps, str):
        return {"absent": gaps}
    classes = zip(names, gaps.classes, strict=True)
    return {
        "absent": None,
        "count": gaps.images,
        "blocks": gaps.blocks,
        "miou": _gap(gaps.miou),
        "classes": {name: gap and _gap(gap) for name, gap in classes},
    }


def _gap(gap: Gap) -> dict[str, Any]:
    return {"diff": gap.mean, "ci": gap.interval}


def _effect(effect: FactorEffect) -> dict[str, Any]:
    over = effect.estimate
    what = {"factors": effect.factors, "levels": effect.levels, "aliases": effect.aliases, "parts": effect.parts}
    return {**what, "n": over.n, **_difference(over)}


def _difference(versus: Estimate) -> dict[str, Any]:
    return {"diff": versus.mean, "ci": versus.interval}
