"""What a trial costs beside its training: our executor, and the documented recipe of one TorchTrainer a Tune trial.

    python benchmarks/trial_startup.py [--rounds 3] [--trials 4]

All contenders make the same runs in the same Ray, in turn, one trial at a time. A trial's overhead is the time since
the end of the trial before it, less the time inside `run_trial`; the first trial of a round starts the processes and is
left out. A figure in seconds is worth little on a shared machine: quote the ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import ray
from ray import train, tune
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from guidedmix_core import Tree, build, override
from orchestrator import ray_session
from orchestrator.executors import ray_tune
from orchestrator.folder import StudyFolder, TrialFolder, read_json
from orchestrator.study import Objective, SearchStudy
from orchestrator.trial import run_trial

SMALLEST: dict[str, Any] = {
    "method": {"name": "supervised"},
    "segmentor": {"name": "unet", "backbone": {"name": "tiny", "width": 4}},
    "data": {"name": "shapes", "image_size": [32, 32], "num_train": 12, "num_val": 4, "num_test": 2},
    "split": {"labeled": 4},
    "augment": {"crop": [32, 32]},
    "train": {"steps": 1, "batch_size": 4, "unlabeled_batch_size": 4},
    "evaluate": {"every": 1, "panels": 0},
}
HEALTH_CHECK = "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"


def ours(folder: Path, trials: int) -> list[float]:
    """A study as `guidedmix tune` makes it, with journal and summary."""
    request = {
        "base": "smallest",
        "parameters": {"optim.lr": {"log": [0.001, 0.1]}},
        "search": {"sampler": "random", "trials": trials},
        "scheduler": {"name": "none"},
        "scaling": {"concurrent": 1},
    }
    study = StudyFolder(folder)
    ray_tune.run(build(Tree(request, {}), SearchStudy), Tree(SMALLEST, {}), study, [], "cpu")
    ends = [event for event in study.events() if event["event"] == "trial_ended"]
    inside = [_seconds_inside(study.trial(event["fingerprint"])) for event in ends]
    return _overheads([datetime.fromisoformat(event["time"]).timestamp() for event in ends], inside)


def documented(folder: Path, trials: int) -> list[float]:
    """Ray's own guide: the Tune trial is the driver of a TorchTrainer with one worker."""
    return _recipe(folder, trials, health_check="2.0", reuse_actors=False)


def tuned(folder: Path, trials: int) -> list[float]:
    """The same with what can be set: warm Tune trials, and Ray Train looking after its workers 20 times a second."""
    return _recipe(folder, trials, health_check="0.05", reuse_actors=True)


CONTENDERS: tuple[Callable[[Path, int], list[float]], ...] = (ours, documented, tuned)


class _Clock(tune.Callback):
    def __init__(self) -> None:
        self.ends: list[float] = []
        self.numbers: list[int] = []

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.ends.append(time.time())
        self.numbers.append(trial.config["number"])


def _recipe(folder: Path, trials: int, health_check: str, reuse_actors: bool) -> list[float]:
    def make_run(loop: dict[str, Any]) -> None:
        config = build(override(Tree(SMALLEST, {}), {"seed": loop["number"]}, "benchmark"))
        record = run_trial(config, TrialFolder(folder / str(loop["number"])), Objective(), device="cpu")
        train.report({"miou": record.objective})

    def trial(config: dict[str, Any]) -> None:
        TorchTrainer(
            make_run,
            train_loop_config=config,
            scaling_config=train.ScalingConfig(num_workers=1),
            run_config=train.RunConfig(
                name=f"train-{config['number']}", storage_path=str(folder), callbacks=[TuneReportCallback()]
            ),
        ).fit()

    clock = _Clock()
    before = os.environ.get(HEALTH_CHECK)
    os.environ[HEALTH_CHECK] = health_check
    tuner = tune.Tuner(
        tune.with_resources(trial, {"CPU": 0.01}),
        param_space={"number": tune.grid_search(list(range(trials)))},
        tune_config=tune.TuneConfig(max_concurrent_trials=1, reuse_actors=reuse_actors),
        run_config=tune.RunConfig(name="tune", storage_path=str(folder), verbose=0, callbacks=[clock]),
    )
    with contextlib.redirect_stdout(io.StringIO()):
        tuner.fit()
    os.environ[HEALTH_CHECK] = before or "2.0"
    return _overheads(clock.ends, [_seconds_inside(TrialFolder(folder / str(number))) for number in clock.numbers])


def _seconds_inside(trial: TrialFolder) -> float:
    result = read_json(trial.result)
    return (datetime.fromisoformat(result["ended"]) - datetime.fromisoformat(result["started"])).total_seconds()


def _overheads(ends: list[float], inside: list[float]) -> list[float]:
    """Of all trials but the first."""
    return [end - before - spent for before, end, spent in zip(ends, ends[1:], inside[1:], strict=False)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=4, help="of each contender in each round")
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {contender.__name__: [] for contender in CONTENDERS}
    with ray_session.cluster(), tempfile.TemporaryDirectory() as place:
        for turn in range(options.rounds):
            for contender in CONTENDERS if turn % 2 == 0 else reversed(CONTENDERS):
                folder = Path(place) / f"{contender.__name__}-{turn}"
                seconds[contender.__name__] += contender(folder, options.trials)
        print(f"ray {ray.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    base = statistics.median(seconds["ours"])
    for name, values in seconds.items():
        middle = statistics.median(values)
        spread = f"{min(values):.2f}-{max(values):.2f}"
        print(f"{name:<11} {middle:6.2f} s a trial ({spread}, {len(values)} trials)  {middle / base:6.1f} x ours")


if __name__ == "__main__":
    main()
