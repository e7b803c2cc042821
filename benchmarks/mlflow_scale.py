"""What MLflow costs a study of many runs that report often, of which none is trained.

    python benchmarks/mlflow_scale.py [--uri URI]... [--trials 200] [--reports 100] [--metrics 30] [--rate 100]

Eight runs at a time report in turn, `--rate` times a second in all, which is far more often than real ones do. The
window's thread follows. Beside each store the same reports are made without a window: what a report waits longer with
one is what MLflow takes from the runs. Give an `http://` URI for a server: start it with
`mlflow server --backend-store-uri sqlite:///FILE` (or `postgresql://…`). Each study is a new one there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from orchestrator.folder import StudyFolder, TrialFolder, now, write_json
from orchestrator.listeners import Listener
from orchestrator.results import load_trial
from orchestrator.tracking import MlflowWindow

SIDE_BY_SIDE = 8
PACE = 10.0
"""Seconds between two reports of a real run, for the share of its time: 100 reports are 17 minutes."""


@dataclass
class Cost:
    seconds: float = 0.0
    """Until the store had everything."""
    late: float = 0.0
    """Of these, after the last report."""
    cpu: float = 0.0
    """Of the window's thread."""
    waits: list[float] = field(default_factory=list)
    """What each report took the driver."""
    calls: Counter[str] = field(default_factory=Counter)
    spent: Counter[str] = field(default_factory=Counter)
    """Seconds in them."""


def follow(listener: Listener, folder: StudyFolder, asked: argparse.Namespace) -> Cost:
    """Make all reports, each told to the listener."""
    cost, begun, made = Cost(), time.perf_counter(), 0
    listener.study_started(None, folder)  # pyright: ignore[reportArgumentType]
    if isinstance(listener, MlflowWindow):
        count_calls(listener._mirror.store.client, cost)
    started = time.perf_counter()
    for first in range(0, asked.trials, SIDE_BY_SIDE):
        trials = [begin(folder, number) for number in range(first, min(first + SIDE_BY_SIDE, asked.trials))]
        for trial in trials:
            listener.trial_started(load_trial(trial))
        for report in range(1, asked.reports + 1):
            for trial in trials:
                made += 1
                time.sleep(max(0.0, started + made / asked.rate - time.perf_counter()))
                at = time.perf_counter()
                write_report(trial, 10 * report, asked.metrics)
                listener.trial_reported(load_trial(trial), {"step": 10 * report})
                cost.waits.append(time.perf_counter() - at)
        for trial in trials:
            end(trial, 10 * asked.reports)
            listener.trial_ended(load_trial(trial))
    last = time.perf_counter()
    if isinstance(listener, MlflowWindow):
        thread = listener._thread.ident
        assert thread is not None
        cost.cpu = time.clock_gettime(time.pthread_getcpuclockid(thread))
    before = time.thread_time()
    listener.study_ended()
    cost.cpu += time.thread_time() - before
    cost.seconds, cost.late = time.perf_counter() - begun, time.perf_counter() - last
    return cost


def count_calls(client: Any, cost: Cost) -> None:
    """Each is a request of a server, or a transaction of a database."""
    for name in [name for name in dir(type(client)) if not name.startswith("_")]:
        if callable(made := getattr(client, name)):
            setattr(client, name, counted(name, made, cost))


def counted(name: str, call: Callable[..., Any], cost: Cost) -> Callable[..., Any]:
    def made(*args: Any, **options: Any) -> Any:
        begun = time.perf_counter()
        try:
            return call(*args, **options)
        finally:
            cost.calls[name] += 1
            cost.spent[name] += time.perf_counter() - begun  # pyright: ignore[reportArgumentType]

    return made


def new_study(place: Path) -> StudyFolder:
    folder = StudyFolder(place / f"mlflow-scale-{uuid4().hex[:8]}")
    request = {"kind": "tune", "planned": 1, "objectives": [{"metric": "val/miou", "mode": "max"}]}
    folder.claim({**request, "parameters": {"optim.lr": {}}}, "made up")
    folder.append({"event": "study_started"})
    return folder


def begin(folder: StudyFolder, number: int) -> TrialFolder:
    trial = folder.trial(f"{number:016x}")
    names = {"fingerprint": trial.fingerprint, "number": number, "role": "trial", "label": None}
    write_json(trial.trial, {**names, "params": {"optim.lr": 0.01}, "seed": 0, "steps": 1000})
    config = {"method": {f"field_{i}": i for i in range(60)}, "optim": {"lr": 0.01}, "data": {"name": "shapes"}}
    trial.config.write_text(yaml.safe_dump(config))
    write_json(trial.environment, {"time": now(), "device": "cpu", "host": "here", "git": None, "data": "9b1f63c2"})
    return trial


def write_report(trial: TrialFolder, step: int, metrics: int) -> None:
    """Without waiting for the disk: real runs do, in processes of their own."""
    numbers = {"val/miou": 0.5, **{f"train/number_{i}": i / step for i in range(metrics - 1)}}
    with trial.metrics.open("a") as file:
        file.write(json.dumps({"step": step, "time": now(), **numbers}) + "\n")


def end(trial: TrialFolder, step: int) -> None:
    numbers = {"objective": 0.5, "step": step, "steps": step, "seconds": 1.0, "metrics": {"val/miou": 0.5}}
    rest = {"best": None, "failure": None, "started": now(), "ended": now()}
    write_json(trial.result, {"fingerprint": trial.fingerprint, "state": "complete", **numbers, **rest})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uri", action="append")
    for name, default in (("trials", 200), ("reports", 100), ("metrics", 30), ("rate", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--calls", action="store_true", help="which, and how many")
    asked = parser.parse_args()
    reports = asked.trials * asked.reports
    print(f"{asked.trials} trials x {asked.reports} reports x {asked.metrics} metrics, {asked.rate} reports a second")
    print(f"{'':34}{'metrics/s':>10}{'calls':>8}{'late':>8}{'CPU a report':>14}{'waits longer':>14}{'of a run':>10}")
    with tempfile.TemporaryDirectory() as place:
        plain = statistics.fmean(follow(Listener(), new_study(Path(place)), asked).waits)
        for uri in asked.uri or ["sqlite:///{study}/mlflow.db"]:
            folder = new_study(Path(place))
            cost = follow(window := MlflowWindow(uri, folder), folder, asked)
            assert not window.pending
            longer = statistics.fmean(cost.waits) - plain
            print(
                f"{uri:<34}{reports * asked.metrics / cost.seconds:>10,.0f}{sum(cost.calls.values()):>8,}"
                f"{cost.late:>6.1f} s{1e3 * cost.cpu / reports:>11.2f} ms{1e3 * longer:>11.2f} ms{longer / PACE:>10.4%}"
            )
            if asked.calls:
                for name, count in cost.calls.most_common():
                    print(f"    {count:>7,} {name}, {1e3 * cost.spent[name] / count:.0f} ms each")


if __name__ == "__main__":
    main()
