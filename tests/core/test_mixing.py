"""Blending, boxes, class regions, and the one way to paste images and pseudo masks."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from guidedmix_core.batch import Pseudo
from guidedmix_core.mixing import (
    CutMix,
    blend,
    blend_maps,
    classmix_regions,
    cutmix_boxes,
    draw_lambda,
    mix_pseudo,
    partners,
    paste,
    supmix_regions,
)
from guidedmix_core.pseudo import predict_pseudo
from guidedmix_core.rng import generator


def rand(*shape: int, key: str = "a") -> torch.Tensor:
    return torch.rand(*shape, generator=generator("test", key))


def some_pseudo(key: str, n: int = 3) -> Pseudo:
    return predict_pseudo(5 * rand(n, 4, 6, 8, key=key), rand(n, 6, 8, key=f"{key} valid") > 0.3)


def test_blend_at_0_and_1_gives_either_side_exactly() -> None:
    a, b = rand(2, 3, 4, 4), rand(2, 3, 4, 4, key="b")
    assert torch.equal(blend(a, b, 0.0), b)
    assert torch.equal(blend(a, b, 1.0), a)


def test_blend_stays_between_its_sides() -> None:
    a, b = rand(2, 3, 4, 4), rand(2, 3, 4, 4, key="b")
    mixed = blend(a, b, 0.3)
    assert (mixed >= torch.minimum(a, b) - 1e-6).all()
    assert (mixed <= torch.maximum(a, b) + 1e-6).all()


def test_blend_is_linear() -> None:
    a, b, c, d = (rand(2, 3, 4, 4, key=key) for key in "abcd")
    assert_close(blend(a + 2 * c, b + 2 * d, 0.3), blend(a, b, 0.3) + 2 * blend(c, d, 0.3))


def test_every_map_is_blended() -> None:
    a, b = ({"c2": rand(1, 2, 4, 4, key=f"{side}2"), "c5": rand(1, 3, 2, 2, key=f"{side}5")} for side in "ab")
    mixed = blend_maps(a, b, 0.25)
    assert_close(mixed, {name: 0.25 * a[name] + 0.75 * b[name] for name in ("c2", "c5")})


@pytest.mark.parametrize("cap", [0.1, 0.2, 0.3, 0.4, 0.5])
def test_lambda_is_uniform_below_the_cap(cap: float) -> None:
    stream = generator("test", "lambda")
    draws = torch.tensor([draw_lambda(stream, cap) for _ in range(20_000)], dtype=torch.float64)
    assert (draws >= 0).all()
    assert (draws < cap).all()
    shares = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert_close(draws.quantile(shares), cap * shares, atol=0.015 * cap, rtol=0)  # 4 sigma of a quantile of 20k draws


@pytest.mark.parametrize("cap", [0.0, -0.1, 0.51])
def test_a_cap_outside_its_range_is_refused(cap: float) -> None:
    with pytest.raises(ValueError, match=r"expected a number in \(0, 0.5\]"):
        draw_lambda(generator("test"), cap)


def test_paste_takes_the_source_inside_the_region() -> None:
    left_half = torch.zeros(2, 4, 8, dtype=torch.bool)
    left_half[..., :4] = True
    out = paste(torch.ones(2, 3, 4, 8), torch.zeros(2, 3, 4, 8), left_half)
    assert out[..., :4].eq(1).all()
    assert out[..., 4:].eq(0).all()


def test_all_claims_are_mixed_with_one_region() -> None:
    source, target, region = some_pseudo("s"), some_pseudo("t"), rand(3, 6, 8, key="region") > 0.5
    mixed = mix_pseudo(source, target, region)
    for name in ("label", "confidence", "valid"):
        assert torch.equal(getattr(mixed, name), torch.where(region, getattr(source, name), getattr(target, name)))
    assert source.probability is not None
    assert target.probability is not None
    assert torch.equal(mixed.probability, paste(source.probability, target.probability, region))


def test_pasting_commutes_with_argmax() -> None:
    source, target, region = some_pseudo("s"), some_pseudo("t"), rand(3, 6, 8, key="region") > 0.5
    mixed = mix_pseudo(source, target, region)
    assert torch.equal(mixed.probability.argmax(1), mixed.label)


def test_blending_does_not_commute_with_argmax() -> None:
    sure_of_0, leaning_to_1 = torch.tensor([0.9, 0.1]), torch.tensor([0.45, 0.55])
    blended = blend(leaning_to_1, sure_of_0, 0.5).argmax()
    assert blended != leaning_to_1.argmax()
    assert blended == sure_of_0.argmax()


def test_the_partner_is_the_next_image_of_the_batch() -> None:
    pseudo = some_pseudo("s")
    assert torch.equal(partners(pseudo).label, pseudo.label[[1, 2, 0]])
    assert torch.equal(partners(pseudo).probability, pseudo.probability[[1, 2, 0]])


def test_boxes_have_an_area_in_the_declared_range() -> None:
    boxes = cutmix_boxes(generator("test"), 500, (120, 160), CutMix(area=(0.1, 0.3), probability=1.0))
    areas = boxes.float().mean(dim=(1, 2))
    rounding = 0.02  # half a pixel of each side of the smallest box
    assert areas.min() >= 0.1 - rounding
    assert areas.max() <= 0.3 + rounding
    assert areas.std() > 0.03


def test_a_box_is_one_rectangle() -> None:
    boxes = cutmix_boxes(generator("test"), 50, (24, 32), CutMix(probability=1.0))
    rows, columns = boxes.any(2), boxes.any(1)
    assert torch.equal(boxes, rows.unsqueeze(2) & columns.unsqueeze(1))
    assert (rows.int().diff(dim=1).abs().sum(1) <= 2).all()


def test_a_box_too_tall_for_the_image_keeps_its_area() -> None:
    box = CutMix(area=(0.5, 0.5), aspect=(4.0, 4.0), probability=1.0)
    boxes = cutmix_boxes(generator("test"), 8, (40, 40), box)
    assert_close(boxes.float().mean(dim=(1, 2)), torch.full((8,), 0.5))
    assert boxes.any(2).all()


def test_a_fitting_box_is_anything_between_as_wide_and_as_tall_as_its_area_allows() -> None:
    box = CutMix(area=(0.25, 0.25), aspect="fitting", probability=1.0)
    boxes = cutmix_boxes(generator("test"), 2000, (100, 100), box)
    tall = boxes.any(2).float().mean(1)
    assert_close(boxes.float().mean(dim=(1, 2)), torch.full((2000,), 0.25), atol=0.01, rtol=0)
    # The height is 0.25 ^ u for a uniform u: uniform in the logarithm from 0.25 to 1.
    shares = torch.linspace(0, 1, 11)
    assert_close(tall.quantile(shares), 0.25 ** (1 - shares), atol=0.03, rtol=0)


def test_boxes_share_the_area_and_cancel_where_they_overlap() -> None:
    one, three = (
        cutmix_boxes(
            generator("test"), 400, (96, 96), CutMix(area=(0.3, 0.3), aspect=(1, 1), num_boxes=n, probability=1)
        )
        for n in (1, 3)
    )
    side = round((0.1**0.5) * 96)
    areas = three.flatten(1).sum(1)
    assert_close(one.float().mean(dim=(1, 2)), torch.full((400,), 0.3), atol=0.01, rtol=0)
    assert areas.max() == 3 * side**2  # apart
    assert (areas < 3 * side**2).any()  # overlapping
    assert (areas % 2 == 3 * side**2 % 2).all()  # each pixel that two share is lost twice


@pytest.mark.parametrize("num_boxes", [1, 3])
def test_the_same_draw_gives_the_same_boxes_of_each_image(num_boxes: int) -> None:
    few, many = (cutmix_boxes(generator("test"), n, (24, 32), CutMix(num_boxes=num_boxes)) for n in (3, 8))
    assert torch.equal(many[:3], few)


def test_boxes_come_with_their_probability() -> None:
    has_box = cutmix_boxes(generator("test"), 4000, (8, 8), CutMix(probability=0.25)).flatten(1).any(1)
    assert_close(has_box.float().mean(), torch.tensor(0.25), atol=0.03, rtol=0)


def test_an_area_above_the_whole_image_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 1"):
        CutMix(area=(0.5, 1.5))


def test_half_of_the_present_classes_are_taken_rounded_down() -> None:
    label = torch.tensor([0, 0, 3, 3, 7, 7, 9, 255]).repeat(2, 4, 1)
    label[1] = label[1].masked_fill(label[1] == 9, 7)
    region = classmix_regions(generator("test"), label)
    taken = [set(label[i][region[i]].tolist()) for i in range(2)]
    assert [len(classes) for classes in taken] == [2, 1]
    assert all(classes <= {0, 3, 7, 9} for classes in taken)


def test_a_class_is_taken_whole_or_not_at_all() -> None:
    label = torch.randint(0, 5, (6, 10, 10), generator=generator("test", "labels"))
    region = classmix_regions(generator("test"), label)
    for image, inside in zip(label, region, strict=True):
        assert all(inside[image == c].unique().numel() <= 1 for c in range(5))


def test_every_class_is_taken_equally_often() -> None:
    label = torch.arange(4).repeat(2000, 1, 1)
    taken = classmix_regions(generator("test"), label).float().mean(dim=(0, 1))
    assert_close(taken, torch.full((4,), 0.5), atol=0.05, rtol=0)


def test_one_draw_may_decide_for_the_whole_batch() -> None:
    box = CutMix(whole_batch=True)
    regions = torch.stack([cutmix_boxes(generator("test", i), 6, (32, 40), box) for i in range(50)])
    has_box = regions.flatten(2).any(2)
    assert torch.equal(has_box, has_box[:, :1].expand(-1, 6))
    assert 0.3 < has_box.float().mean() < 0.7


def labeled_mask() -> torch.Tensor:
    mask = torch.randint(0, 5, (6, 10, 10), generator=generator("test", "labels"))
    mask[:, :2] = 255
    return mask


def test_supmix_takes_all_pixels_of_the_classes_that_are_pasted() -> None:
    mask, pasted = labeled_mask(), torch.tensor([False, True, False, False, True])
    assert torch.equal(supmix_regions(mask, pasted, None), (mask == 1) | (mask == 4))


def test_supmix_with_all_classes_and_half_of_them_is_classmix() -> None:
    mask, everything = labeled_mask(), torch.ones(5, dtype=torch.bool)
    region = supmix_regions(mask, everything, generator("test"))
    assert torch.equal(region, classmix_regions(generator("test"), mask))
    assert 0 < region.float().mean() < 1


def test_supmix_takes_half_of_the_pasted_classes_that_an_image_has() -> None:
    mask, pasted = torch.tensor([0, 1, 2, 3, 4, 255]).expand(40, 2, 6), torch.tensor([False, True, True, True, True])
    region = supmix_regions(mask, pasted, generator("test"))
    assert (region.any(1).sum(1) == 2).all()
    assert not region[..., [0, 5]].any()
    assert region[..., 1:5].any(1).any(0).all()
