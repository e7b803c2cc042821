"""After a search: its best trials and the references on fresh seeds, as an ablation whose cells they are.

The best of many noisy values is chosen for its luck, too, so its value in the search is too good: the winner's curse.
Fresh runs know nothing of that choice. They enter neither leaderboard nor importance nor the sampler's history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from guidedmix_core import Tree, build, dump
from orchestrator.ablation import AblationStudy
from orchestrator.blocks import paths
from orchestrator.budgets import TunedRuns, budgets
from orchestrator.comparison import Cell, Comparison, compare
from orchestrator.folder import StudyFolder
from orchestrator.results import TrialRecord, load_trials, objectives_of, ranked
from orchestrator.stats import Estimate, estimate, paired
from orchestrator.study import SearchStudy

Written = Callable[[float], str]
"""How a value, or a difference with its sign, is written."""
KEY = "confirmation"
"""Of `study.yaml`, once the search has ended: the ablation's request, the `winners`, cell to fingerprint, and the
`part` that judges them, null: the search's; or the `refusal` that says why there is nothing to confirm."""


@dataclass(frozen=True)
class Winner:
    """One of the best trials, run again."""

    cell: Cell
    trial: TrialRecord
    """As the search saw it."""
    gap: Estimate | None
    """The value in the search minus the fresh ones, its interval that of their mean: the value in the search is what
    it is. None without a complete fresh run."""
    versus: dict[str, Estimate | None]
    """The differences to each reference over the blocks in which the runs may be paired."""


@dataclass(frozen=True)
class Confirmation:
    comparison: Comparison
    """Its reference is the first of `confirm.against`."""
    winners: tuple[Winner, ...]
    """Best in the search first."""
    asked: int
    """`confirm.top`: there may be fewer complete trials."""
    paths: tuple[str, ...]
    """What is fresh in each block."""
    trials: int
    """Among whose complete ones the winners were chosen."""
    chosen_by: str
    """The part of the data set that judged the search."""
    part: str
    """That which judges the fresh runs."""
    is_current: bool
    """False while a search that was extended has other best trials by now."""

    def of_winners(self, value: Written, difference: Written) -> list[str]:
        """What became of each."""
        return [_of_winner(winner, value, difference) for winner in self.winners]

    def sentences(self, value: Written, difference: Written) -> list[str]:
        """What the fresh runs say of each winner, and what they can't say."""
        found = self.of_winners(value, difference)
        reference, margin = self.comparison.reference.name, self.comparison.margin_words
        if small := [winner.cell.name for winner in self.winners if winner.cell.is_small]:
            found.append(f"Shown to differ from {reference} by less than {margin}: {', '.join(small)}.")
        return [*found, *self.caveats()]

    def caveats(self) -> list[str]:
        """What holds of all winners."""
        found = []
        if any(winner.gap for winner in self.winners):
            found.append(
                f"The best of {self.trials} noisy values is chosen for its luck, too, so it is biased towards the "
                "better: quote the fresh mean, not the value in the search."
            )
            found.append(self._of_parts())
        if len(self.winners) > 1:
            found.append(
                f"To choose among these {len(self.winners)} by their fresh means would be such a choice again."
            )
        if not any(path.startswith(("split", "data")) for path in self.paths):
            found.append(
                "The labeled images are those of the search: the luck of that split is in all of these numbers."
            )
        return found

    def _of_parts(self) -> str:
        if self.part == self.chosen_by:
            return (
                f"Search and fresh runs are judged by the same images, the {self.part} part: what fits them by chance "
                f"is in the fresh mean, too. confirm.part judges by others."
            )
        return (
            f"The search was judged by the {self.chosen_by} part, the fresh runs are by the {self.part} part: the gap "
            "is also that between the two."
        )

    @property
    def warnings(self) -> list[str]:
        found = []
        if len(self.winners) < self.asked:
            found.append(f"The best {self.asked} were asked for, {len(self.winners)} trials are complete.")
        if not self.is_current:
            found.append("The search has gone on since and has other best trials; at its end they are run afresh.")
        return found


def begin_confirmation(study: SearchStudy, base: Tree, folder: StudyFolder) -> AblationStudy | None:
    """Choose who is run afresh, and write it into `study.yaml`. None if none is asked for, or nobody is complete."""
    confirm = study.confirm
    if confirm is None:
        return None
    request, records = folder.request(), load_trials(folder)
    winners = {f"trial {trial.number}": trial for trial in _best(request, records)}
    spent = budgets(TunedRuns(folder), request, records).references
    searched = {label: own for label, own in spent.items() if own is not None}
    tuned = {label: own.best.params for label, own in searched.items() if own.best is not None}
    references = {label: tuned.get(label, study.references[label]) for label in confirm.against}
    refusal = None if winners else "no trial is complete: there is nothing to confirm"
    for label in confirm.against:
        if label in searched and label not in tuned:
            refusal = f"no trial of the search of {label!r} is complete: there is nothing to compare with"
    if refusal is not None:
        folder.claim({**request, KEY: {"refusal": refusal}}, request["identity"])
        return None
    changes = {**references, **{name: trial.params for name, trial in winners.items()}}
    cells = {name: {**own, **confirm.changes} for name, own in changes.items()}
    asked = {
        "base": study.base,
        "reference": confirm.against[0],
        "cells": cells,
        "objective": dump(study.objectives[0]),
    }
    asked |= {key: value for key, value in dump(confirm).items() if key in ("blocks", "analysis")}
    fresh = build(Tree(asked, {}), AblationStudy)
    chosen = {"winners": {name: trial.fingerprint for name, trial in winners.items()}, "part": confirm.part}
    folder.claim({**request, KEY: {**dump(fresh), **fresh.plan(base), **chosen}}, request["identity"])
    return fresh


def with_last_confirmation(folder: StudyFolder, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """The request of a new start, with what the last one chose: it stands until this one's search has ended."""
    known = folder.request() if folder.study_yaml.exists() else {}
    return {**request, KEY: known[KEY]} if request.get("confirm") and KEY in known else request


def confirmation(request: Mapping[str, Any], records: Iterable[TrialRecord]) -> Confirmation | str | None:
    """What a search's `study.yaml` and its records come to; why there is nothing; None if it is not asked for, or the
    search goes on."""
    content = request.get(KEY)
    if not request.get("confirm") or content is None:
        return None
    if "refusal" in content:
        return content["refusal"]
    records = list(records)
    by_fingerprint = {record.fingerprint: record for record in records}
    comparison = compare({**content, "kind": "ablate", "objectives": request["objectives"]}, records)
    cells = {cell.name: cell for cell in comparison.cells}
    metric, labels = comparison.objective.metric, request["confirm"]["against"]
    coverage, chosen_by = comparison.analysis.interval, request["run"]["evaluate"]["part"]
    if gone := [name for name, fingerprint in content["winners"].items() if fingerprint not in by_fingerprint]:
        return f"the run of {', '.join(gone)} is gone: the same command makes it again, and then chooses anew"
    winners = []
    for name, fingerprint in content["winners"].items():
        trial, cell = by_fingerprint[fingerprint], cells[name]
        gap = estimate([(trial.objective or 0.0) - value for value in cell.values(metric).values()], coverage)
        versus = {label: paired(*cell.pairs(cells[label], metric), coverage) for label in labels if label in cells}
        winners.append(Winner(cell, trial, gap, versus))
    return Confirmation(
        comparison,
        tuple(winners),
        asked=request["confirm"]["top"],
        paths=tuple(paths(content["blocks"])),
        trials=sum(record.role == "trial" for record in records),
        chosen_by=chosen_by,
        part=content.get("part") or chosen_by,
        is_current=[trial.fingerprint for trial in _best(request, records)] == [*content["winners"].values()],
    )


def _best(request: Mapping[str, Any], records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The trials of the search that are run afresh."""
    trials = (record for record in records if record.role == "trial")
    return ranked(trials, objectives_of(request)[0])[: request["confirm"]["top"]]


def _of_winner(winner: Winner, value: Written, difference: Written) -> str:
    """`trial 5: 46.1 in the search, 44.0 on 3 fresh blocks; the gap is +2.1 (95 % interval +0.2 to +4.0). …`"""
    name, gap, mean = winner.cell.name, winner.gap, winner.cell.value
    seen = f"{name}: {value(winner.trial.objective or 0.0)} in the search"
    if gap is None or mean is None:
        return f"{seen}, no fresh run is complete."
    blocks = "1 fresh block" if gap.n == 1 else f"{gap.n} fresh blocks"
    said = [f"{seen}, {value(mean.mean)} on {blocks}; the gap is {_written(gap, difference)}."]
    for label, versus in winner.versus.items():
        if versus is not None:
            said.append(f"Against {label}: {_written(versus, difference)}.")
    return " ".join(said)


def _written(found: Estimate, difference: Written) -> str:
    if found.interval is None:
        return f"{difference(found.mean)} (no interval)"
    low, high = (difference(end) for end in found.interval)
    return f"{difference(found.mean)} ({100 * found.coverage:g} % interval {low} to {high})"
