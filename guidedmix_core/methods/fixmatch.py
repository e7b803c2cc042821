"""FixMatch for segmentation, with UniMatch's extensions as fields.

Sohn et al., NeurIPS 2020, arXiv 2001.07685, in the form of Yang et al., UniMatch, CVPR 2023, arXiv 2208.09910. For
labeled (x_l, y_l), unlabeled x_u and a second draw x_v:

    z_l, z_u = f([x_l, weak x_u])                                   one batch; what z_u claims of x_u teaches
    x_i, p_i = paste(box_i; strong_i x_v, f(weak x_v) onto strong_i x_u, z_u)      x_v is labeled in evaluation mode
    z_f      = head(channel dropout of the features of x_u)
    L        = w CE(z_l, y_l) + sum_i w_s CE(f(x_i), p_i) + w_f CE(z_f, z_u)      where confident, by existing pixels
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from guidedmix_core.batch import Batch, Pseudo, StepLosses, Views
from guidedmix_core.ema import in_mode
from guidedmix_core.fields import Weight, is_off
from guidedmix_core.labeled import Labeled
from guidedmix_core.methods import Method, Student, Taught
from guidedmix_core.methods._teacher import Threshold
from guidedmix_core.mixing import CutMix, cutmix_boxes, mix_pseudo, paste
from guidedmix_core.pseudo import confident, confident_share, predict_pseudo, teach
from guidedmix_core.rng import At
from guidedmix_core.segmentors import Maps, SegmentationNetwork

StrongViews = Annotated[int, Field(ge=1, le=4, description="each with colors and a box of its own; UniMatch: 2")]
StrongWeight = Annotated[Weight, Field(description="of each strong view's term; UniMatch: 0.125")]
FeatureWeight = Annotated[Weight, Field(description="of the term of perturbed features; UniMatch: 0.25")]


class FixMatch(Method):
    """The network's own confident predictions of weak views teach it on strong ones; no teacher."""

    threshold: Threshold = 0.95
    labeled: Labeled = Labeled()
    labeled_weight: Weight = Field(0.5, description="of the labeled term; the published sums are divided by two")
    strong_views: StrongViews = 1
    strong_weight: StrongWeight = 0.5
    feature_weight: FeatureWeight = 0.0
    feature_dropout: float = Field(0.5, gt=0, lt=1, description="share of the backbone's channels that is dropped")
    cutmix: CutMix = CutMix()

    def views(self) -> Views:
        return Views(unlabeled=True, strong=self.strong_views, partner=not is_off(self.strong_weight))

    def losses(self, nets: Student, batch: Batch, at: At) -> StepLosses:
        strong = dict.fromkeys((f"strong_{i}" for i in range(self.strong_views)), self.strong_weight)
        weights = at.weights({"supervised": self.labeled_weight, "feature": self.feature_weight, **strong})
        if weights.keys() == {"supervised"}:
            loss = self.labeled.loss(nets.student(batch.image), batch.mask)
            return StepLosses({"supervised": loss}, weights)
        assert batch.unlabeled is not None
        size = (batch.image.shape[-2], batch.image.shape[-1])
        maps = nets.student.run({"image": torch.cat([batch.image, batch.unlabeled.weak])}, until="c5")
        groups = [maps, self._perturbed(maps, at)] if "feature" in weights else [maps]
        logits = nets.student.resize(_head(nets.student, groups), size).split(
            len(batch.image) + len(batch.unlabeled.weak)
        )
        labeled, weak = logits[0].tensor_split([len(batch.image)])
        pseudo = predict_pseudo(weak, batch.unlabeled.valid)
        terms = {}
        if "supervised" in weights:
            terms["supervised"] = self.labeled.loss(labeled, batch.mask)
        if "feature" in weights:
            terms["feature"] = self._teach(logits[1][len(batch.image) :], pseudo)
        if "strong_0" in weights:
            terms |= self._strong_terms(nets.student, batch, pseudo, at)
        return StepLosses(terms, weights, {"kept": confident_share(pseudo, self.threshold)})

    @torch.no_grad()
    def taught(self, nets: Student, batch: Batch, at: At) -> Taught | None:
        assert batch.unlabeled is not None
        pseudo = predict_pseudo(nets.student(batch.unlabeled.weak), batch.unlabeled.valid)
        return Taught(pseudo, confident(pseudo, self.threshold), pseudo.label)

    def _strong_terms(
        self, student: SegmentationNetwork, batch: Batch, pseudo: Pseudo, at: At
    ) -> dict[str, Float[Tensor, ""]]:
        assert batch.unlabeled is not None and batch.partner is not None
        with torch.no_grad(), in_mode(student, training=False):
            claimed = predict_pseudo(student(batch.partner.weak), batch.partner.valid)
        images, lessons = [], []
        for i, (image, other) in enumerate(zip(batch.unlabeled.strong, batch.partner.strong, strict=True)):
            size = (image.shape[-2], image.shape[-1])
            region = cutmix_boxes(at.generator(f"cutmix/{i}"), len(image), size, self.cutmix, image.device)
            images.append(paste(other, image, region))
            lessons.append(mix_pseudo(claimed, pseudo, region))
        logits = student(torch.cat(images)).chunk(len(images))
        return {f"strong_{i}": self._teach(*pair) for i, pair in enumerate(zip(logits, lessons, strict=True))}

    def _perturbed(self, maps: Maps, at: At) -> Maps:
        """Whole channels of every map that the backbone gives, dropped for each image anew."""
        with at.ambient("feature_dropout", maps["c5"].device):
            return {name: F.dropout2d(feature, self.feature_dropout) for name, feature in maps.items()}

    def _teach(self, logits: Float[Tensor, "U K H W"], pseudo: Pseudo) -> Float[Tensor, ""]:
        return teach(logits, pseudo, confident(pseudo, self.threshold).float(), loss="ce")


def _head(student: SegmentationNetwork, groups: list[Maps]) -> Float[Tensor, "N K _ _"]:
    """Logits of all groups in one pass of the head, as UniMatch's decoder sees them."""
    together = {name: torch.cat([maps[name] for maps in groups]) for name in groups[0]}
    return student.run(together, after="c5")["logits"]
