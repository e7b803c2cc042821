"""What lies in `report/` of a study: tables for papers, raw numbers, figures. From records alone."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest
import yaml

from orchestrator.comparison import compare
from orchestrator.folder import StudyFolder
from orchestrator.report import write_exports, write_page, write_report
from orchestrator.report.facts import read_facts
from orchestrator.report.latex import latex
from orchestrator.report.markdown import markdown
from orchestrator.report.paper import level_mark, paper_table, unfinished
from orchestrator.report.sheets import cell_rows, run_rows, written
from orchestrator.report.spelling import ACCENTS, SPELLED, escaped
from tests.orchestrator.ablation_folder import CELLS, SCORES, add_stages, write_ablation
from tests.orchestrator.factorial_folder import write_factorial
from tests.orchestrator.study_folder import write_study

HOSTILE = {"mean_teacher": "<script>a|b", "guidedmix": "50%_x & {y}^~\\$#", "unstable": "=1+1"}


def table_of(path: Path):
    facts = read_facts(StudyFolder(path))
    return paper_table(facts, compare(facts.request, facts.records), "")


def sheets_of(path: Path) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """(cells.csv, runs.csv), read back."""
    facts = read_facts(StudyFolder(path))
    comparison = compare(facts.request, facts.records)
    status = unfinished(facts, comparison)
    rows = cell_rows(facts, comparison, status), run_rows(facts, comparison, status)
    cells, runs = ([*csv.DictReader(io.StringIO(written(each)))] for each in rows)
    return cells, runs


def rename(path: Path, names: dict[str, str]) -> None:
    """Of cells, in the request and in every record."""
    request = yaml.safe_load((path / "study.yaml").read_text())
    for section in ("cells", "runs"):
        request[section] = {names.get(name, name): value for name, value in request[section].items()}
    (path / "study.yaml").write_text(yaml.safe_dump(request, sort_keys=False))
    for file in path.glob("trials/*/trial.json"):
        asked = json.loads(file.read_text())
        asked["cell"] = names.get(asked["cell"], asked["cell"])
        asked["label"] = f"{asked['cell']} · seed {asked['block']}"
        file.write_text(json.dumps(asked))


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    return write_ablation(tmp_path_factory.mktemp("studies") / "methods")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    path = write_ablation(tmp_path_factory.mktemp("studies") / "odd_names")
    rename(path, HOSTILE)
    return path


@pytest.fixture(scope="module")
def factorial(tmp_path_factory) -> Path:
    return write_factorial(tmp_path_factory.mktemp("studies") / "factors", blocks=3)


def test_a_row_is_what_the_comparison_says(study):
    # mean_teacher: 51.2, 52.7, 49.4, 52.5; sd 1.520; t(0.975, 3) sd / 2 = 2.4
    rows = {row.name: row for row in table_of(study).rows}
    teacher = rows["mean_teacher"]
    assert (teacher.n, teacher.mean, teacher.half) == ("4", "51.4", "2.4")
    assert (teacher.gap, teacher.interval) == ("+3.9", "+3.1 to +4.6")
    assert (rows["unstable"].n, rows["unstable"].failed) == ("2 of 4", "2 failed")


def test_seconds_and_steps_are_a_runs_own_and_beside_them_those_of_the_whole_chain(tmp_path):
    path = write_ablation(tmp_path / "stages", panels=0)
    add_stages(path, "guidedmix", [("reused", 200, 40.0), ("trained", 200, 30.0)], steps=1600)
    cells, runs = sheets_of(path)
    cell, run = (next(row for row in rows if row["cell"] == "guidedmix") for rows in (cells, runs))
    assert (cell["seconds"], cell["seconds_in_all"]) == ("100.0", "170.0")
    assert (run["steps"], run["steps_in_all"], run["seconds_in_all"]) == ("1600", "2000", "170.0")


def test_no_star_stands_where_the_comparison_gives_none(study):
    assert {row.star for row in table_of(study).rows} == {""}


def test_the_ceiling_stands_apart(study):
    table = table_of(study)
    assert table.ceiling is not None
    assert table.ceiling.name == "all_labels"
    assert "all_labels" not in [row.name for row in table.rows]


def test_the_caption_names_blocks_correction_failures_and_the_study(study):
    caption = " ".join(table_of(study).caption)
    for said in (
        "A block: seed 0, 1, 2, 3 with split.seed 0, 1, 2, 3.",
        "A difference is shown where p is at most 0.05: paired t test, Holm's correction for 3 comparisons.",
        "Failed runs have no value and count in no mean: unstable (2).",
        "Study methods, identity 2f6c0a9d1e5b7348; its runs are listed in runs.csv.",
    ):
        assert said in caption


def test_what_is_shown_to_be_small_stands_in_the_caption_and_in_the_sheet(tmp_path):
    path = write_ablation(tmp_path / "close", scores={**SCORES, "guidedmix": (0.472, 0.491, 0.461, 0.480)}, panels=0)
    request = yaml.safe_load((path / "study.yaml").read_text())
    (path / "study.yaml").write_text(yaml.safe_dump({**request, "analysis": {"margin": 1}}, sort_keys=False))
    assert "Shown to differ from supervised by less than 1 point: guidedmix." in table_of(path).caption
    rows = {row["cell"]: row for row in sheets_of(path)[0]}
    assert [rows[cell]["small"] for cell in ("guidedmix", "mean_teacher")] == ["True", "False"]
    assert float(rows["guidedmix"]["p_smaller"]) <= float(rows["guidedmix"]["p_smaller_adjusted"]) < 0.05
    assert float(rows["guidedmix"]["margin"]) == 0.01


def test_every_test_of_a_difference_is_in_the_sheet(tmp_path):
    path = write_ablation(tmp_path / "ten", blocks=10, scores={cell: row[:2] * 5 for cell, row in SCORES.items()})
    evidence = read_facts(StudyFolder(path)).comparison.cells[2].evidence
    assert evidence is not None and evidence.effect is not None and evidence.bootstrap.interval is not None
    row = sheets_of(path)[0][2]
    columns = ("p_signed_rank", "hedges_g_low", "hedges_g_high", "bca_low", "bca_high")
    expected = [evidence.p_signed_rank, *evidence.effect.interval, *evidence.bootstrap.interval]
    assert [float(row[column]) for column in columns] == expected


def test_of_a_study_that_adds_blocks_the_sheet_says_after_how_many_a_cell_was_decided(tmp_path):
    path = write_ablation(tmp_path / "looks", panels=0)
    request = yaml.safe_load((path / "study.yaml").read_text())
    request |= {"sequential": {"max_blocks": 5}, "first_look": 3}
    (path / "study.yaml").write_text(yaml.safe_dump(request, sort_keys=False))
    rows = {row["cell"]: row["decided_after"] for row in sheets_of(path)[0]}
    assert (rows["mean_teacher"], rows["guidedmix"]) == ("3", "")


def test_a_check_mark_is_the_first_level_and_nothing_takes_the_factor_away(factorial):
    table = table_of(factorial)
    rows = {row.name: row.levels for row in table.rows}
    assert table.factors == ("mixing", "pairing", "average")
    assert rows["full"] == ("✓", "✓", "✓")
    assert rows["off-random-on"] == ("", "random", "✓")
    assert "✓: mixing on, pairing guided and average on." in table.caption
    assert level_mark(None, "on") == "–"


def test_markdown_has_a_line_a_cell_with_as_many_columns_as_its_head(hostile):
    lines = [line for line in markdown(table_of(hostile)).splitlines() if line.startswith("|")]
    columns = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
    assert columns == {7}
    assert len(lines) == 2 + len(CELLS)
    assert r"&lt;script&gt;a\|b" in lines[3]


def test_latex_is_balanced_and_every_row_has_all_columns(hostile):
    text = latex(table_of(hostile))
    bare = re.sub(r"\\[\\{}&%$#_]", "", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {5}
    assert len(rows) == 1 + len(CELLS)
    begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", text) for word in ("begin", "end"))
    assert begun == ended[::-1] == ["table", "tabular"]


def test_latex_spells_what_it_would_take_for_commands(hostile):
    text = latex(table_of(hostile))
    assert r"50\%\_x \& \{y\}\textasciicircum{}$\sim$\textbackslash{}\$\#" in text
    assert r"\textless{}script\textgreater{}a\textbar{}b" in text
    assert not re.search(r"[^\x00-\x7f]", text)


@pytest.mark.parametrize(
    ("words", "spelled"),
    [
        ("λ=0.2 → β≥1 †", r"$\lambda$=0.2 $\rightarrow$ $\beta$$\geq$1 $\dagger$"),
        ("Σ Ω µ ς", r"$\Sigma$ $\Omega$ $\mu$ $\varsigma$"),
        ("naïve Çağlar Erdős Åse Łódź", r"na\"{i}ve \c{C}a\u{g}lar Erd\H{o}s \r{A}se \L{}\'{o}d\'{z}"),
        ("e\u0301", r"\'{e}"),  # an accent that stands for itself
        ("½ β₁ ﬁne ệ", r"1/2 $\beta$1 fine e"),
        ("中 🚀\x1b", "{[}U+4E2D{]} {[}U+1F680{]}{[}U+001B{]}"),
    ],
)
def test_latex_has_a_command_or_an_ascii_form_for_every_letter(words, spelled):
    assert escaped(words) == spelled


def test_csv_runs_no_formula(hostile):
    cells, runs = sheets_of(hostile)
    assert [row["cell"] for row in cells][-1] == "'=1+1"
    assert "'=1+1" in {row["cell"] for row in runs}
    assert {row["cell"] for row in cells} >= {"<script>a|b"}


def test_a_negative_number_stays_one(study):
    cells, _ = sheets_of(study)
    assert float(cells[-1]["difference"]) < -0.1
    assert cells[-1]["basis"] == "mixed model"


def test_runs_csv_has_a_row_for_each_cell_in_each_block_with_its_fingerprint(study):
    _, runs = sheets_of(study)
    request = yaml.safe_load((study / "study.yaml").read_text())
    assert [row["fingerprint"] for row in runs] == [digest for row in request["runs"].values() for digest in row]
    failed = [(row["cell"], row["block"], row["failure"], row["objective"]) for row in runs if row["state"] == "failed"]
    assert failed == [("unstable", "1", "diverged", ""), ("unstable", "3", "diverged", "")]
    assert float(runs[0]["val/miou"]) == pytest.approx(0.471)
    assert runs[0]["data"] == "9b1f63c2a7d04e58"


def test_cells_csv_names_the_runs_behind_each_mean(study):
    cells, runs = sheets_of(study)
    complete = [row["fingerprint"] for row in runs if row["cell"] == "unstable" and row["state"] == "complete"]
    assert cells[-1]["runs"].split() == complete


def test_levels_are_columns(factorial):
    cells, runs = sheets_of(factorial)
    assert {row["factor.pairing"] for row in cells} == {"guided", "random"}
    assert [row["factor.mixing"] for row in runs if row["cell"] == "off-random-on"] == ["off"] * 3


def test_every_export_of_an_unfinished_study_says_so(tmp_path):
    path = write_ablation(tmp_path / "half", scores={**SCORES, "guidedmix": SCORES["guidedmix"][:2]}, panels=0)
    files = {file.name: file for file in write_exports(StudyFolder(path))}
    for name in ("report.md", "table.tex", "cells.csv", "runs.csv"):
        assert "UNFINISHED: 18 of 20 runs have ended." in files[name].read_text(), name
    assert "UNFINISHED: 18 of 20 runs have ended." in write_page(StudyFolder(path)).read_text()
    whole = write_exports(StudyFolder(write_ablation(tmp_path / "whole", panels=0)))
    for name in ("forest.svg", "curves.svg", "classes.svg", "masks.svg"):
        finished = next(file for file in whole if file.name == name)
        assert "<!-- UNFINISHED" in files[name].read_text()
        assert "UNFINISHED" not in finished.read_text()


def test_figures_have_letters_inside_and_no_date(study):
    files = {file.name: file.read_bytes() for file in write_exports(StudyFolder(study))}
    for name in ("forest", "curves", "classes", "masks"):
        assert b"/FontFile2" in files[f"{name}.pdf"]
        assert b"/Type3" not in files[f"{name}.pdf"]
        assert b"<text" not in files[f"{name}.svg"]
        assert b"<image" not in files[f"{name}.svg"]
    again = {file.name: file.read_bytes() for file in write_exports(StudyFolder(study))}
    assert again == files


def test_without_telemetry_there_is_no_figure_of_masks(tmp_path):
    path = write_ablation(tmp_path / "plain", scores={**dict.fromkeys(CELLS, ()), "supervised": (0.4, 0.5)}, panels=0)
    names = {file.name for file in write_exports(StudyFolder(path))}
    assert "curves.svg" in names
    assert not names & {"masks.svg", "classes.svg", "forest.svg"}


def test_an_empty_study_and_one_block_have_exports(tmp_path):
    empty = write_ablation(tmp_path / "empty", scores=dict.fromkeys(CELLS, ()))
    assert {file.name for file in write_exports(StudyFolder(empty))} == {
        "report.md",
        "table.tex",
        "cells.csv",
        "runs.csv",
    }
    one = table_of(write_ablation(tmp_path / "one", blocks=1, panels=0))
    assert {(row.half, row.interval, row.p) for row in one.rows} == {("", "", "")}


def test_of_a_search_there_are_the_runs(tmp_path):
    path = write_study(tmp_path / "search", panels=0)
    (file,) = write_exports(StudyFolder(path))
    rows = [*csv.DictReader(io.StringIO(file.read_text()))]
    assert file.name == "runs.csv"
    assert len(rows) == 14
    assert {row["status"] for row in rows} == {"UNFINISHED: 13 of 14 runs have ended."}


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
def test_latex_prints_the_table_no_wider_than_the_text(tmp_path):
    path = write_ablation(tmp_path / "odd_letters")
    letters = "".join(SPELLED) + "".join(unicodedata.normalize("NFC", f"e{accent}") for accent in ACCENTS)
    rename(path, {**HOSTILE, "mean_teacher": f"{letters} 中 🚀"})
    (tmp_path / "table.tex").write_text(latex(table_of(path)))
    document = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}\input{table.tex}\end{document}"
    (tmp_path / "page.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert said.returncode == 0, said.stdout
    assert "Overfull" not in said.stdout


def test_each_cell_says_what_its_gpus_took_and_cost(factorial):
    request = yaml.safe_load((factorial / "study.yaml").read_text())
    request["scaling"] = {"workers": 2, "gpus_per_worker": 1.0}
    (factorial / "study.yaml").write_text(yaml.safe_dump(request, sort_keys=False))
    made = json.loads((factorial / "provenance.json").read_text())
    (factorial / "provenance.json").write_text(json.dumps({**made, "price": {"per_gpu_hour": 3.0, "currency": "EUR"}}))
    files = {path.name: path for path in write_report(StudyFolder(factorial))}
    seconds: dict[str, float] = {}
    for trial in StudyFolder(factorial).trials():
        cell = json.loads(trial.trial.read_text())["cell"]
        seconds[cell] = seconds.get(cell, 0.0) + json.loads(trial.result.read_text())["seconds"]
    rows = {row["cell"]: row for row in csv.DictReader(files["cells.csv"].read_text().splitlines())}
    hours = 2 * seconds["full"] / 3600
    assert float(rows["full"]["gpu_hours"]) == pytest.approx(hours)
    assert float(rows["full"]["price"]) == pytest.approx(3 * hours)
    assert f"{hours:.2g} GPU-hours, {3 * hours:,.2f} EUR in all" in files["report.html"].read_text()
