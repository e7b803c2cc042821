"""The chain of stages before a run: each is trained once, by whoever needs it first, and shared by its address."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from filelock import FileLock, Timeout
from torch import Tensor

from guidedmix_core.cache import ArrayCache, opened
from guidedmix_core.checkpoint import Checkpoints
from guidedmix_core.config import Evaluate, RunConfig
from guidedmix_core.errors import ConfigError, Preempted, TrialFailed
from guidedmix_core.files import write_text
from guidedmix_core.loaders import RunData
from guidedmix_core.place import Place
from guidedmix_core.relabeling import relabel
from guidedmix_core.reports import Report, Reporter, Result, StageReport
from guidedmix_core.schema import dump, fingerprint
from guidedmix_core.segmentors import SegmentationNetwork
from guidedmix_core.stage_folder import StageFolder, finite, load_weights, save_weights

log = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds between two words of a worker that waits for another process to the rest of its group."""


@dataclass(frozen=True)
class Start:
    """What a run begins with: weights of the student, stored pseudo masks, and the seconds that its stages took."""

    weights: dict[str, Tensor] | None = None
    masks: ArrayCache | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Passing:
    """What a stage leaves on its way: a checkpoint each so many steps, its weights at some."""

    every: int
    snapshots: Mapping[int, Path] = field(default_factory=dict)


Train = Callable[[RunConfig, Start, Checkpoints, Reporter, Passing], tuple[Result, SegmentationNetwork]]


def lineage(config: RunConfig) -> str:
    """16 hexadecimal digits for the tree that leads to a run's weights, however the run is judged. No data is read.

    The content of the stage's `stage.yaml` has the same.
    """
    return fingerprint(_unjudged(config))


def address(config: RunConfig, data: RunData) -> str:
    """16 hexadecimal digits for all that leads to a run's weights: its tree, its data and the content of pretrained
    weights, not how it is judged."""
    origin = [lineage(config), data.trained_on, *filter(None, [config.segmentor.backbone.weights_digest()])]
    return hashlib.sha256(" ".join(origin).encode()).hexdigest()[:16]


def run_stages(config: RunConfig, data: RunData, root: Path, place: Place, reporter: Reporter, train: Train) -> Start:
    """What the run begins with. Stages that `root` has are reused; what is missing is trained, or waited for.

    All workers of a group call this. TrialFailed and ConfigError of a stage name it.
    """
    return _Chain(config, data, root, place, reporter, train).start(len(config.stages))


class _Chain:
    def __init__(
        self, config: RunConfig, data: RunData, root: Path, place: Place, reporter: Reporter, train: Train
    ) -> None:
        self.config, self.data, self.place, self.reporter, self.train = config, data, place, reporter, train
        self.runs = [config.up_to(i) for i in range(len(config.stages) + 1)]
        self.folders = [StageFolder(root / address(run, data)) for run in self.runs[:-1]]
        self.told: set[int] = set()

    def start(self, i: int) -> Start:
        """What run i of the chain begins with."""
        if i == 0:
            return Start()
        self._complete(i - 1)
        before, masks = self.folders[i - 1], self._masks(i)
        seconds = before.read_result().get("seconds_in_all", 0.0)
        seconds += before.mask_seconds(self.runs[i].method.stored_masks())
        return Start(load_weights(before.weights), masks, seconds)

    def _complete(self, i: int) -> None:
        folder = self.folders[i]
        if not self._is_there(folder):
            start = self.start(i)
            with self._locked(i):
                if not self._is_there(folder):
                    self._train(i, start)
        for known in range(i + 1):  # an earlier one may be gone: what came of it is there
            self._tell(known, "reused")

    def _is_there(self, folder: StageFolder) -> bool:
        return self.place.agree(folder.weights.exists())

    def _train(self, i: int, start: Start) -> None:
        run, folder, steps = self.runs[i], self.folders[i], self.runs[i].train.steps
        judged_once = {"every": steps, "telemetry_images": 0, "panels": 0}
        judged = run.model_copy(update={"evaluate": run.evaluate.model_copy(update=judged_once)})
        passing = Passing(self.config.evaluate.every, folder.snapshots(steps))
        self._tell(i, "trains")
        if self.place.rank == 0:
            for leftover in folder.path.rglob("*.part"):  # of a process that was killed while it wrote
                leftover.unlink()
            text = yaml.safe_dump(dump(_unjudged(run)), sort_keys=False, allow_unicode=True)
            write_text(folder.config, text)
        with _named(self._report(i, "trains").name):
            listener = _StageReporter(self.reporter, folder)
            result, network = self.train(judged, start, _StageCheckpoints(folder.checkpoint), listener, passing)
        if self.place.rank == 0:
            self._write(i, start, result)
            save_weights(folder.weights, network)
            shutil.rmtree(folder.checkpoint, ignore_errors=True)
            self._tell(i, "trained")
        self.place.agree(None)  # nobody reads before it is written, and told
        self._tell(i, "trained")

    def _write(self, i: int, start: Start, result: Result) -> None:
        record = {
            "address": self.folders[i].address,
            "method": self.runs[i].method.name,
            "steps": result.steps,
            "seconds": result.seconds,
            "seconds_in_all": start.seconds + result.seconds,
            "metrics": finite(result.metrics),
            "data": self.data.trained_on,
            "weights": self.config.segmentor.backbone.weights_digest(),
            "torch": torch.__version__,
        }
        write_text(self.folders[i].result, json.dumps(record, indent=1) + "\n")

    def _masks(self, i: int) -> ArrayCache | None:
        """The pseudo masks that run i has asked for; the stage before it makes them."""
        ask = self.runs[i].method.stored_masks()
        if ask is None:
            return None
        folder = self.folders[i - 1]
        if (masks := self._stored(folder.pseudo(ask))) is not None:
            return masks
        self._complete(i - 1)
        earlier = self._masks(i - 1) if ask.keep else None
        with self._locked(i - 1):
            if (masks := self._stored(folder.pseudo(ask))) is not None:
                return masks
            return relabel(ask, self.runs[i - 1], folder, self.data, self.place, earlier, self._alive)

    def _stored(self, folder: Path) -> ArrayCache | None:
        return ArrayCache(folder) if self.place.agree(opened(folder) is not None) else None

    @contextmanager
    def _locked(self, i: int) -> Iterator[None]:
        """The first worker holds the lock. The system lets go of it when its process ends, however it ends."""
        folder = self.folders[i]
        folder.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.lock)
        if not self._acquired(lock, 0.0):
            self._tell(i, "waits")
            log.warning("%s: another process works on it; waiting until it has done, or died", folder.path)
            while not self._acquired(lock, PATIENCE):
                self._alive()
        try:
            yield
        finally:
            lock.release()

    def _acquired(self, lock: FileLock, wait: float) -> bool:
        got = False
        if self.place.rank == 0:
            try:
                lock.acquire(timeout=wait)
                got = True
            except Timeout:
                pass
        return self.place.agree(got)

    def _alive(self) -> None:
        """Where nothing is to be saved. The first worker leaves alone, and the others end with it."""
        self.reporter.alive()
        if self.reporter.leaves():
            raise Preempted("left before its first step")

    def _tell(self, i: int, state: Literal["waits", "trains", "trained", "reused"]) -> None:
        """That it is there is told once."""
        if i not in self.told:
            self.reporter.staged(self._report(i, state))
        if state in ("trained", "reused"):
            self.told.add(i)

    def _report(self, i: int, state: Literal["waits", "trains", "trained", "reused"]) -> StageReport:
        folder, run = self.folders[i], self.runs[i]
        found = folder.read_result() if state in ("trained", "reused") else {}
        facts = (found.get("seconds"), found.get("metrics", {}))
        return StageReport(i, folder.address, run.method.name, run.train.steps, state, *facts)


class _StageCheckpoints(Checkpoints):
    """Of a stage: whoever goes on with it may judge it otherwise. Its best checkpoint is of no use: it hands on its
    last weights."""

    def save_last(self, config: RunConfig, state: dict[str, Any]) -> None:
        super().save_last(_unjudged(config), state)

    def save_best(self, config: RunConfig, step: int, nets: dict[str, Any]) -> None:
        return

    def load_last(self, config: RunConfig, device: torch.device) -> dict[str, Any] | None:
        return super().load_last(_unjudged(config), device)


class _StageReporter:
    """Keeps the stage's own curves; its steps are the run's progress."""

    def __init__(self, reporter: Reporter, folder: StageFolder) -> None:
        self.reporter, self.folder = reporter, folder

    def staged(self, stage: StageReport) -> None:
        raise AssertionError("a stage is trained without stages of its own: the chain has begun it")

    def progress(self, step: int, steps: int, losses: Mapping[str, Tensor]) -> None:
        self.reporter.progress(step, steps, losses)

    def alive(self) -> None:
        self.reporter.alive()

    def leaves(self) -> bool:
        return self.reporter.leaves()

    def stops(self) -> bool:
        return False

    def evaluated(self, report: Report) -> bool:
        self.folder.note(report.step, report.metrics)
        return False


@contextmanager
def _named(stage: str) -> Iterator[None]:
    """What goes wrong says in which stage."""
    try:
        yield
    except TrialFailed as error:
        raise TrialFailed(f"{stage}: {error}", reason=error.reason, step=error.step) from error
    except ConfigError as error:
        raise ConfigError(f"{stage}: {error}") from error
    except Exception as error:
        error.add_note(f"in {stage}")
        raise


def _unjudged(config: RunConfig) -> RunConfig:
    return config.model_copy(update={"evaluate": Evaluate()})
