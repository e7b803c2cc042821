"""What a step of each method costs: time, memory and waits for the device, beside the supervised one.

    python benchmarks/methods.py [BASE] [PATH=VALUE]... [--device cuda] [--steps 30] [--only NAME]...

Each method is measured by the real loop in a process of its own. The time of a step is the mean over the steps after
the first ten, without evaluation; on a CPU it is that of one thread, which other processes don't lengthen. Memory is
what CUDA allocated at most, or on a CPU by how much the process grew. Waits for the device are counted by torch's debug
mode: a step should have none.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from guidedmix_core import (
    Checkpoints,
    Reporter,
    build,
    fingerprint,
    names,
    open_data,
    override,
    parse_changes,
    read_run,
    train,
)

WARM_UP = 10


class Watch(Reporter):
    """Times the steps after the warm-up."""

    def __init__(self, steps: int, device: torch.device) -> None:
        self.steps, self.device = steps, device
        self.started = self.seconds = 0.0
        self.waits = 0

    def progress(self, step: int, steps: int, losses: Mapping[str, Tensor]) -> None:
        if step == WARM_UP:
            self._settle()
            self.started = self._now()
            if self.device.type == "cuda":
                torch.cuda.set_sync_debug_mode("warn")
        if step == self.steps:
            if self.device.type == "cuda":
                torch.cuda.set_sync_debug_mode("default")
            self._settle()
            self.seconds = self._now() - self.started

    def _now(self) -> float:
        return time.perf_counter() if self.device.type == "cuda" else time.process_time()

    def _settle(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def measure(base: str, changes: list[str], method: str, steps: int, device: str) -> dict[str, float]:
    """One method, in this process."""
    torch.set_num_threads(1)
    own = {"train.steps": steps, "evaluate.every": steps, "evaluate.telemetry_images": 0, "evaluate.panels": 0}
    tree = override(read_run(base), {"method": {"name": method}}, "benchmark")
    config = build(override(tree, {**own, **parse_changes(changes)}, "benchmark"))
    open_data(config)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    watch = Watch(steps, torch.device(device))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(config, watch, Checkpoints(Path(folder)), device=device)
    is_cuda = watch.device.type == "cuda"
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return {
        "ms": 1000 * watch.seconds / (steps - WARM_UP),
        "images": config.train.batch_size + config.train.unlabeled_batch_size * config.method.views().unlabeled,
        "mib": (torch.cuda.max_memory_allocated(watch.device) if is_cuda else grown) / 2**20,
        "waits": sum("synchroniz" in str(warning.message) for warning in caught) if is_cuda else -1,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", nargs="?", default="base/shapes")
    parser.add_argument("changes", nargs="*")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--only", action="append")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.measure:
        print(json.dumps(measure(wanted.base, wanted.changes, wanted.measure, wanted.steps, wanted.device)))
        return
    config = build(override(read_run(wanted.base), parse_changes(wanted.changes), "benchmark"))
    where = (
        torch.cuda.get_device_name() if wanted.device.startswith("cuda") else f"{torch.get_num_threads()} CPU threads"
    )
    print(f"{wanted.base} {' '.join(wanted.changes)} ({fingerprint(config)}), torch {torch.__version__}, {where}")
    print(f"{'method':<16}{'ms/step':>9}{'x supervised':>14}{'images/s':>10}{'MiB':>8}{'waits/step':>12}")
    reference = None
    others = [name for name in names("methods") if name != "supervised" and name in (wanted.only or names("methods"))]
    for method in ["supervised", *others]:
        call = [sys.executable, __file__, wanted.base, *wanted.changes, "--device", wanted.device]
        call += ["--steps", str(wanted.steps), "--measure", method]
        done = subprocess.run(call, capture_output=True, text=True)
        if done.returncode:
            print(f"{method:<16}  {done.stderr.strip().splitlines()[-1][:100]}")
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        reference = reference or found["ms"]
        waits = "-" if found["waits"] < 0 else f"{found['waits'] / (wanted.steps - WARM_UP):.1f}"
        rate = 1000 * found["images"] / found["ms"]
        row = f"{method:<16}{found['ms']:>9.1f}{found['ms'] / reference:>14.2f}{rate:>10.1f}"
        print(f"{row}{found['mib']:>8.0f}{waits:>12}", flush=True)


if __name__ == "__main__":
    main()
