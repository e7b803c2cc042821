"""UniMatch V2: one stream of perturbed images and features. Yang et al., TPAMI 2025, arXiv 2410.10777.

As in the released code, for labeled (x_l, y_l) and unlabeled x_u:

    p        = teacher(weak x_u)                                    evaluation mode, average of the whole state
    x_i, p_i = paste(box_i; strong_i x_u, p of the mirrored batch onto strong_i x_u, p)          i = 1, 2
    z_1, z_2 = f([x_1, x_2]), half of the pairs with complementary channels of the features dropped
    L        = (CE(f(x_l), y_l) + (CE(z_1, p_1) + CE(z_2, p_2)) / 2) / 2    where confident, by existing pixels

The paper's network is DINOv2 with DPT, whose features have one width and share a mask; here each map has its own.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from guidedmix_core.batch import Batch, StepLosses, Views
from guidedmix_core.fields import Weight
from guidedmix_core.methods._teacher import Decay, StudentAndTeacher, TaughtByAverage
from guidedmix_core.mixing import CutMix, cutmix_boxes, mix_pseudo, paste
from guidedmix_core.pseudo import confident, confident_share, teach
from guidedmix_core.rng import At
from guidedmix_core.segmentors import Maps, SegmentationNetwork
from guidedmix_core.transfer import sent


class UniMatchV2(TaughtByAverage):
    """An average teaches two strong views whose features lack complementary channels."""

    decay: Decay = 0.996
    joint_batch: bool = False
    labeled_weight: Weight = Field(0.5, description="of the labeled term; the published sums are divided by two")
    strong_weight: Weight = Field(0.25, description="of each strong view's term")
    complementary_dropout: bool = Field(True, description="false: the features stay as they are")
    kept_pairs: float = Field(0.5, ge=0, le=1, description="share of the pairs of views whose features stay whole")
    cutmix: CutMix = CutMix()

    def views(self) -> Views:
        return Views(unlabeled=True, strong=2)

    def losses(self, nets: StudentAndTeacher, batch: Batch, at: At) -> StepLosses:
        strong = dict.fromkeys(("strong_0", "strong_1"), self.strong_weight)
        weights = at.weights({"supervised": self.labeled_weight, **strong})
        terms, metrics = {}, {}
        if "supervised" in weights:
            terms["supervised"] = self.labeled.loss(nets.student(batch.image), batch.mask)
        if "strong_0" in weights:
            assert batch.unlabeled is not None
            pseudo = self.claim(nets, batch.unlabeled.weak, batch.unlabeled.valid)
            claimed = pseudo.take(torch.arange(len(pseudo.label) - 1, -1, -1, device=pseudo.label.device))
            images, lessons = [], []
            for i, strong in enumerate(batch.unlabeled.strong):
                size = (strong.shape[-2], strong.shape[-1])
                region = cutmix_boxes(at.generator(f"cutmix/{i}"), len(strong), size, self.cutmix, strong.device)
                images.append(paste(strong.flip(0), strong, region))
                lessons.append(mix_pseudo(claimed, pseudo, region))
            logits = self._logits(nets.student, torch.cat(images), at).chunk(2)
            for i, (seen, lesson) in enumerate(zip(logits, lessons, strict=True)):
                kept = confident(lesson, self.threshold).float()
                terms[f"strong_{i}"] = teach(seen, lesson, kept, loss="ce")
            metrics["kept"] = confident_share(pseudo, self.threshold)
        return StepLosses(terms, weights, metrics)

    def _logits(self, student: SegmentationNetwork, image: Float[Tensor, "N C H W"], at: At) -> Tensor:
        if not self.complementary_dropout:
            return student(image)
        maps = drop_complementary(student.run({"image": image}, until="c5"), self.kept_pairs, at)
        return student.resize(student.run(maps, after="c5")["logits"], (image.shape[-2], image.shape[-1]))


def drop_complementary(maps: Maps, kept_pairs: float, at: At) -> Maps:
    """Of images i and i + N/2 each channel goes to one of the two, doubled; in a share of the pairs both keep all."""
    pairs = len(maps["c5"]) // 2
    stream = at.generator("complementary_dropout")
    whole = (torch.randperm(pairs, generator=stream) < int(pairs * kept_pairs)).unsqueeze(1)
    dropped = {}
    for name, feature in maps.items():
        first = 2.0 * torch.randint(0, 2, (pairs, feature.shape[1]), generator=stream)
        share = torch.cat([first.masked_fill(whole, 1.0), (2 - first).masked_fill(whole, 1.0)])
        dropped[name] = feature * sent(share, feature.device)[..., None, None].to(feature.dtype)
    return dropped
