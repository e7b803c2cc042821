"""The run: one frozen, typed tree. Equal trees, equal fingerprint, same run."""

from __future__ import annotations

from pydantic import Field, model_validator

from guidedmix_core.components import Config
from guidedmix_core.datasets import Dataset
from guidedmix_core.methods import Method
from guidedmix_core.sections import Augment, Evaluate, Optim, Split, Train
from guidedmix_core.segmentors import Segmentor


class RunConfig(Config):
    """Everything that decides what is trained."""

    seed: int = Field(0, ge=0, description="of every random stream of the run; the labeled split has its own")
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
        self.method.check(self)
        return self
