from __future__ import annotations

import colorsys

import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as peer
from torch.testing import assert_close

from guidedmix_core.augment import Crops, center_crops, first_balanced, random_crops, resample_image, resample_mask
from guidedmix_core.color import blur, distortion, jitter, strong_view
from guidedmix_core.config import Augment
from guidedmix_core.rng import generator

PADDING = torch.tensor([0.25, 0.5, 0.75])
NO_FLIP = 1.0  # a draw that is never below the probability


def draw(*numbers: float) -> torch.Tensor:
    return torch.tensor([numbers])


def crop_of(size: tuple[int, int], draws: torch.Tensor, **fields) -> Crops:
    return random_crops(torch.tensor([size]).expand(len(draws), 2), draws, Augment(**fields))


def pixels(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=generator("pixels"), dtype=torch.uint8)


def windows(image: torch.Tensor, crops: Crops) -> torch.Tensor:
    """What a crop of one image needs of it."""
    rows, columns = crops.rows, crops.columns
    return image[None, rows.start[0] : rows.stop[0], columns.start[0] : columns.stop[0]]


def test_the_identity_keeps_every_bit():
    image, crops = pixels(30, 40, 3), crop_of((30, 40), draw(0.5, 0.5, 0.5, NO_FLIP), crop=(30, 40), scale=(1.0, 1.0))
    assert torch.equal(resample_image(windows(image, crops), crops, PADDING)[0], image.permute(2, 0, 1) / 255)


def test_a_flip_mirrors_image_and_mask_exactly():
    image, crops = pixels(30, 40, 3), crop_of((30, 40), draw(0.5, 0.5, 0.5, 0.0), crop=(30, 40), scale=(1.0, 1.0))
    window = windows(image, crops)
    assert torch.equal(resample_image(window, crops, PADDING)[0], image.permute(2, 0, 1).flip(2) / 255)
    assert torch.equal(resample_mask(window[..., 0], crops)[0], image[..., 0].long().flip(1))


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.7])
def test_a_crop_is_a_resize_followed_by_a_cut(scale):
    image = pixels(30, 40, 3)
    crops = crop_of((30, 40), draw(0.0, 0.99, 0.0, NO_FLIP), crop=(16, 20), scale=(scale, scale))
    height, width = round(30 * scale), round(40 * scale)
    resized = F.interpolate(image.permute(2, 0, 1)[None] / 255, size=(height, width), mode="bilinear")
    assert_close(
        resample_image(windows(image, crops), crops, PADDING), resized[:, :, height - 16 :, :20], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.7])
def test_a_mask_is_resized_to_its_nearest_ids(scale):
    mask = pixels(30, 40)
    crops = crop_of((30, 40), draw(0.0, 0.99, 0.0, NO_FLIP), crop=(16, 20), scale=(scale, scale))
    height, width = round(30 * scale), round(40 * scale)
    resized = F.interpolate(mask[None, None].double(), size=(height, width), mode="nearest-exact").long()
    assert torch.equal(resample_mask(windows(mask, crops), crops), resized[:, 0, height - 16 :, :20])


def test_outside_the_image_are_padding_and_ignored_pixels():
    image, crops = pixels(10, 12, 3), center_crops(torch.tensor([[10, 12]]), (14, 20))
    crop, mask = (
        resample_image(windows(image, crops), crops, PADDING)[0],
        resample_mask(windows(image, crops)[..., 0], crops)[0],
    )
    assert (~crops.inside[0]).sum() == 14 * 20 - 10 * 12
    assert torch.equal(crop[:, ~crops.inside[0]], PADDING[:, None].expand(3, 160))
    assert (mask[~crops.inside[0]] == 255).all()
    assert torch.equal(crop[:, 2:12, 4:16], image.permute(2, 0, 1) / 255)


def test_images_of_different_sizes_are_cropped_as_if_each_were_alone():
    images, sizes = [pixels(20, 30, 3), pixels(40, 25, 3)], torch.tensor([[20, 30], [40, 25]])
    draws, fields = torch.rand(2, 4, generator=generator(0)), Augment(crop=(16, 16))
    both = random_crops(sizes, draws, fields)
    canvas = torch.zeros(2, 40, 30, 3, dtype=torch.uint8)
    for i, image in enumerate(images):
        window = image[both.rows.start[i] : both.rows.stop[i], both.columns.start[i] : both.columns.stop[i]]
        canvas[i, : window.shape[0], : window.shape[1]] = window
    together = resample_image(canvas, both, PADDING)
    for i, image in enumerate(images):
        alone = random_crops(sizes[i : i + 1], draws[i : i + 1], fields)
        assert torch.equal(together[i : i + 1], resample_image(windows(image, alone), alone, PADDING))


def test_every_place_of_a_crop_can_be_drawn():
    draws = torch.rand(400, 4, generator=generator(0))
    crops = crop_of((6, 5), draws, crop=(4, 4), scale=(1.0, 1.0))
    assert {*zip(crops.rows.start, crops.columns.start, strict=True)} == {(y, x) for y in range(3) for x in range(2)}


def test_a_crop_that_one_class_fills_is_drawn_again():
    mask = torch.zeros(8, 16, dtype=torch.uint8)
    mask[:, 8:] = 1
    left, middle = draw(0.5, 0.0, 0.0, NO_FLIP), draw(0.5, 0.0, 0.5, NO_FLIP)
    fields = Augment(crop=(8, 8), scale=(1.0, 1.0), max_class_share=0.75)
    assert first_balanced(mask.numpy(), torch.cat([left, left, middle, left]), fields) == 2


def test_the_last_crop_is_taken_if_one_class_fills_them_all():
    mask = torch.zeros(8, 16, dtype=torch.uint8)
    assert (
        first_balanced(
            mask.numpy(), torch.rand(10, 4, generator=generator(0)), Augment(crop=(8, 8), max_class_share=0.75)
        )
        == 9
    )


def test_ignored_pixels_do_not_count_as_a_class():
    mask = torch.full((8, 8), 255, dtype=torch.uint8)
    mask[0] = torch.tensor([0, 1] * 4)
    fields = Augment(crop=(8, 8), scale=(1.0, 1.0), max_class_share=0.5)
    assert first_balanced(mask.numpy(), torch.full((10, 4), 0.5), fields) == 0


IMAGES = torch.rand(6, 3, 20, 24, generator=generator("images"))


def test_jitter_is_torchvisions():
    draws = torch.rand(6, 4, generator=generator(0))
    expected = []
    for image, (brightness, contrast, saturation, hue) in zip(IMAGES, draws.tolist(), strict=True):
        for change, factor in (
            (peer.adjust_brightness, brightness),
            (peer.adjust_contrast, contrast),
            (peer.adjust_saturation, saturation),
        ):
            image = change(image, 0.6 + 0.8 * factor)
        expected.append(peer.adjust_hue(image, 0.2 * (2 * hue - 1)))
    assert_close(jitter(IMAGES, draws, 0.4), torch.stack(expected), atol=1e-5, rtol=0)


RANGES = ((-32 / 255, 32 / 255, 0), (0.5, 1.5, 1), (0.5, 1.5, 1), (-36 / 360, 36 / 360, 0))
"""mmseg's of brightness, contrast, saturation and hue; and what changes nothing."""


def photometric_distortion(pixel: list[float], draws: list[float]) -> list[float]:
    """mmseg's, of one pixel and in floats."""
    shift, contrast, saturation, turn = (
        low + (high - low) * draws[4 + i] if draws[i] < 0.5 else neutral
        for i, (low, high, neutral) in enumerate(RANGES)
    )
    before, after = (contrast, 1) if draws[8] < 0.5 else (1, contrast)
    hue, saturated, value = colorsys.rgb_to_hsv(*(clipped(clipped(channel + shift) * before) for channel in pixel))
    turned = colorsys.hsv_to_rgb((hue + turn) % 1, clipped(saturated * saturation), value)
    return [clipped(channel * after) for channel in turned]


def clipped(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def test_weak_color_at_one_half_is_mmsegs_photometric_distortion():
    images, draws = torch.rand(64, 3, 1, 1, generator=generator("pixel")), torch.rand(64, 9, generator=generator(0))
    pairs = zip(images[:, :, 0, 0].tolist(), draws.tolist(), strict=True)
    expected = torch.tensor([photometric_distortion(*pair) for pair in pairs])
    assert_close(distortion(images, draws, 0.5)[:, :, 0, 0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("operation", range(4))
def test_weak_color_applies_each_operation_to_half_of_the_images(operation):
    draws = torch.rand(2000, 9, generator=generator(0))
    draws[:, [i for i in range(4) if i != operation]] = 1
    images = torch.tensor([0.3, 0.5, 0.4]).view(1, 3, 1, 1).expand(2000, 3, 1, 1)
    changed = (distortion(images, draws, 0.5) - images).abs().amax(1).flatten() > 1e-5
    assert torch.equal(changed, draws[:, operation] < 0.5)


def test_gray_pixels_keep_no_color_under_weak_color():
    gray = IMAGES[:, :1].expand(6, 3, 20, 24)
    changed = distortion(gray, torch.rand(6, 9, generator=generator(0)), 0.5)
    assert_close(changed.amax(1), changed.amin(1), atol=1e-6, rtol=0)


def test_weak_color_leaves_its_image_alone():
    before = IMAGES.clone()
    distortion(IMAGES, torch.rand(6, 9, generator=generator(0)), 0.5)
    assert torch.equal(IMAGES, before)


def test_blur_is_torchvisions():
    sigma = torch.linspace(0.1, 2, 6)
    expected = torch.stack(
        [peer.gaussian_blur(image, [13, 13], [s, s]) for image, s in zip(IMAGES, sigma.tolist(), strict=True)]
    )
    assert_close(blur(IMAGES, sigma), expected, atol=1e-6, rtol=0)


def test_gray_pixels_keep_no_color_under_jitter():
    gray = IMAGES[:, :1].expand(6, 3, 20, 24)
    changed = jitter(gray, torch.rand(6, 4, generator=generator(0)), 0.5)
    assert_close(changed.amax(1), changed.amin(1), atol=1e-6, rtol=0)


def test_a_strong_view_of_probability_zero_is_the_image():
    draws = torch.rand(6, 8, generator=generator(0))
    assert torch.equal(strong_view(IMAGES, draws, Augment(color_probability=0, gray=0, blur=0)), IMAGES)


def test_a_strong_view_depends_on_its_own_draws_only():
    draws = torch.rand(6, 8, generator=generator(0))
    together = strong_view(IMAGES, draws, Augment())
    alone = torch.cat([strong_view(IMAGES[i : i + 1], draws[i : i + 1], Augment()) for i in range(6)])
    assert torch.equal(together, alone)


def test_strong_views_stay_between_0_and_1():
    view = strong_view(IMAGES, torch.rand(6, 8, generator=generator(0)), Augment(color=1.5))
    assert_close(view, view.clamp(0, 1), atol=0, rtol=0)
