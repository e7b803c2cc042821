"""What the runs of a study may use, what they may cost, and who is told."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from guidedmix_core import Config, Tuple
from orchestrator.space import refuse


class Scaling(Config):
    """What one run may use. It never changes what a run computes."""

    workers: int = Field(1, ge=1, description="processes a run; more than one train it together through Ray Train")
    gpus_per_worker: float = Field(
        0,
        ge=0,
        description="0: on the CPU; 1/n such as 0.5: n runs share a GPU, each with its part of the memory",
    )
    pack: Literal["auto"] | None = Field(
        None, description="auto: as many runs share a GPU as their measured memory lets (`guidedmix plan FILE --probe`)"
    )
    accelerator: str | None = Field(
        None, description="the type of GPU, where a cluster has several, by Ray's name: H100, A100, T4; null: any"
    )
    cpus_per_worker: float = Field(1, gt=0)
    concurrent: int | None = Field(
        None, ge=1, description="runs at once; null: as many as fit, on a cluster that grows when it has grown"
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        gpus = self.gpus_per_worker
        parts = 1 if gpus >= 1 or not gpus else 1 / gpus
        if (gpus >= 1 and not gpus.is_integer()) or abs(parts - round(parts)) > 0.05:
            refuse(f"{gpus:g} of a GPU: expected 0, a whole number, or 1/n, such as 0.5 or 0.25", "gpus_per_worker")
        if self.workers > 1 and parts > 1:
            refuse("a run on several workers takes whole GPUs: they would wait for each other", "gpus_per_worker")
        if self.pack and (gpus not in (0, 1) or self.workers > 1):
            refuse("auto says itself how much of a GPU a run has, and a run has one worker then", "pack")
        return self


class Budget(Config):
    """What may still be spent on a study. `plan`, `tune` and `ablate` refuse to begin what would cost more, and what
    has a limit and was never measured; null: no limit."""

    gpu_hours: float | None = Field(None, ge=0)
    cpu_hours: float | None = Field(None, ge=0, description="of runs that use no GPU: cores x hours")
    price: float | None = Field(None, ge=0, description="in the currency of the cluster, whose file has the price")


Event = Literal["study_started", "trial_ended", "trial_failed", "study_ended"]


class Notify(Config):
    """A command of yours that is told what happens to a search or an ablation, as its file says; `train` tells nobody.
    That the command fails is a warning, and changes nothing else."""

    command: Annotated[tuple[str, ...], Field(min_length=1), Tuple] = Field(
        description='a program and its arguments, such as [./tell.sh], or [sh, -c, \'curl -s -d "$GUIDEDMIX_MESSAGE" '
        '"$MY_CHANNEL"\']; the event comes as JSON on its input. A password belongs in the environment'
    )
    on: Annotated[tuple[Event, ...], Field(min_length=1), Tuple] = Field(
        ("study_ended", "trial_failed"), description="study_ended: also of one that is interrupted"
    )
