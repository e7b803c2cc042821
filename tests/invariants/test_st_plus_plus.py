"""ST++: what its one step teaches, and how it begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from guidedmix_core.batch import IGNORE, Batch, StepLosses
from guidedmix_core.building import build_networks
from guidedmix_core.methods import Student
from guidedmix_core.methods.st_plus_plus import StPlusPlus
from guidedmix_core.rng import At
from guidedmix_core.segmentors import SegmentationNetwork
from tests.invariants.steps import NUM_CLASSES, some_batch
from tests.runs import small_run

NO_CUTOUT = {"method.cutout.probability": 0.0}
SURE_CUTOUT = {"method.cutout.probability": 1.0}
FIXED = {"segmentor.norm": "none", "segmentor.backbone.norm": "none", "segmentor.dropout": 0.0}


class Watched(Student):
    """Keeps what its student sees; the logits are the same for all images, and depend on the pixel."""

    def __init__(self) -> None:
        super().__init__(SegmentationNetwork({}, {}, align_corners=False))
        self.student.forward = self.see

    def see(self, image: Tensor) -> Tensor:
        self.image = image
        pixels = torch.linspace(0, 1, image.shape[-2] * image.shape[-1]).view(image.shape[-2:])
        self.logits = torch.stack([pixels * k for k in range(NUM_CLASSES)]).expand(len(image), -1, -1, -1)
        return self.logits


def method_of(changes: Mapping[str, Any]) -> StPlusPlus:
    method = small_run({"method.name": "st_plus_plus", **changes}).method
    assert isinstance(method, StPlusPlus)
    return method


def pseudo_batch() -> Batch:
    batch = some_batch()
    assert batch.unlabeled is not None
    pseudo = torch.full_like(batch.unlabeled.valid, 2, dtype=torch.long).masked_fill(~batch.unlabeled.valid, IGNORE)
    return replace(batch, unlabeled=replace(batch.unlabeled, pseudo=pseudo))


def seen(changes: Mapping[str, Any]) -> tuple[Watched, Batch, StepLosses]:
    nets, batch = Watched(), pseudo_batch()
    return nets, batch, method_of(changes).losses(nets, batch, At(0, 3, 10))


def test_the_terms_are_parts_of_one_average_over_the_pixels_of_both() -> None:
    nets, batch, losses = seen(NO_CUTOUT)
    assert batch.unlabeled is not None
    mask = torch.cat([batch.mask, batch.unlabeled.pseudo])
    torch.testing.assert_close(losses.total(), F.cross_entropy(nets.logits, mask, ignore_index=IGNORE))
    labeled = F.cross_entropy(nets.logits[:4], batch.mask, ignore_index=IGNORE, reduction="sum")
    torch.testing.assert_close(losses.terms["supervised"], labeled / (mask != IGNORE).sum())


def test_labeled_images_are_seen_as_they_are_and_pseudo_labeled_ones_strong() -> None:
    nets, batch, _ = seen(NO_CUTOUT)
    assert batch.unlabeled is not None
    assert torch.equal(nets.image, torch.cat([batch.image, batch.unlabeled.strong[0]]))


def test_without_strong_views_none_is_made_and_the_weak_one_is_seen() -> None:
    nets, batch, _ = seen({**NO_CUTOUT, "method.strong": False})
    assert batch.unlabeled is not None
    assert torch.equal(nets.image[4:], batch.unlabeled.weak)
    assert method_of({"method.strong": False}).views().strong == 0


def test_cutout_puts_noise_into_a_box_of_each_pseudo_labeled_image_and_no_other() -> None:
    nets, batch, _ = seen(SURE_CUTOUT)
    assert batch.unlabeled is not None
    changed = (nets.image[4:] != batch.unlabeled.strong[0]).any(1)
    shares = changed.float().mean((1, 2))
    assert torch.equal(nets.image[:4], batch.image)
    assert bool(((shares > 0) & (shares < 0.45)).all())
    assert bool(((nets.image >= 0) & (nets.image <= 1)).all())


def test_the_hole_of_cutout_teaches_nothing() -> None:
    nets, batch, losses = seen(SURE_CUTOUT)
    assert batch.unlabeled is not None and batch.unlabeled.pseudo is not None
    hole = (nets.image[4:] != batch.unlabeled.strong[0]).any(1)
    mask = torch.cat([batch.mask, batch.unlabeled.pseudo.masked_fill(hole, IGNORE)])
    torch.testing.assert_close(losses.total(), F.cross_entropy(nets.logits, mask, ignore_index=IGNORE))


def test_it_begins_as_a_run_without_stages_does() -> None:
    config = small_run({"method.name": "st_plus_plus", **FIXED})
    handed = {name: torch.zeros_like(weight) for name, weight in config.segmentor.build(5).state_dict().items()}
    begun = build_networks(config, 5, start=handed).state_dict()
    reference = build_networks(small_run(FIXED), 5).state_dict()
    assert [name for name in reference if not torch.equal(begun[name], reference[name])] == []


def test_the_telemetry_judges_the_stored_masks() -> None:
    batch = pseudo_batch()
    taught = method_of({}).taught(Watched(), batch, At(0, 3, 10))
    assert taught is not None and batch.unlabeled is not None
    assert torch.equal(taught.pseudo.label, batch.unlabeled.pseudo)
    assert torch.equal(taught.kept, batch.unlabeled.valid)


@pytest.mark.parametrize(("relabel", "keep"), [("rest", True), ("all", False)])
def test_what_it_asks_of_the_stage_before_is_what_its_fields_say(relabel: str, keep: bool) -> None:
    changes = {"method.reliable_share": 0.5, "method.relabel": relabel, "method.scales": [1.0], "method.flip": False}
    ask = method_of(changes).stored_masks()
    assert (ask.share, ask.keep, ask.scales, ask.flip) == (0.5, keep, (1.0,), False)
