"""ST and ST++: train again from the beginning, on pseudo masks that a finished network made once.

Yang et al., CVPR 2022, arXiv 2106.05095. The method is one retraining; what comes before it are stages:

    ST      stages [supervised],                                      then all images
    ST++    stages [supervised, st_plus_plus reliable_share: 0.5],    then all images

    p    = argmax of the last stage's probabilities over scales and mirror images of x_u     once, x_u whole
    L    = CE of student([x_l, cutout(strong x_u)]) against [y_l, p], over all their pixels; 255 in cutout's hole
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from guidedmix_core.batch import IGNORE, Batch, Pseudo, StepLosses, Views
from guidedmix_core.fields import Tuple
from guidedmix_core.losses import average
from guidedmix_core.methods import Build, Method, Relabel, Student, Taught
from guidedmix_core.mixing import CutMix, cutmix_boxes, paste
from guidedmix_core.rng import At

Scales = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Tuple, Field(min_length=1)]


class StPlusPlus(Method):
    """Trained from the beginning on labeled images and on pseudo masks that the stage before made of the others."""

    reliable_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="of the unlabeled images, those whose prediction the stage before changed least on its way; 1: all",
    )
    relabel: Literal["rest", "all"] = Field(
        "rest",
        description="after a stage of st_plus_plus: images it was not taught get new masks (released code), or all do",
    )
    scales: Scales = Field(
        (0.5, 0.75, 1.0, 1.5, 2.0), description="of the image, over which the stage before averages its probabilities"
    )
    flip: bool = Field(True, description="average over the mirror images, too")
    strong: bool = Field(True, description="jitter, gray and blur on the pseudo-labeled images; false: the weak view")
    cutout: CutMix = Field(CutMix(), description="a box of noise that teaches nothing, on the pseudo-labeled images")

    def check(self, run) -> None:
        if not run.stages:
            cure = "add stages: [{method: supervised, steps: …}]"
            raise ValueError(f"method.name={self.name}: no stage comes before it to make its pseudo masks; {cure}")

    def views(self) -> Views:
        return Views(unlabeled=True, strong=int(self.strong))

    def networks(self, build: Build) -> Student:
        return Student(build.segmentor("student", fresh=True))

    def stored_masks(self) -> Relabel:
        return Relabel(self.reliable_share, self.relabel == "rest", self.scales, self.flip)

    def losses(self, nets: Student, batch: Batch, at: At) -> StepLosses:
        assert batch.unlabeled is not None and batch.unlabeled.pseudo is not None
        image = batch.unlabeled.strong[0] if self.strong else batch.unlabeled.weak
        hole = self._hole(image, at)
        with at.ambient("noise", image.device):
            image = paste(torch.rand_like(image), image, hole)
        logits = nets.student(torch.cat([batch.image, image]))
        mask = torch.cat([batch.mask, batch.unlabeled.pseudo.masked_fill(hole, IGNORE)])
        # One average over the pixels of both, as in the released code: the terms are parts of it.
        loss, valid = F.cross_entropy(logits.float(), mask, ignore_index=IGNORE, reduction="none"), mask != IGNORE
        is_labeled = torch.ones_like(loss)
        is_labeled[len(batch.image) :] = 0
        terms = {"supervised": is_labeled, "pseudo": 1 - is_labeled}
        terms = {name: average(loss, valid, weight=part) for name, part in terms.items()}
        return StepLosses(terms, dict.fromkeys(terms, 1.0))

    @torch.no_grad()
    def taught(self, nets: Student, batch: Batch, at: At) -> Taught | None:
        assert batch.unlabeled is not None and batch.unlabeled.pseudo is not None
        valid = batch.unlabeled.pseudo != IGNORE
        pseudo = Pseudo(batch.unlabeled.pseudo, valid.float(), valid)
        return Taught(pseudo, valid, nets.student(batch.unlabeled.weak).argmax(1))

    def _hole(self, image: Float[Tensor, "U C H W"], at: At) -> Bool[Tensor, "U H W"]:
        size = (image.shape[-2], image.shape[-1])
        return cutmix_boxes(at.generator("cutout"), len(image), size, self.cutout, image.device)
