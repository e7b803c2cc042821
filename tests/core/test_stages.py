"""The chain before a run: what it hands on, who trains it, and where it is found again."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from torch import Tensor

from guidedmix_core import stages
from guidedmix_core.checkpoint import Checkpoints, read_checkpoint
from guidedmix_core.config import RunConfig
from guidedmix_core.errors import ConfigError, Preempted, TrialFailed
from guidedmix_core.loaders import open_data
from guidedmix_core.reports import StageReport
from guidedmix_core.stage_folder import StageFolder, load_weights
from guidedmix_core.stages import address, lineage
from guidedmix_core.trainer import train
from tests.listening import Listening
from tests.runs import NEEDS, small_run
from tests.trees import write, write_camvid

WARM = {"stages": [{"method": "supervised", "steps": 5}]}
PLAIN_SGD = {"optim.optimizer": "sgd", "optim.momentum": 0.0, "optim.schedule": "constant"}


def warm(changes: Mapping[str, Any] | None = None) -> RunConfig:
    """Five supervised steps, then four of Mean Teacher."""
    return small_run({"method.name": "mean_teacher", **WARM, **(changes or {})})


def go(config: RunConfig, folder: Path, stages: Path, listening: Listening | None = None) -> dict[str, Tensor]:
    """The weights at the run's end."""
    train(config, listening or Listening(), Checkpoints(folder), device="cpu", stages=stages)
    return read_checkpoint(folder / "last.pt")["nets"]


def assert_bitwise_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def states(listening: Listening) -> list[tuple[int, str]]:
    return [(stage.index, stage.state) for stage in listening.stages]


class Crash(Exception):  # noqa: N818 - it is no error of ours
    """Stands for a process that is killed where it is raised."""


class At(Listening):
    """Does something after the n-th step it hears of, or when a stage stands so."""

    def __init__(self, act: Callable[[], None], step: int | None = None, state: str | None = None) -> None:
        super().__init__()
        self.act, self.step, self.state = act, step, state

    def staged(self, stage: StageReport) -> None:
        super().staged(stage)
        if stage.state == self.state:
            self.act()

    def progress(self, step: int, steps: int, losses: Mapping[str, Tensor]) -> None:
        super().progress(step, steps, losses)
        if len(self.losses) == self.step:
            self.act()


def crash() -> None:
    raise Crash


@dataclass(frozen=True)
class Made:
    """`warm()`, trained once with its stage for all tests of this file."""

    folder: Path
    stages: Path
    heard: Listening
    weights: dict[str, Tensor]

    @property
    def stage(self) -> StageFolder:
        (folder,) = self.stages.iterdir()
        return StageFolder(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder, heard = tmp_path_factory.mktemp("made"), Listening()
    return Made(folder, folder / "stages", heard, go(warm(), folder / "run", folder / "stages", heard))


def test_two_supervised_stages_and_a_run_are_one_long_run(tmp_path: Path) -> None:
    """Weights and random streams go on; without momentum and schedule nothing else is carried from step to step."""
    chain = {"stages": [{"method": "supervised", "steps": 3}, {"method": "supervised", "steps": 2}]}
    parts, whole = Listening(), Listening()
    chained = go(small_run({**PLAIN_SGD, **chain}), tmp_path / "chain", tmp_path, parts)
    assert_bitwise_equal(chained, go(small_run({**PLAIN_SGD, "train.steps": 9}), tmp_path / "one", tmp_path, whole))
    assert parts.losses == whole.losses


def test_student_and_teacher_begin_with_what_the_stage_hands_on(tmp_path: Path) -> None:
    config = warm({"optim.lr": 1e-30, "stages.0.optim": {"lr": 0.01}, "optim.weight_decay": 0.0})
    nets = go(config, tmp_path / "run", tmp_path / "stages")
    (folder,) = (tmp_path / "stages").iterdir()
    handed = {name: weight for name, weight in load_weights(folder / "weights.pt").items() if "running" not in name}
    for network in ("student", "teacher"):
        for name, weight in handed.items():
            if weight.is_floating_point():
                torch.testing.assert_close(nets[f"{network}.{name}"], weight)


def test_a_stage_of_mean_teacher_hands_on_the_network_it_is_judged_by(tmp_path: Path) -> None:
    stage = {"method": {"name": "mean_teacher", "evaluate": "teacher"}, "steps": 2}
    go(small_run({"stages": [stage]}), tmp_path / "run", tmp_path / "stages")
    alone = go(small_run({"method": stage["method"], "train.steps": 2}), tmp_path / "alone", tmp_path / "stages")
    (folder,) = (tmp_path / "stages").iterdir()
    teacher = {name.removeprefix("teacher."): w for name, w in alone.items() if name.startswith("teacher.")}
    assert_bitwise_equal(load_weights(folder / "weights.pt"), teacher)


def test_a_run_whose_stage_was_reused_is_bitwise_the_one_that_trained_it(made: Made, tmp_path: Path) -> None:
    again = Listening()
    assert_bitwise_equal(made.weights, go(warm(), tmp_path, made.stages, again))
    assert (states(made.heard), states(again)) == ([(0, "trains"), (0, "trained")], [(0, "reused")])
    assert made.heard.losses[5:] == again.losses


def test_another_run_with_the_same_stage_does_not_train_it(made: Made, tmp_path: Path) -> None:
    other = Listening()
    result = train(
        warm({"method.name": "supervised", "train.steps": 1}),
        other,
        Checkpoints(tmp_path),
        device="cpu",
        stages=made.stages,
    )
    assert (states(other), len(other.losses)) == ([(0, "reused")], 1)
    assert result.metrics["time/stage_seconds"] == made.stage.read_result()["seconds"]


def test_a_stage_leaves_its_weights_curves_and_result_and_no_checkpoint(made: Made) -> None:
    left = {path.name for path in made.stage.path.iterdir()} - {".lock"}
    snapshots = {"weights-1.pt", "weights-3.pt"}
    assert left == {"stage.yaml", "metrics.jsonl", "result.json", "weights.pt", *snapshots}
    rows = [json.loads(line) for line in made.stage.metrics.read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4, 5]
    assert "val/miou" in rows[-1] and "val/miou" not in rows[0]
    assert made.stage.read_result()["metrics"]["val/miou"] == rows[-1]["val/miou"]


def addressed(changes: Mapping[str, Any] | None = None) -> str:
    config = warm(changes)
    return address(config.up_to(0), open_data(config))


@pytest.mark.parametrize(
    "later",
    [
        {"method.decay": 0.5},
        {"method.name": "guidedmix"},
        {"train.steps": 9},
        {"evaluate.every": 1, "evaluate.flip": True, "evaluate.part": "test"},
        {"stages": [*WARM["stages"], {"method": "mean_teacher", "steps": 3}]},
        {"optim.lr": 0.1, "stages.0.optim.lr": 0.002},
    ],
)
def test_the_address_of_a_stage_ignores_what_comes_later_and_how_it_is_judged(later: dict[str, Any]) -> None:
    assert addressed(later) == addressed()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"data.seed": 1},
        {"split.seed": 1},
        {"augment.flip": 0.0},
        {"optim.lr": 0.1},
        {"train.batch_size": 2},
        {"segmentor.dropout": 0.3},
        {"stages.0.steps": 6},
        {"stages.0.method.labeled": {"normalize": "all"}},
    ],
)
def test_the_address_of_a_stage_depends_on_all_that_leads_to_it(change: dict[str, Any]) -> None:
    assert addressed(change) != addressed()


def test_the_address_of_a_stage_depends_on_the_stages_before_it() -> None:
    def second(steps: int) -> str:
        stages = [{"method": "supervised", "steps": steps}, {"method": "supervised", "steps": 3}]
        config = small_run({"stages": stages})
        return address(config.up_to(1), open_data(config))

    assert second(4) != second(5)


def test_other_images_at_the_same_place_are_another_stage(tmp_path: Path) -> None:
    config = small_run({"data": {"name": "camvid", "root": str(write_camvid(tmp_path))}, "augment.crop": [16, 16]})
    before = address(config, open_data(config))
    write(tmp_path / "train" / "train_7.png", torch.zeros(24, 32, 3, dtype=torch.uint8).numpy())
    assert address(config, open_data(config)) != before


def test_other_pretrained_weights_at_the_same_place_are_another_stage_of_the_same_run(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    backbone = {"name": "timm", "model": "resnet18", "weights": str(path)}
    config = small_run({"segmentor.backbone": backbone})
    found = set()
    for content in (b"one", b"other"):
        path.write_bytes(content)
        found.add((address(config, open_data(config)), lineage(config)))
    assert len(found) == 2 and len({tree for _, tree in found}) == 1


@pytest.mark.parametrize(("step", "left"), [(1, 5), (4, 3)])
def test_a_run_that_is_cut_in_its_stage_goes_on_bitwise(made: Made, tmp_path: Path, step: int, left: int) -> None:
    """From its last checkpoint: there is one every two steps, as in the run itself."""
    with pytest.raises(Crash):
        go(warm(), tmp_path / "cut", tmp_path / "stages", At(crash, step=step))
    after = Listening()
    assert_bitwise_equal(go(warm(), tmp_path / "cut", tmp_path / "stages", after), made.weights)
    assert len(after.losses) == left + 4


def test_a_run_that_is_cut_in_its_own_steps_needs_its_stage_no_more(made: Made, tmp_path: Path) -> None:
    train(warm(), Listening(stop_at=2), Checkpoints(tmp_path / "cut"), device="cpu", stages=made.stages)
    after = Listening()
    assert_bitwise_equal(go(warm(), tmp_path / "cut", tmp_path / "gone", after), made.weights)
    assert (after.stages, len(after.losses)) == ([], 2)


def test_a_cut_stage_is_gone_on_with_by_a_run_that_judges_otherwise(tmp_path: Path) -> None:
    with pytest.raises(Crash):
        go(warm(), tmp_path / "cut", tmp_path / "stages", At(crash, step=3))
    after, other = Listening(), {"method.name": "supervised", "train.steps": 1}
    go(warm({"evaluate.every": 1, "evaluate.flip": True, **other}), tmp_path / "other", tmp_path / "stages", after)
    assert len(after.losses) == 3 + 1


def test_without_a_folder_of_stages_a_run_keeps_its_own(tmp_path: Path) -> None:
    config = small_run({"stages": [{"method": "supervised", "steps": 1}], "train.steps": 1})
    train(config, Listening(), Checkpoints(tmp_path), device="cpu")
    assert len(list((tmp_path / "stages").glob("*/weights.pt"))) == 1


def test_a_stage_that_diverges_fails_the_run_and_is_named(tmp_path: Path) -> None:
    config = warm({"stages.0.optim": {"lr": 1e30, "optimizer": "sgd"}})
    with pytest.raises(TrialFailed, match=r"stage 0 \(supervised, 5 steps\): the loss is not finite") as caught:
        go(config, tmp_path / "run", tmp_path / "stages")
    assert caught.value.reason == "diverged"
    assert not list((tmp_path / "stages").glob("*/weights.pt"))


def test_any_other_error_in_a_stage_names_it_in_a_note(tmp_path: Path) -> None:
    with pytest.raises(Crash) as caught:
        go(warm(), tmp_path / "run", tmp_path / "stages", At(crash, step=1))
    assert caught.value.__notes__ == ["in stage 0 (supervised, 5 steps)"]


def test_damaged_weights_are_refused_by_name(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.stages, tmp_path / "stages")
    (weights,) = (tmp_path / "stages").glob("*/weights.pt")
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ConfigError, match=r"weights.pt: is damaged .* remove .* to train the stage again"):
        go(warm(), tmp_path / "run", tmp_path / "stages")


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 120
    while not file.exists():
        assert time.monotonic() < deadline, f"{file} did not come"
        time.sleep(0.01)


def other_process(here: Path) -> None:
    """It trains a stage that is waited for, and dies in the next one when that is waited for."""
    torch.set_num_threads(1)

    def announce(name: str) -> None:
        (here / f"{name} begun").touch()
        wait_for(here / f"{name} waited for")

    def die() -> None:
        announce("killed")
        os.kill(os.getpid(), signal.SIGKILL)

    go(warm(), here / "other", here / "stages", At(lambda: announce("trained"), step=3))
    go(warm({"seed": 1}), here / "dead", here / "stages", At(die, step=3))


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Listening, dict[str, Tensor]]]:
    """What this process hears, and the weights it ends with, while another one trains the stage it needs."""
    here, found = tmp_path_factory.mktemp("beside"), {}
    other = multiprocessing.get_context("forkserver").Process(target=other_process, args=(here,))
    other.start()
    for seed, name in enumerate(("trained", "killed")):
        wait_for(here / f"{name} begun")
        listening = At((here / f"{name} waited for").touch, state="waits")
        found[name] = listening, go(warm({"seed": seed}), here / name, here / "stages", listening)
    other.join(60)
    assert other.exitcode == -signal.SIGKILL
    return found


def test_of_two_processes_that_need_a_stage_one_trains_it_and_one_waits(
    beside: dict[str, tuple[Listening, dict[str, Tensor]]], made: Made
) -> None:
    listening, weights = beside["trained"]
    assert states(listening) == [(0, "waits"), (0, "reused")]
    assert len(listening.losses) == 4
    assert_bitwise_equal(weights, made.weights)


class Leaving(Listening):
    """It must go once the stage is there."""

    def leaves(self) -> bool:
        return states(self)[-1:] == [(0, "trained")]


def test_who_waits_for_another_process_leaves_when_it_must(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "PATIENCE", 0.01)
    stage = StageFolder(tmp_path / "stages" / address(warm().up_to(0), open_data(warm())))
    stage.path.mkdir(parents=True)
    with FileLock(stage.lock), pytest.raises(Preempted):
        go(warm(), tmp_path / "run", tmp_path / "stages", waiting := Listening(leave_at=0))
    assert (states(waiting), waiting.losses) == ([(0, "waits")], [])


def test_who_labels_images_leaves_when_it_must_and_another_start_labels_them(tmp_path: Path) -> None:
    config = small_run({"method.name": "st_plus_plus", **NEEDS["st_plus_plus"]})
    with pytest.raises(Preempted):
        go(config, tmp_path / "run", tmp_path / "stages", leaving := Leaving())
    assert len(leaving.losses) == 3
    go(config, tmp_path / "run", tmp_path / "stages", again := Listening())
    assert (states(again), len(again.losses)) == ([(0, "reused")], 4)


def test_who_waits_for_a_process_that_is_killed_takes_over_at_its_checkpoint(
    beside: dict[str, tuple[Listening, dict[str, Tensor]]], tmp_path: Path
) -> None:
    listening, weights = beside["killed"]
    assert states(listening) == [(0, "waits"), (0, "trains"), (0, "trained")]
    assert len(listening.losses) == 3 + 4
    assert_bitwise_equal(weights, go(warm({"seed": 1}), tmp_path / "alone", tmp_path / "stages"))
