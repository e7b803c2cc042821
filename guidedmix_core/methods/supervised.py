"""Labeled images only: the reference of every comparison."""

from __future__ import annotations

from pydantic import Field

from guidedmix_core.batch import Batch, StepLosses
from guidedmix_core.losses import Normalize, cross_entropy
from guidedmix_core.methods import Method, Student
from guidedmix_core.rng import At


class Supervised(Method):
    """Cross entropy on the labeled images."""

    normalize: Normalize = Field(
        "valid", description="what the cross entropy is divided by: the pixels with a label, or all"
    )

    def losses(self, nets: Student, batch: Batch, at: At) -> StepLosses:
        loss = cross_entropy(nets.student(batch.image), batch.mask, normalize=self.normalize)
        return StepLosses({"supervised": loss}, {"supervised": 1.0})
