"""The run: one frozen, typed tree. Equal trees, equal fingerprint, same run."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from guidedmix_core.components import Config
from guidedmix_core.datasets import Dataset
from guidedmix_core.fields import Tuple
from guidedmix_core.methods import Method
from guidedmix_core.sections import Augment, Evaluate, Optim, Split, Train
from guidedmix_core.segmentors import Segmentor


class Stage(Config):
    """A part of the chain that comes before the run's own method. Whatever it does not say is as in the run."""

    method: Method
    steps: int = Field(ge=1, description="optimizer steps; the schedule of the learning rate is the stage's own")
    optim: Optim | None = Field(None, description="null: the run's; what a file gives of it lies over the run's")


class RunConfig(Config):
    """Everything that decides what is trained."""

    seed: int = Field(0, ge=0, description="of every random stream of the run; the labeled split has its own")
    stages: Annotated[tuple[Stage, ...], Tuple] = Field(
        (),
        description="what is trained before the run's own method, which begins with the weights they end with; where a "
        "file names no `method`, the last of them is the run's own",
    )
    method: Method
    segmentor: Segmentor
    data: Dataset
    split: Split = Split()
    augment: Augment = Augment()
    optim: Optim = Optim()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()

    @model_validator(mode="after")
    def _parts_fit(self) -> RunConfig:
        for name in ("batch_size", "unlabeled_batch_size"):
            if (size := getattr(self.train, name)) % self.train.accumulate:
                raise ValueError(
                    f"train.{name}={size}: expected a multiple of train.accumulate={self.train.accumulate}"
                )
        for i, stage in enumerate(self.stages):
            try:
                stage.method.check(self.up_to(i))
            except ValueError as error:
                raise ValueError(f"stages.{i}.{error}") from None
        self.method.check(self)
        return self

    @property
    def steps_before(self) -> int:
        """Steps of all stages. The run's random streams go on where theirs ended."""
        return sum(stage.steps for stage in self.stages)

    def up_to(self, i: int) -> RunConfig:
        """The run that ends with stage i, as a run of its own; with all stages done, this one."""
        if i == len(self.stages):
            return self
        stage = self.stages[i]
        own = {"method": stage.method, "optim": stage.optim or self.optim, "stages": self.stages[:i]}
        return self.model_copy(update={**own, "train": self.train.model_copy(update={"steps": stage.steps})})
