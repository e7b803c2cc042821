"""What a study does about runs that fail: smaller micro-batches, an early stop, another attempt; what tables say."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.exceptions import OutOfMemoryError

from guidedmix_core import ConfigError, RunConfig
from guidedmix_core.methods.supervised import Supervised
from orchestrator import trial as trial_module
from orchestrator.attempts import put_aside
from orchestrator.cells_table import cells_table
from orchestrator.comparison import Comparison, compare
from orchestrator.console import adjusted_lines
from orchestrator.executors.inline import run
from orchestrator.failures import Failures, classify, counted, kind
from orchestrator.folder import StudyFolder, TrialFolder, read_json, read_lines, write_json
from orchestrator.report import write_page
from orchestrator.results import TrialRecord, load_trials
from orchestrator.study import Objective
from orchestrator.summary import summarize
from orchestrator.trial import run_trial
from tests.orchestrator.ablation_folder import write_ablation
from tests.orchestrator.test_cells import shown, study_of
from tests.orchestrator.test_inline import counting
from tests.orchestrator.test_report import words
from tests.runs import small_run, small_tree

GROUP_NORM = {"segmentor.norm": "group", "segmentor.backbone.norm": "group"}


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "demo")


def memory_for(images: int, patch: pytest.MonkeyPatch, since: int = 0) -> list[int]:
    """The network takes so many labeled images at once from that step on; the sizes it was given, as a list."""
    losses, sizes = Supervised.losses, []

    def limited(self: Supervised, nets: Any, batch: Any, at: Any) -> Any:
        sizes.append(len(batch.image))
        if len(batch.image) > images and at.step >= since:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return losses(self, nets, batch, at)

    patch.setattr(Supervised, "losses", limited)
    return sizes


def go(folder: TrialFolder, config: RunConfig, **failures: Any) -> TrialRecord:
    return run_trial(config, folder, Objective(), device="cpu", failures=Failures(**failures))


def weights(folder: TrialFolder) -> dict[str, torch.Tensor]:
    return torch.load(folder.checkpoint / "last.pt", weights_only=True)["nets"]


@pytest.mark.parametrize("since", [0, 3])
def test_when_memory_runs_out_the_run_is_to_the_bit_what_a_doubled_accumulate_gives(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch, since: int
) -> None:
    with monkeypatch.context() as patch:
        memory_for(2, patch, since)
        record = go(folder.trial("small"), small_run())
    asked = go(folder.trial("asked"), small_run({"train.accumulate": 2}))
    assert (record.state, record.objective) == ("complete", asked.objective)
    for name, weight in weights(folder.trial("asked")).items():
        assert torch.equal(weights(folder.trial("small"))[name], weight)
    assert [row["step"] for row in read_lines(folder.trial("small").metrics)] == [2, 4]


def test_its_record_says_so_under_the_name_of_what_was_asked_for(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = memory_for(1, monkeypatch, since=3)
    record = go(trial := folder.trial("small"), small_run(GROUP_NORM))
    assert record.adjusted == {
        "reason": "oom",
        "halvings": 2,
        "accumulate": 4,
        "micro_batch": 1,
        "unlabeled_micro_batch": 1,
        "sees_batches": False,
    }
    assert sizes == [4] * 4 + [2] * 7 + [1] * 16
    assert read_json(trial.trial)["fingerprint"] == record.fingerprint != ""
    assert "OutOfMemoryError" in (trial.attempts / "1" / "traceback.txt").read_text()
    assert [row["step"] for row in read_lines(trial.attempts / "2" / "metrics.jsonl")] == [2]


@pytest.mark.parametrize(
    ("changes", "halvings", "said"),
    [
        ({}, 0, "failures.halvings=0"),
        ({}, 1, "failures.halvings=1"),
        ({}, 9, "micro-batches of 2 labeled and 2 unlabeled images are not halved: BatchNorm needs two"),
        (GROUP_NORM, 9, "micro-batches of 1 labeled and 1 unlabeled images can't be halved"),
    ],
)
def test_a_run_that_finds_no_memory_at_last_has_failed_and_says_what_was_tried(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], halvings: int, said: str
) -> None:
    memory_for(0, monkeypatch)
    record = go(folder.trial("small"), small_run(changes), halvings=halvings)
    assert record.failure is not None
    assert (record.state, record.failure["reason"]) == ("failed", "oom")
    assert said in record.failure["message"]


def test_a_run_whose_group_or_node_was_lost_may_go_on_from_its_checkpoint() -> None:
    for left_behind in (
        OutOfMemoryError("1 worker(s) were killed due to the node running low on memory"),
        RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [192.0.2.1]:1"),
        ValueError("Default process group has not been initialized, please make sure to call init_process_group."),
    ):
        assert classify(left_behind).reason == "infrastructure"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "oom"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "oom"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "oom"),
        (torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"), "infrastructure"),
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), "infrastructure"),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), "bug"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"), "bug"),
    ],
)
def test_a_library_that_finds_no_memory_and_a_device_that_breaks_are_no_bugs(error: Exception, reason: str) -> None:
    assert classify(error).reason == reason


def test_what_is_put_aside_gets_a_number_that_none_had_even_if_older_ones_were_removed(folder: StudyFolder) -> None:
    trial = folder.trial("small")

    def fail() -> int:
        write_json(trial.result, {})
        return put_aside(trial, goes_on=False)

    assert [fail(), fail()] == [1, 2]
    shutil.rmtree(trial.attempts / "1")
    assert fail() == 3
    assert sorted(place.name for place in trial.attempts.iterdir()) == ["2", "3"]


def adjusted(path: Path, blocks: dict[str, tuple[int, ...]], *, sees_batches: bool) -> Comparison:
    """An ablation in which some runs of some cells were made in halved micro-batches."""
    made = {"reason": "oom", "halvings": 1, "accumulate": 2, "micro_batch": 4, "unlabeled_micro_batch": 4}
    folder = StudyFolder(write_ablation(path, panels=0))
    for record in load_trials(folder):
        if record.block in blocks.get(record.cell or "", ()):
            result = folder.trial(record.fingerprint).result
            result.write_text(json.dumps({**read_json(result), "adjusted": {**made, "sees_batches": sees_batches}}))
    return compare(folder.request(), load_trials(folder))


def test_a_run_whose_batch_norm_saw_smaller_batches_is_in_no_difference(tmp_path: Path) -> None:
    comparison = adjusted(tmp_path / "demo", {"mean_teacher": (1,)}, sees_batches=True)
    cell = comparison.cells[2]
    assert cell.versus is not None
    assert cell.versus.n == 3
    assert cell.versus.mean == pytest.approx((0.041 + 0.034 + 0.044) / 3)  # block 1 would add 0.035
    assert (len(cell.complete), len(cell.adjusted)) == (4, 1)


def test_classes_too_are_paired_only_where_batchnorm_saw_batches_of_one_size(tmp_path: Path) -> None:
    comparison = adjusted(tmp_path / "demo", {"mean_teacher": (1,)}, sees_batches=True)
    cell = next(cell for cell in comparison.cells if cell.name == "mean_teacher")
    metric = next(name for name in cell.complete[0].metrics if name.startswith("val/iou/"))
    own, theirs = cell.pairs(comparison.reference, metric)
    assert (set(own), set(theirs)) == ({0, 2, 3}, {0, 1, 2, 3})
    assert set(cell.values(metric)) == {0, 1, 2, 3}


def test_a_run_without_batch_norm_is_compared_and_marked(tmp_path: Path) -> None:
    comparison = adjusted(tmp_path / "demo", {"mean_teacher": (1,)}, sees_batches=False)
    assert comparison.cells[2].versus is not None
    assert comparison.cells[2].versus.n == 4
    assert shown(cells_table(comparison)).splitlines()[3].split()[:2] == ["mean_teacher", "4†"]
    (line,) = adjusted_lines(comparison.cells[2].adjusted)
    assert line.startswith("† mean_teacher · seed 1: memory ran out, so made in 2 micro-batches a step, of 4 labeled")
    assert line.endswith("compared as the others")


def test_two_runs_that_were_halved_alike_are_a_pair(tmp_path: Path) -> None:
    both = {"mean_teacher": (1,), "supervised": (1,)}
    comparison = adjusted(tmp_path / "demo", both, sees_batches=True)
    versus = [cell.versus.n if cell.versus else None for cell in comparison.cells]
    assert versus == [None, 3, 4, 3, 2]  # every cell but mean_teacher loses the block of the reference


def test_summary_and_report_count_reasons_and_say_what_was_adjusted(tmp_path: Path) -> None:
    adjusted(tmp_path / "demo", {"mean_teacher": (1,)}, sees_batches=True)
    folder = StudyFolder(tmp_path / "demo")
    cells = {cell["name"]: cell for cell in summarize(folder)["cells"]}
    assert (cells["unstable"]["failed"], cells["unstable"]["failures"]) == (2, {"diverged": 2})
    assert (cells["mean_teacher"]["adjusted"], cells["supervised"]["adjusted"]) == (1, 0)
    page = words(write_page(folder).read_text())
    assert "mean_teacher · seed 1†: memory ran out" in page
    assert "unstable (2; 2 diverged)" in page


def test_the_table_says_n_of_blocks_and_why_the_rest_is_missing(tmp_path: Path) -> None:
    scores = {**dict.fromkeys(("supervised", "all_labels", "mean_teacher", "guidedmix"), (0.5, 0.6, 0.55, 0.52))}
    folder = StudyFolder(write_ablation(tmp_path / "demo", scores={**scores, "unstable": (0.4, None, 0.4, 0.4)}))
    row = shown(cells_table(compare(folder.request(), load_trials(folder)))).splitlines()[5]
    assert row.startswith("unstable      3 of 4")
    assert row.rstrip().endswith("1 diverged")


def test_numbers_and_addresses_do_not_make_failures_unlike() -> None:
    def of(message: str, reason: str = "bug") -> tuple[str, str]:
        return kind({"reason": reason, "message": message})

    assert of("the loss is not finite from step 1 on") == of("the loss is not finite from step 1e3 on\nmore")
    assert of("<Net at 0x7f3a>: 2.5 GiB") == of("<Net at 0x99>: 3 GiB")
    assert of("trials/78352cadb3167683/x") == of("trials/a8352cadb316768f/x")
    assert of("no key 'a'") != of("no key 'b'")
    assert of("a", "oom") != of("a")
    assert counted(["oom", "diverged", "oom"]) == "2 oom, 1 diverged"


CELLS = {"usual": {}, "slow": {"optim.lr": 1e-5}, "fast": {"optim.lr": 0.01}}
PLAN = {"cells": CELLS, "ceiling": None}


def failing(patch: pytest.MonkeyPatch, message: str, seeds: tuple[int, ...] = (0, 1)) -> None:
    real = trial_module.train

    def train(config: RunConfig, *rest: Any, **where: Any) -> Any:
        if config.seed in seeds:
            raise OSError(f"{message} {config.optim.lr}")
        return real(config, *rest, **where)

    patch.setattr(trial_module, "train", train)


def test_a_study_whose_first_runs_fail_alike_stops_and_goes_on_when_the_cause_is_gone(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = r"the first {} runs of the study all failed alike \(infrastructure: OSError: no disk .*traceback\.txt"
    with monkeypatch.context() as patch:
        failing(patch, "no disk")
        for number in (2, 3):  # not corrected: another run tells
            with pytest.raises(ConfigError, match=said.format(number)):
                run(study_of(**PLAN, failures={"stop_after": 2}), small_tree(), folder, [], "cpu")
    run(study_of(**PLAN, failures={"stop_after": 2}), small_tree(), folder, [], "cpu")
    assert [record.state for record in load_trials(folder)] == ["failed"] * 3 + ["complete"] * 3

    steps = counting(monkeypatch)
    run(study_of(**PLAN), small_tree(), folder, [], "cpu", retry_failed=True)
    assert steps == [1, 2, 3, 4] * 3
    assert {record.state for record in load_trials(folder)} == {"complete"}
    retried = [event for event in folder.events() if event["event"] == "trial_retried"]
    assert [(event["number"], event["reason"], event["attempt"]) for event in retried] == [
        (number, "infrastructure", 1) for number in range(3)
    ]
    first = folder.trial(retried[0]["fingerprint"])
    assert read_json(first.attempts / "1" / "result.json")["failure"]["reason"] == "infrastructure"


def test_one_run_that_did_not_fail_alike_keeps_the_study_going(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "no disk", seeds=(1,))
    run(study_of(**PLAN, failures={"stop_after": 2}), small_tree(), folder, [], "cpu")
    assert [record.state for record in load_trials(folder)] == ["complete"] * 3 + ["failed"] * 3


def test_a_run_that_diverged_starts_again_from_its_first_step(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        real = Supervised.losses

        def losses(self: Supervised, nets: Any, batch: Any, at: Any) -> Any:
            found = real(self, nets, batch, at)
            worse = {name: term * float("nan") for name, term in found.terms.items()}
            return found if at.step < 3 else type(found)(worse, found.weights)

        patch.setattr(Supervised, "losses", losses)
        run(study_of(cells={"usual": {}}, ceiling=None, blocks={"seed": [0]}), small_tree(), folder, [], "cpu")
    (record,) = load_trials(folder)
    assert (record.state, record.step) == ("failed", 3)
    steps = counting(monkeypatch)
    plan = study_of(cells={"usual": {}}, ceiling=None, blocks={"seed": [0]})
    run(plan, small_tree(), folder, [], "cpu", retry_failed=True)
    assert steps == [1, 2, 3, 4]
    kept = folder.trial(record.fingerprint).attempts / "1"
    assert {"result.json", "metrics.jsonl", "checkpoint", "environment.json"} <= {path.name for path in kept.iterdir()}
