"""Labeled images only: the reference of every comparison."""

from __future__ import annotations

from guidedmix_core.batch import Batch, StepLosses
from guidedmix_core.labeled import Labeled
from guidedmix_core.methods import Method, Student
from guidedmix_core.rng import At


class Supervised(Method):
    """Cross entropy on the labeled images."""

    labeled: Labeled = Labeled()

    def losses(self, nets: Student, batch: Batch, at: At) -> StepLosses:
        return StepLosses({"supervised": self.labeled.loss(nets.student(batch.image), batch.mask)}, {"supervised": 1.0})
