import json
import re
from pathlib import Path

import pytest

import orchestrator.report.page as page
from orchestrator.folder import StudyFolder
from orchestrator.importance import importances
from orchestrator.report import write_page
from orchestrator.report.curves import harm
from orchestrator.report.facts import read_facts
from orchestrator.report.wording import difference
from tests.orchestrator.study_folder import CLASSES, MESSAGE, write_request, write_study, write_trial


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    """The interval is not what these tests are about."""
    monkeypatch.setattr(page, "importances", lambda *given, **named: importances(*given, **named, resamples=3))


def written(path: Path) -> str:
    return write_page(StudyFolder(path)).read_text(encoding="utf-8")


def words(html: str) -> str:
    """What a reader sees, in one line."""
    shown = re.sub(r"<(style|title)\b.*?</\1>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", shown)).replace("&#39;", "'")


def records(path: Path) -> list[dict]:
    return [json.loads(file.read_text()) for file in path.glob("trials/*/result.json")]


def best_of(path: Path):
    return read_facts(StudyFolder(path)).best


@pytest.fixture(scope="module")
def search(tmp_path_factory) -> Path:
    return write_study(tmp_path_factory.mktemp("studies") / "camvid_search")


@pytest.fixture(scope="module")
def html(search) -> str:
    return write_page(StudyFolder(search)).read_text(encoding="utf-8")


def test_the_page_has_every_objective_in_percent_with_one_decimal(search, html):
    for record in records(search):
        if record["objective"] is not None:
            assert f'<td class="value">{100 * record["objective"]:.1f}</td>' in html


def test_the_summary_claims_no_more_than_one_seed_shows(search, html):
    facts = read_facts(StudyFolder(search))
    gap = difference("val/miou", facts.best.objective - facts.reference.objective)

    assert f"Best is trial {facts.best.number}: {100 * facts.best.objective:.1f} mIoU after 2,000 steps." in words(html)
    assert f"That is {gap} points against supervised (57.1)" in words(html)
    assert "One seed each: not a confirmed difference." in words(html)
    assert "winner's curse" in words(html)


def test_the_states_are_counted_apart_from_references(html):
    assert "12 of 12 trials 7 complete, 3 stopped early, 1 failed, 1 unfinished" in words(html)


def test_stopped_trials_stand_behind_complete_ones_and_have_no_rank(html):
    rows = re.findall(r'<tr class="(\w+) (\w+)">\s*<td>(\d*)</td>', html)
    states = [state for kind, state, _ in rows if kind != "reference"]

    assert states == ["complete"] * 7 + ["stopped"] * 3 + ["running", "failed"]
    assert [rank for _, state, rank in rows if state == "stopped"] == ["", "", ""]
    assert [rank for kind, state, rank in rows if rank] == [str(i) for i in range(1, 8)]


def test_a_column_has_a_short_name_and_shows_the_full_path(html):
    assert '<abbr title="method.mix.lambda_max">lambda_max</abbr>' in html


def test_the_page_says_what_was_searched(html):
    assert "method.threshold 0.5 to 0.99" in words(html)
    assert "optim.lr 0.001 to 0.1, log scale" in words(html)
    assert "method.mitrans.depth 0 to 3, integers, if method.mix.at is context" in words(html)


def test_the_page_opens_offline(html):
    sources = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]+)""", html)

    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert not re.search(r"<script|<link|@import|url\(", html)


def test_messages_are_escaped(html):
    assert "<script>" not in html
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; more" in html
    assert MESSAGE.startswith("the loss is not finite")


def test_names_from_records_are_escaped_in_drawings_and_tables(tmp_path):
    path = write_study(tmp_path / "studies" / "hostile", trials=2)
    for file in path.glob("trials/*/trial.json"):
        asked = json.loads(file.read_text())
        asked["params"] = {f"{key}<b>": "<img src=x>" for key in asked["params"]}
        asked["label"] = asked["label"] and "<u>label</u>"
        file.write_text(json.dumps(asked))

    html = written(path)

    assert "<img src=x>" not in html
    assert "<u>" not in html
    assert not re.search(r"<b>[^<0-9+−±t]", html)


def test_failures_show_reason_step_and_message(html):
    assert "trial 8 diverged step 731 the loss is not finite from step 731 on" in words(html)


def test_classes_are_listed_in_the_order_of_their_ids_with_the_colors_of_the_masks(html):
    legend = html[html.index('<div class="legend">') :].partition("</div>")[0]

    assert re.findall(r"</i>([^<]+)</span>", legend) == [*CLASSES, "ignored"]
    assert 'style="background:#80a8c8"></i>sky' in legend


def test_panels_stand_in_rows_of_image_truth_best_and_reference(search, html):
    captions = re.findall(r"<figcaption>([^<]+)</figcaption>", html)

    assert captions == ["image", "truth", f"trial {best_of(search).number}", "supervised"] * 3


def test_a_target_below_the_plain_prediction_is_flagged(html):
    assert "The term harms by construction in mean_teacher (73.3 against 78.2 %)" in words(html)


def test_harm_is_judged_in_the_second_half_only():
    early = {"step": 40, "pseudo/target_accuracy": 0.1, "pseudo/plain_accuracy": 0.9}
    late = {"step": 80, "pseudo/target_accuracy": 0.8, "pseudo/plain_accuracy": 0.7}

    assert harm([early, late], 100) is None
    assert harm([early, {**late, "pseudo/target_accuracy": 0.6}], 100) == (0.6, 0.7)


def test_a_gap_of_less_than_a_point_is_no_harm():
    row = {"step": 80, "pseudo/target_accuracy": 0.695, "pseudo/plain_accuracy": 0.7}

    assert harm([row], 100) is None
    assert harm([{**row, "pseudo/target_accuracy": 0.689}], 100) is not None


def test_provenance_names_the_patch_of_what_was_not_committed(tmp_path):
    path = write_study(tmp_path / "studies" / "changed", trials=1, kind="train")
    (path / "code").mkdir()
    (path / "code" / "5be1c02d77a9f310.patch").touch()

    assert "commit a87c8e1f00d5, with uncommitted changes (code/5be1c02d77a9f310.patch)" in words(written(path))


def test_provenance_has_code_device_data_and_the_command_to_run_the_best_again(search, html):
    shown = words(html)

    assert "commit a87c8e1f00d5, with uncommitted changes (digest 5be1c02d77a9f310)" in shown
    assert "NVIDIA H200" in shown
    assert "fingerprint 9b1f63c2a7d04e58" in shown
    assert (
        f"guidedmix train {search.parent.name}/camvid_search/trials/{best_of(search).fingerprint}/config.yaml" in shown
    )


def test_the_configuration_of_the_best_is_folded_in(search, html):
    config = (search / "trials" / best_of(search).fingerprint / "config.yaml").read_text()

    assert config.splitlines()[0] in html[html.index("<details>") :]


def test_stopped_trials_enter_the_importance_and_the_page_says_so(html):
    assert "PED-ANOVA over 10 finished trials, 3 stopped ones among them with the last value" in words(html)


def test_too_few_trials_have_no_importance(tmp_path):
    html = written(write_study(tmp_path / "studies" / "few", trials=3))

    assert "Parameter importance needs at least 8 finished trials; there are 3." in words(html)


def test_a_study_without_trials_is_a_page_of_plain_sentences(tmp_path):
    path = tmp_path / "studies" / "empty"
    write_request(path, "tune", 12, [{"metric": "val/miou", "mode": "max"}])

    shown = words(written(path))

    assert "No trial is complete: none started." in shown
    assert "0 of 12 trials" in shown
    for sentence in (
        "No trial has started yet.",
        "Nothing has been evaluated yet.",
        "No trial has a result and a searched parameter yet.",
        "there are 0.",
        "There are no pictures",
        "no class has an IoU yet.",
        "There is no telemetry of pseudo masks",
        "No run failed.",
    ):
        assert sentence in shown


def test_a_study_of_running_and_failed_trials_has_no_best(tmp_path):
    import numpy as np

    path = tmp_path / "studies" / "unlucky"
    write_request(path, "tune", 2, [{"metric": "val/miou", "mode": "max"}])
    for number, state in enumerate(("failed", "running")):
        write_trial(path, number, "trial", None, {"optim.lr": 0.1}, 0.5, state, np.random.default_rng(0), 0.9)

    shown = words(written(path))

    assert "No trial has finished yet." in shown
    assert "1 failed, 1 unfinished" in shown


def test_a_study_without_panels_and_telemetry_says_so(tmp_path):
    path = write_study(tmp_path / "studies" / "bare", trials=1, kind="train", pseudo=False, panels=0)

    shown = words(written(path))

    assert "There are no pictures" in shown
    assert "There is no telemetry of pseudo masks" in shown


def test_a_study_without_provenance_still_has_a_page(tmp_path):
    path = write_study(tmp_path / "studies" / "bare", trials=2)
    for file in [path / "provenance.json", path / "journal.jsonl", *path.glob("trials/*/environment.json")]:
        file.unlink()

    assert "identity 2f6c0a9d1e5b7348" in words(written(path))


def test_a_single_run_has_its_own_page(tmp_path):
    html = written(write_study(tmp_path / "studies" / "one", trials=1, kind="train"))

    assert "The run reached 60.4 mIoU after 2,000 steps." in words(html)
    assert "Training losses" in words(html)
    assert re.findall(r"<figcaption>([^<]+)</figcaption>", html)[:3] == ["image", "truth", "prediction"]
    assert "Leaderboard" not in html
    assert "Parameter importance" not in html


def test_several_objectives_are_all_shown_and_the_front_is_marked(tmp_path):
    path = write_study(tmp_path / "studies" / "two", objectives=2)
    html, facts = written(path), read_facts(StudyFolder(path))

    assert "<th>mIoU, %</th><th>mask coverage, %</th>" in html
    assert html.count('title="on the Pareto front"') == len(facts.front) > 1
    assert "On the Pareto front" in words(html)


def test_no_complete_trial_beats_one_on_the_front(tmp_path):
    facts = read_facts(StudyFolder(write_study(tmp_path / "studies" / "two", objectives=2)))
    points = {trial.fingerprint: [facts.value(trial, goal) for goal in facts.goals] for trial in facts.scored}

    for mine in facts.front:
        assert not any(all(a > b for a, b in zip(other, points[mine], strict=True)) for other in points.values())


def test_the_test_part_is_flagged(tmp_path):
    path = write_study(tmp_path / "studies" / "tested", trials=2)
    for file in path.glob("trials/*/config.yaml"):
        file.write_text(file.read_text().replace("part: val", "part: test"))

    assert "What is chosen by it can't be tested on it any more." in words(written(path))


def test_a_reference_with_another_budget_is_named_as_one(tmp_path):
    path = write_study(tmp_path / "studies" / "unlike", trials=2)
    for file in path.glob("trials/*/result.json"):
        if json.loads((file.parent / "trial.json").read_text())["label"] == "supervised":
            file.write_text(json.dumps({**json.loads(file.read_text()), "steps": 500}))

    assert "(57.1, given 500 steps and not 2,000)" in words(written(path))


def test_the_report_reads_the_folder_and_writes_only_the_page(tmp_path):
    path = write_study(tmp_path / "studies" / "quiet", trials=2)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}

    write_page(StudyFolder(path))

    after = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    assert after.pop(path / "report.html")
    assert after == before


def test_the_same_folder_gives_the_same_page(tmp_path):
    path = write_study(tmp_path / "studies" / "same")

    assert written(path) == written(path)
