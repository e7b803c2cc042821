"""The page: every section from the facts, or the plain sentence that stands where there is nothing to show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from orchestrator.importance import Importances, importances
from orchestrator.report import ablation, confirmed, figures, panels, summary, tables
from orchestrator.report.curves import learning_curves, loss_curves, mask_quality
from orchestrator.report.facts import Facts
from orchestrator.report.wording import count, metric_title, metric_unit, metric_value, space
from orchestrator.results import TrialRecord
from orchestrator.study import Objective

HERE = Path(__file__).parent


def render(facts: Facts) -> str:
    """The whole page. Everything that comes from records is escaped."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["breakable"] = _breakable
    style = Markup((HERE / "style.css").read_text(encoding="utf-8"))
    if facts.request["kind"] == "ablate":
        return environment.get_template("ablation.html.j2").render(style=style, **ablation.context(facts))
    return environment.get_template("template.html.j2").render(style=style, **_context(facts))


def _breakable(name: str) -> Markup:
    """A name that may break after its signs, and not inside a word."""
    return Markup(re.sub(r"([_=,.])", r"\1<wbr>", str(escape(name))))


def _context(facts: Facts) -> dict[str, Any]:
    important = [(goal, _importance(facts, goal)) for goal in facts.goals] if facts.is_search else []
    legend = panels.legend(facts, facts.best)
    return {
        **_header(facts),
        "facts": facts,
        "importance": [_importance_section(facts, goal, found) for goal, found in important],
        "sentences": summary.sentences(facts, important[0][1] if len(important) == 1 else None),
        "flags": summary.flags(facts),
        "of_targets": summary.target_sentences(facts),
        "leaderboard": tables.leaderboard(facts),
        "fresh": confirmed.fresh_runs(facts),
        "columns": [metric_unit(goal.metric) for goal in facts.goals],
        "curves": [(goal, chart) for goal in facts.goals if (chart := learning_curves(facts, goal.metric))],
        "losses": loss_curves(facts, facts.trials[0]) if facts.trials and not facts.is_search else None,
        "parallel": figures.parallel_coordinates(facts),
        "front": figures.front_chart(facts),
        "slices": figures.slices(facts),
        "panel_rows": panels.panel_rows(facts),
        "legend": legend,
        "classes": tables.class_rows(facts, legend),
        "masks": _masks(facts),
        "failures": tables.failures(facts),
        "provenance": tables.provenance(facts),
        "packages": tables.all_packages(facts),
        "config": _config(facts),
        "config_title": f"Configuration of {facts.name(facts.best)}"
        if facts.is_search and facts.best
        else "Configuration",
        "rerun": _rerun(facts),
        "rerun_title": "Run the best trial again" if facts.is_search else "Run it again",
        "studies": facts.folder.path.resolve().parent.name,
        "percent": lambda value: metric_value("iou", value),
        "metric_title": metric_title,
    }


def _header(facts: Facts) -> dict[str, Any]:
    goals = [
        f"{metric_title(goal.metric)} ({goal.metric}), {'higher' if goal.mode == 'max' else 'lower'} is better"
        for goal in facts.goals
    ]
    return {
        "title": facts.folder.name,
        "kind": "Search" if facts.is_search else "Training run",
        "when": summary.when(facts),
        "tiles": summary.tiles(facts),
        "goals": goals,
        "base": facts.request.get("base"),
        "searched": [
            (path, facts.short[path], space(each) if each is not None else "")
            for path, each in facts.parameters.items()
        ],
        "part": _part(facts),
    }


def _importance(facts: Facts, goal: Objective) -> Importances:
    judged = [
        (trial.params, value)
        for trial in facts.trials
        if (value := facts.value(trial, goal)) is not None and trial in facts.scored
    ]
    return importances(
        [params for params, _ in judged],
        [value for _, value in judged],
        goal.mode,
        logarithmic=figures.logarithmic(facts),
    )


def _importance_section(facts: Facts, goal: Objective, found: Importances) -> dict[str, Any]:
    if found.refusal is not None:
        return {"title": metric_title(goal.metric), "refusal": found.refusal, "chart": None, "note": ""}
    stopped = sum(trial.state == "stopped" for trial in facts.scored)
    entered = f", {count(stopped, 'stopped one')} among them with the last value before the stop" if stopped else ""
    note = (
        f"PED-ANOVA over {found.trials} finished trials{entered}: how differently a parameter is spread among the best "
        f"{100 * found.top:.0f} % of the trials and among all. The thin line is a 90 % bootstrap interval over trials; "
        "it does not hold the noise of seeds. The dotted line is the share each parameter would have if all mattered "
        "the same. An interval that crosses it proves nothing."
    )
    return {
        "title": metric_title(goal.metric),
        "refusal": None,
        "chart": figures.importance_bars(facts, found),
        "note": note,
    }


def _masks(facts: Facts) -> dict[str, Any] | None:
    """Of the best trial, or of the one that got furthest."""
    for run in sorted(facts.trials, key=lambda trial: (trial is not facts.best, -trial.step)):
        if charts := mask_quality(facts, run):
            return {"name": facts.name(run), "charts": charts}
    return None


def _config(facts: Facts) -> str | None:
    run = _shown_run(facts)
    if run is None or not facts.home(run).config.exists():
        return None
    return facts.home(run).config.read_text(encoding="utf-8")


def _rerun(facts: Facts) -> str | None:
    """To be run in the directory that holds the folder of studies."""
    run = _shown_run(facts)
    if run is None:
        return None
    folder = facts.folder.path.resolve()
    config = facts.home(run).config.relative_to(facts.folder.path)
    return f"guidedmix train {(Path(folder.parent.name, folder.name) / config).as_posix()}"


def _shown_run(facts: Facts) -> TrialRecord | None:
    return facts.best or (facts.trials[0] if facts.trials and not facts.is_search else None)


def _part(facts: Facts) -> str:
    """The part of the data set that judged the trials."""
    for line in (_config(facts) or "").splitlines():
        if line.strip().startswith("part:"):
            return line.partition(":")[2].strip().strip("'\"")
    return "val"
