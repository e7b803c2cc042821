"""The page of an ablation: what the cells differ in from their reference, and what was not shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from orchestrator.blocks import paths, sections
from orchestrator.comparison import ENOUGH_HEADROOM, Cell, Comparison
from orchestrator.failures import counted
from orchestrator.image_bootstrap import MEANING, image_gaps, without_gaps
from orchestrator.notes import notes
from orchestrator.report import gallery, panels, tables
from orchestrator.report.cells import (
    cell_rows,
    changes_words,
    class_rows,
    image_rows,
    mask_rows,
    spread_of,
    target_sentences,
)
from orchestrator.report.choice import MOST_DRAWN, best_cells, cell_colors, looks, shown_cells, telling
from orchestrator.report.differences import cell_curves, difference_plot, goes_beyond
from orchestrator.report.evidence_table import evidence_table
from orchestrator.report.factor_charts import effect_rows, half_normal_chart, interaction_charts
from orchestrator.report.facts import Facts
from orchestrator.report.mask_charts import mask_charts
from orchestrator.report.paper import adjusted_words, factors_of, unfinished
from orchestrator.report.summary import Tile, reused, state_words, when
from orchestrator.report.wording import count, difference, duration, listed, metric_title, metric_unit
from orchestrator.results import ENDED, TrialRecord
from orchestrator.signs import meaning, signs
from orchestrator.units import is_share

MOST_DETAILED = 3
"""So many cells without a difference are told with their intervals; of more, only the names."""


def context(facts: Facts) -> dict[str, Any]:
    """What `ablation.html.j2` shows."""
    comparison = facts.comparison
    shown = _pair(facts, comparison)
    pictures = gallery.chosen(*(facts.home(run) for _, run in reversed(shown))) if len(shown) == 2 else None
    stems = None if pictures is None else [picture.stem for picture in pictures]
    legend = panels.legend(facts, shown[0][1] if shown else None)
    goal = facts.goal
    over_images = image_gaps(facts.folder, comparison, shown_cells(comparison))
    return {
        "title": facts.folder.name,
        "kind": "Ablation",
        "when": when(facts),
        "tiles": _tiles(facts, comparison),
        "sentences": _sentences(comparison),
        "flags": [*filter(None, [unfinished(facts, comparison)]), *_flags(facts, comparison)],
        "part": facts.request["run"]["evaluate"]["part"],
        "request": _request(facts, comparison),
        "comparison": comparison,
        "coverage": f"{100 * comparison.analysis.interval:g} %",
        "notes": notes(comparison),
        "unit": metric_unit(goal.metric),
        "factors": factors_of(facts.request),
        "cells": cell_rows(comparison, facts),
        "columns": shown_cells(comparison),
        "devices": tables.devices(facts),
        "effects": effect_rows(comparison),
        "half_normal": half_normal_chart(comparison),
        "interactions": interaction_charts(comparison, facts.request),
        "signs": {cell.name: signs(cell) for cell in comparison.cells},
        "meaning_of_signs": meaning(shown_cells(comparison)),
        "any_failed": any(cell.failed for cell in comparison.cells),
        "evidence": evidence_table(comparison),
        "plot": difference_plot(comparison),
        "narrow_plot": difference_plot(comparison, is_narrow=True),
        "looks": looks(telling(comparison, MOST_DRAWN)),
        "goes_beyond": goes_beyond(comparison),
        "curves": cell_curves(facts, comparison),
        "masks": mask_rows(comparison),
        "mask_charts": mask_charts(comparison, cell_colors(comparison)),
        "colors": cell_colors(comparison),
        "short": {
            cell.name: f"{len(cell.complete)} of {comparison.blocks}"
            for cell in shown_cells(comparison)
            if len(cell.complete) < comparison.blocks
        },
        "classes": class_rows(facts, comparison, legend),
        "over_images": image_rows(over_images),
        "not_over_images": without_gaps(over_images),
        "meaning": MEANING,
        "panel_rows": panels.rows_of(facts, shown, stems) if shown else [],
        "panel_titles": [picture.why for picture in pictures or ()],
        "rule": gallery.RULE,
        "panel_block": shown[0][1].block if shown else None,
        "legend": legend,
        "failures": tables.failures(facts),
        "provenance": [*tables.provenance(facts), *tables.provenance_of_runs(facts)],
        "packages": tables.all_packages(facts),
        "config": yaml.safe_dump(facts.request["run"], sort_keys=False, allow_unicode=True),
        "config_title": "Configuration of the base run",
        "rerun": None,
    }


def _tiles(facts: Facts, comparison: Comparison) -> list[Tile]:
    found = []
    if comparison.headroom is not None and comparison.ceiling is not None:
        gain = difference(facts.goal.metric, comparison.headroom.mean)
        unit = "points" if is_share(facts.goal.metric) else metric_title(facts.goal.metric)
        caption = f"to gain at most: {comparison.ceiling.name} against {comparison.baseline.name}"
        found.append(Tile(gain, unit, caption, is_leading=comparison.has_headroom is not False))
    varied = listed(paths(facts.request["blocks"]))
    states = [record.state for record in facts.records]
    ended = sum(state in ENDED for state in states)
    seconds = sum(record.seconds_spent for record in facts.records)
    return [
        *found,
        Tile(str(comparison.blocks), "block" if comparison.blocks == 1 else "blocks", f"of paired runs: {varied}"),
        Tile(str(ended), f"of {count(facts.request['planned'], 'run')}", state_words(states)),
        Tile(facts.spending.words(seconds) or duration(seconds), "", "of training, all runs together"),
    ]


def _sentences(comparison: Comparison) -> list[str]:
    """What differs, with intervals; what is not shown; what there is to gain. Nothing else."""
    reference = comparison.reference.name
    judged = [cell for cell in comparison.cells if cell is not comparison.ceiling]
    said = []
    for verdict in ("better", "worse"):
        if found := [f"{cell.name} by {_gap(cell, comparison)}" for cell in judged if cell.verdict == verdict]:
            said.append(f"{verdict.capitalize()} than {reference}: {listed(found)}.")
    if open_cells := [cell for cell in judged if cell.verdict == "no difference shown"]:
        few = len(open_cells) <= MOST_DETAILED
        found = [f"{cell.name}, {_gap(cell, comparison)}" if few else cell.name for cell in open_cells]
        said.append(f"No difference to {reference} is shown for {listed(found)}.")
    if found := [f"{cell.name}, {_gap(cell, comparison)}" for cell in judged if cell.is_small]:
        said.append(f"Shown to differ from {reference} by less than {comparison.margin_words}: {listed(found)}.")
    if found := [
        f"{cell.name} {_gap(cell, comparison)}" for cell in judged if cell.verdict == "one block: no interval"
    ]:
        said.append(f"One block shows nothing: {listed(found)}. An interval needs two, and a narrow one more.")
    if found := [cell for cell in judged if cell.verdict == "the same runs"]:
        same = "is the same configuration" if len(found) == 1 else "are the same configuration"
        said.append(f"{listed(cell.name for cell in found)} {same} as {reference}.")
    if found := [cell for cell in judged if cell.verdict == "not compared"]:
        said.append(f"Without a complete block in common with {reference}: {listed(cell.name for cell in found)}.")
    return [*said, *_headroom(comparison)] or [f"There is nothing to compare {reference} with."]


def _headroom(comparison: Comparison) -> list[str]:
    """If there is enough; a flag says if there is not."""
    if comparison.ceiling is None or comparison.headroom is None or comparison.has_headroom is False:
        return []
    room = spread_of(comparison.objective.metric, comparison.headroom)
    return [f"What there is to gain: {comparison.ceiling.name} against {comparison.baseline.name}, {room}."]


def _flags(facts: Facts, comparison: Comparison) -> list[str]:
    """What should worry the reader."""
    reference, said = comparison.reference, []
    if comparison.has_headroom is False and comparison.headroom is not None and comparison.ceiling is not None:
        room = spread_of(comparison.objective.metric, comparison.headroom)
        *_, most = comparison.headroom.interval or (ENOUGH_HEADROOM,)
        is_or_may_be = "is" if most < ENOUGH_HEADROOM else "may be"
        said.append(
            f"There {is_or_may_be} little to gain: {comparison.ceiling.name} against {comparison.baseline.name}, "
            f"{room}. Below {100 * ENOUGH_HEADROOM:.0f} points of mIoU labels are hardly what limits this schedule, "
            "and a part of so little drowns in what seeds and splits do. Fewer labels, longer training or other data "
            "leave more."
        )
    said += target_sentences(facts, comparison)
    short = [cell for cell in comparison.cells if len(cell.complete) < comparison.blocks]
    if short:
        numbers = listed(
            f"{cell.name} ({len(cell.complete)}{f'; {counted(cell.failures)}' if cell.failed else ''})"
            for cell in short
        )
        said.append(
            f"Fewer than {comparison.blocks} complete runs: {numbers}. Differences are taken over the blocks that both "
            "cells have."
        )
    said += adjusted_words(comparison.cells)
    if comparison.effects is not None and comparison.effects.absent:
        said.append(f"No effects of factors: {comparison.effects.absent}.")
    lengths = {run.steps_in_all for cell in comparison.cells for run in cell.complete.values()}
    if len(lengths) > 1:
        own = {run.steps_in_all for run in reference.complete.values()}
        unlike = [cell.name for cell in comparison.cells if {run.steps_in_all for run in cell.complete.values()} - own]
        said.append(f"Unequal budgets: {listed(unlike)} trained for another number of steps than {reference.name}.")
    said += reused(facts)
    if left := len(facts.folder.trials()) - len(facts.records):
        said.append(
            f"{count(left, 'run')} of the folder {'is' if left == 1 else 'are'} not shown: of cells or blocks that "
            "were changed or taken out of the file after they had run."
        )
    return said


def _request(facts: Facts, comparison: Comparison) -> list[tuple[str, list[str]]]:
    """Terms and what the file says of them."""
    goal, request = facts.goal, facts.request
    varied = [values for section in sections(request["blocks"]) for values in section.items()]
    blocks = [f"{path}: {', '.join(map(str, values))}" for path, values in varied]
    dropped = [f"{name}: {why}" for name, why in request.get("dropped", {}).items()]  # an older folder has none
    rows = {
        "Base run": [request["base"]],
        "Training": [f"{request['run']['train']['steps']:,} steps, unless a cell changes it"],
        "Reference": [comparison.reference.name],
        "Ceiling": [comparison.ceiling.name] if comparison.ceiling else [],
        "Factors": [_factor(name, levels) for name, levels in request.get("factors", {}).items()],
        "Design": request.get("design_facts", []),
        "Not cells of their own": dropped,
        "Blocks": blocks,
        "Objective": [
            f"{metric_title(goal.metric)} ({goal.metric}), {'higher' if goal.mode == 'max' else 'lower'} is better"
        ],
    }
    return [(term, lines) for term, lines in rows.items() if lines]


def _factor(name: str, levels: Mapping[str, Mapping[str, Any]]) -> str:
    """`mixing: on (the base); off (method.mix.level = none)`."""
    said = (f"{level} ({changes_words(changes)})" for level, changes in levels.items())
    return f"{name}: {'; '.join(said)}"


def _gap(cell: Cell, comparison: Comparison) -> str:
    assert cell.versus is not None
    return spread_of(comparison.objective.metric, cell.versus)


def _pair(facts: Facts, comparison: Comparison) -> list[tuple[str, TrialRecord]]:
    """Reference and best mean cell in the first block that both have with pictures."""
    for cell in best_cells(comparison):
        for block, run in cell.complete.items():
            other = comparison.reference.complete.get(block)
            if other is not None and facts.home(run).panels.exists():
                return [(comparison.reference.name, other), (cell.name, run)]
    alone = [run for run in comparison.reference.complete.values() if facts.home(run).panels.exists()]
    return [(comparison.reference.name, alone[0])] if alone else []
