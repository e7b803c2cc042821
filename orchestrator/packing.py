"""How many runs share a GPU: as many as the memory that the largest of them was measured to take lets."""

from __future__ import annotations

import math

from guidedmix_core import ConfigError, Tree
from orchestrator.costs import probed_rates
from orchestrator.folder import StudyFolder
from orchestrator.planned_runs import planned_runs
from orchestrator.resources import Scaling
from orchestrator.study import Study

CONTEXT_BYTES = 0.6e9
"""What CUDA takes for each process beside its tensors: an assumption."""
SLACK = 1.1
"""What PyTorch's allocator holds, as a multiple of what tensors take: an assumption."""


def runs_on(gpu_bytes: float, peak_bytes: int) -> int:
    """So many runs fit; 0: not even one."""
    return math.floor(gpu_bytes / (peak_bytes * SLACK + CONTEXT_BYTES))


def packed(study: Study, base: Tree, folder: StudyFolder) -> Scaling:
    """The study's scaling, with what `pack: auto` means in numbers. ConfigError if that was never measured."""
    scaling = study.scaling
    if scaling.pack is None:
        return scaling
    rates = probed_rates(folder, device=None)
    runs = planned_runs(study, base, folder)
    found = [rates.get(run.cost) for run in runs]
    measured = [rate for rate in found if rate is not None and rate.peak_bytes]
    if not measured or len(measured) < len(found):
        raise ConfigError(
            f"scaling.pack=auto: the memory of {len(found) - len(measured)} of {len(found)} runs was never measured on "
            "a GPU; `guidedmix plan … --probe` on a machine that has one does, or give scaling.gpus_per_worker=0.5"
        )
    fits = [runs_on(rate.device_bytes or 0, rate.peak_bytes or 0) for rate in measured]
    if not min(fits):
        raise ConfigError("scaling.pack=auto: the largest run does not fit on the GPU that it was measured on")
    return scaling.model_copy(update={"gpus_per_worker": 1 / min(fits), "pack": None})
