"""How long the tool itself takes over a study of many runs, of which it trains none.

    python benchmarks/tool_speed.py [--cells 500] [--blocks 20] [--report]

The study is made up: every run is complete, with ten evaluations and counts of 48 images. `event` is what the driver
does at each report of the last run after its first. `beside another` is what `guidedmix compare` does with the study
and one like it; the tests of the differences are known by then. Seconds are those of the CPU, because the machine may
be shared.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from guidedmix_core import Tree, build, dump, read_run
from orchestrator.ablation import AblationStudy
from orchestrator.cells import Cells
from orchestrator.clusters import Machine
from orchestrator.clusters.local import Local
from orchestrator.comparison import compare
from orchestrator.folder import StudyFolder
from orchestrator.plan import needed_by, plan_study
from orchestrator.report import write_report
from orchestrator.results import load_trials
from orchestrator.standings import judged, read_entry
from orchestrator.standings_table import standings_table
from orchestrator.study import load_study
from orchestrator.summary import Summary, write_summary

STEPS = range(200, 2001, 200)


def write_request(path: Path, cells: int, blocks: int) -> Path:
    """Half of the cells change a rate, half a weight."""
    changes = {f"rate_{i}": {"optim.lr": 0.02 + i * 1e-5} for i in range(cells // 2)}
    changes |= {f"weight_{i}": {"method.mixup_weight": 0.1 + i * 1e-3} for i in range(cells - 1 - cells // 2)}
    request = {
        "base": "guidedmix",
        "reference": "usual",
        "cells": {"usual": {}, **changes},
        "blocks": {"seed": list(range(blocks)), "split.seed": list(range(blocks))},
    }
    path.write_text(json.dumps(request))
    return path


def write_study(folder: StudyFolder, study: AblationStudy, base: Tree) -> None:
    request = {"kind": "ablate", "objectives": [dump(study.objective)], "run": dump(build(base)), **dump(study)}
    folder.claim({**request, **study.plan(base)}, "made up")
    folder.provenance.write_text(json.dumps({"host": "nowhere", "git": None, "command": [], "packages": {}}))
    draw, events, counts = random.Random(0), [], _counts()
    for number, run in enumerate(study.runs(base)):
        names = {"fingerprint": run.fingerprint, "number": number, "role": "trial", "label": run.label}
        asked = {**names, "params": run.params, "cell": run.cell, "block": run.block}
        metrics = {"val/miou": draw.gauss(0.5, 0.01), "time/seconds": 60.0}
        metrics |= {f"val/iou/{name}": draw.random() for name in "abcdefgh"}
        end = {"state": "complete", "objective": metrics["val/miou"], "step": 2000, "steps": 2000, "seconds": 60.0}
        rest = {"metrics": metrics, "best": {"step": 2000, "metrics": metrics}, "failure": None, "stages": []}
        when = {"started": "2026-01-01T00:00:00.000+00:00", "ended": "2026-01-01T00:01:00.000+00:00"}
        trial = folder.trial(run.fingerprint)
        trial.path.mkdir(parents=True)
        trial.trial.write_text(json.dumps({**asked, "seed": run.config.seed, "steps": 2000}))
        trial.result.write_text(json.dumps({"fingerprint": run.fingerprint, **end, **rest, **when}))
        trial.metrics.write_text("".join(_line(step, metrics) for step in STEPS))
        trial.counts.write_bytes(counts)
        trial.environment.write_text(json.dumps({"device": "made up", "stages": [], "data": "made up"}))
        trial.config.write_text(json.dumps(dump(run.config)))
        events += [{"event": "asked", **asked}, {"event": "trial_ended", **names, "state": "complete"}]
    folder.journal.write_text("".join(f"{json.dumps({'time': when['started'], **event})}\n" for event in events))


def _counts() -> bytes:
    file = io.BytesIO()
    counts = np.random.default_rng(0).integers(1, 5000, (48, 8, 3)).astype(np.int32)
    np.savez_compressed(file, ids=np.array([f"image_{i}" for i in range(48)]), counts=counts)
    return file.getvalue()


def _line(step: int, metrics: dict[str, Any]) -> str:
    return f"{json.dumps({'step': step, 'time': '2026-01-01T00:00:00.000+00:00', **metrics})}\n"


@contextmanager
def timed(name: str) -> Iterator[None]:
    began = time.process_time()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name:<24} {time.process_time() - began:7.2f} s   {peak:6.0f} MB at most so far", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=500)
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--report", action="store_true", help="also the report, which reads every curve")
    options = parser.parse_args()
    print(f"{options.cells} cells over {options.blocks} blocks, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    read_run("guidedmix")
    with tempfile.TemporaryDirectory() as place:
        file = write_request(Path(place) / "many.yaml", options.cells, options.blocks)
        with timed("read and check"):
            study, base = load_study(str(file), [], AblationStudy)
        folder = StudyFolder(Path(place) / "studies" / "many")
        here = Machine(0, None, None, "made up", 2)

        def plan() -> None:
            plan_study(study, base, folder, needed_by(study.scaling, "cpu"), here, Local(), None)

        with timed("plan, nothing run"):
            plan()
        write_study(folder, study, base)
        with timed("load the records"):
            records = load_trials(folder)
        with timed("compare"):
            compare(folder.request(), records)
        with timed("compare again"):
            compare(folder.request(), records)
        with timed("beside another"):
            entry, other = (read_entry(folder, "val/miou") for _ in range(2))
            found = judged([entry, replace(other, name="another")], anyway=False)
            Console(file=io.StringIO()).print(standings_table(found, "val/miou"))
        with timed("write the summary"):
            write_summary(folder)
        with timed("plan, all complete"):
            plan()
        with timed("cells at a restart"):
            Cells(study, base, folder)
        folder.trial(records[-1].fingerprint).result.unlink()
        summary = Summary(folder)
        summary.write()
        with timed("event"):
            summary.write()
        if options.report:
            with timed("report"):
                write_report(folder)


if __name__ == "__main__":
    main()
