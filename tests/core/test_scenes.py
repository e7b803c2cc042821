"""What is particular to the data sets of scenes: Pascal VOC 2012, PASCAL-Context, Cityscapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from guidedmix_core.errors import ConfigError
from guidedmix_core.lists import Names
from tests.trees import (
    dataset_at,
    halves,
    write,
    write_cityscapes,
    write_indexed,
    write_lines,
    write_pascal_context,
    write_voc2012,
)

FINE, SBD, VAL = ([f"2007_{i:06d}" for i in numbers] for numbers in (range(5), range(5, 8), range(8, 11)))


def ids(data, part: str) -> list[str]:
    return [record.id for record in data.records(part)]


def first_mask(data, part: str = "train") -> np.ndarray:
    return data.read_mask(data.records(part)[0])


def test_voc_trains_on_the_list_with_sbds_masks(tmp_path: Path) -> None:
    assert ids(dataset_at("voc2012", write_voc2012(tmp_path)), "train") == FINE + SBD


def test_voc_without_that_list_trains_on_every_mask_that_is_not_of_val(tmp_path: Path) -> None:
    (write_voc2012(tmp_path) / "ImageSets/Segmentation/train_aug.txt").unlink()
    assert ids(dataset_at("voc2012", tmp_path), "train") == FINE + SBD


def test_voc_reads_the_list_under_the_name_that_mmseg_gives_it(tmp_path: Path) -> None:
    lists = write_voc2012(tmp_path) / "ImageSets/Segmentation"
    (lists / "train_aug.txt").unlink()
    write_lines(lists / "trainaug.txt", *SBD)
    assert ids(dataset_at("voc2012", tmp_path), "train") == SBD


def test_voc_alone_trains_on_its_own_fine_masks(tmp_path: Path) -> None:
    data = dataset_at("voc2012", write_voc2012(tmp_path), labels="fine")
    assert (ids(data, "train"), ids(data, "val")) == (FINE, VAL)


def test_voc_is_found_in_the_devkit(tmp_path: Path) -> None:
    write_voc2012(tmp_path / "VOC2012")
    assert ids(dataset_at("voc2012", tmp_path), "val") == VAL


def test_the_ids_of_vocs_indexed_masks_are_read_and_outlines_ignored(tmp_path: Path) -> None:
    data = dataset_at("voc2012", write_voc2012(tmp_path), labels="fine")
    np.testing.assert_array_equal(data.read_mask(data.records("train")[3]), halves(0, 3, outline=255))


def test_voc_is_judged_by_fine_masks_whatever_it_trains_on(tmp_path: Path) -> None:
    data = dataset_at("voc2012", write_voc2012(tmp_path))
    assert 255 in first_mask(data, "val")
    assert 255 not in first_mask(data, "train")


def test_voc_is_judged_by_the_other_masks_where_the_fine_ones_are_left_out(tmp_path: Path) -> None:
    (write_voc2012(tmp_path) / "SegmentationClass").rename(tmp_path / "elsewhere")
    np.testing.assert_array_equal(first_mask(dataset_at("voc2012", tmp_path), "val"), halves(0, 8))


def test_vocs_missing_sbd_masks_come_with_a_cure(tmp_path: Path) -> None:
    (write_voc2012(tmp_path) / "SegmentationClassAug").rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"SegmentationClassAug: no such folder; .*or set data\.labels=fine"):
        dataset_at("voc2012", tmp_path).records("train")


def test_vocs_colors_are_the_official_ones(tmp_path: Path) -> None:
    colors = dict(zip(*(vars(dataset_at("voc2012", tmp_path).classes()).values()), strict=True))
    assert (colors["aeroplane"], colors["person"], colors["tvmonitor"]) == ((128, 0, 0), (192, 128, 128), (0, 64, 128))


@pytest.mark.parametrize("name", ["voc2012", "cityscapes"])
def test_a_test_part_whose_masks_are_not_public_is_refused(tmp_path: Path, name: str) -> None:
    said = rf"evaluate\.part=test: {name} has no public masks of it; use one of \['train', 'val'\]"
    with pytest.raises(ConfigError, match=said):
        dataset_at(name, tmp_path).records("test")


@pytest.mark.parametrize(("num_classes", "read"), [(60, (2, 59)), (59, (1, 58))])
def test_context_keeps_or_shifts_its_ids(tmp_path: Path, num_classes: int, read: tuple[int, int]) -> None:
    data = dataset_at("pascal_context", write_pascal_context(tmp_path), num_classes=num_classes)
    np.testing.assert_array_equal(data.read_mask(data.records("train")[2]), halves(*read))


def test_context_with_59_classes_ignores_the_background_and_what_was_ignored(tmp_path: Path) -> None:
    mask = write_pascal_context(tmp_path) / "SegmentationClassContext/2008_000000.png"
    write(mask, halves(0, 1, outline=255))
    data = dataset_at("pascal_context", tmp_path, num_classes=59)
    np.testing.assert_array_equal(first_mask(data), halves(255, 0, outline=255))


def test_contexts_classes_are_those_of_mmseg_with_or_without_the_background() -> None:
    all60, some59 = (dataset_at("pascal_context", Path(), num_classes=n).classes() for n in (60, 59))
    assert (len(all60), len(some59)) == (60, 59)
    assert all60.names[:2] == ("background", "aeroplane")
    assert (some59.names[0], some59.palette[0]) == ("aeroplane", (180, 120, 120))
    assert (some59.names[-1], some59.palette[-1]) == ("wood", (31, 0, 255))


def test_an_id_above_59_is_no_class_of_context(tmp_path: Path) -> None:
    write(write_pascal_context(tmp_path) / "SegmentationClassContext/2008_000000.png", halves(0, 60))
    with pytest.raises(ConfigError, match=r"the ids \[60\], but the 60 classes are 0 to 59"):
        first_mask(dataset_at("pascal_context", tmp_path, num_classes=59))


OFFICIAL_TRAIN_IDS = {
    7: 0,
    8: 1,
    11: 2,
    12: 3,
    13: 4,
    17: 5,
    19: 6,
    20: 7,
    21: 8,
    22: 9,
    23: 10,
    24: 11,
    25: 12,
    26: 13,
    27: 14,
    28: 15,
    31: 16,
    32: 17,
    33: 18,
}
"""cityscapesscripts/helpers/labels.py"""


def test_the_34_ids_of_cityscapes_become_19_classes(tmp_path: Path) -> None:
    mask = write_cityscapes(tmp_path) / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png"
    written = np.resize(np.arange(34, dtype=np.uint8), (24, 32))
    write(mask, written)
    expected = np.vectorize(lambda value: OFFICIAL_TRAIN_IDS.get(value, 255))(written)
    np.testing.assert_array_equal(first_mask(dataset_at("cityscapes", tmp_path)), expected)


def test_both_kinds_of_cityscapes_masks_say_the_same(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, "labelIds", "labelTrainIds")
    masks = [first_mask(dataset_at("cityscapes", tmp_path, masks=kind)) for kind in ("label_ids", "train_ids")]
    np.testing.assert_array_equal(*masks)


@pytest.mark.parametrize(
    ("there", "asked", "cure"),
    [
        ("labelIds", "train_ids", "there are *_gtFine_labelIds.png, so set data.masks=label_ids"),
        ("labelTrainIds", "label_ids", "there are *_gtFine_labelTrainIds.png, so set data.masks=train_ids"),
    ],
)
def test_the_other_kind_of_cityscapes_masks_is_pointed_at(tmp_path: Path, there: str, asked: str, cure: str) -> None:
    data = dataset_at("cityscapes", write_cityscapes(tmp_path, there), masks=asked)
    with pytest.raises(ConfigError) as caught:
        data.records("train")
    assert str(caught.value).startswith(f"{tmp_path}/gtFine/train: no *") and str(caught.value).endswith(cure)


def test_an_id_above_33_is_none_of_cityscapes(tmp_path: Path) -> None:
    mask = write_cityscapes(tmp_path) / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png"
    write(mask, halves(7, 34))
    with pytest.raises(ConfigError, match=r"labelIds\.png: the mask has the ids \[34\]"):
        first_mask(dataset_at("cityscapes", tmp_path))


@pytest.mark.parametrize(
    "line",
    [
        "leftImg8bit/train/ulm/ulm_000001_000019_leftImg8bit.png",  # U2PL; the first column of UniMatch
        "ulm/ulm_000001_000019_leftImg8bit.png",  # GuidedMix-Net
        "ulm/ulm_000001_000019",
        "ulm_000001_000019",
    ],
)
def test_every_spelling_in_circulation_names_an_image_of_cityscapes(tmp_path: Path, line: str) -> None:
    found = Names(dataset_at("cityscapes", write_cityscapes(tmp_path)).records("train")).find(line)
    assert found is not None
    assert found.id == "ulm/ulm_000001_000019"


def test_a_colored_mask_is_not_taken_for_ids(tmp_path: Path) -> None:
    mask = write_voc2012(tmp_path) / "SegmentationClassAug/2007_000000.png"
    write(mask, np.zeros((24, 32, 3), np.uint8))
    with pytest.raises(ConfigError, match="the mask has colors"):
        first_mask(dataset_at("voc2012", tmp_path))


def test_a_mask_without_an_image_is_named(tmp_path: Path) -> None:
    write_indexed(write_voc2012(tmp_path) / "SegmentationClassAug/2010_000001.png", halves(0, 1))
    with pytest.raises(ConfigError, match=r"2010_000001\.png: 1 masks have no image"):
        dataset_at("voc2012", tmp_path).records("train")


def test_a_listed_image_that_is_not_there_is_named_with_its_list(tmp_path: Path) -> None:
    (write_voc2012(tmp_path) / "JPEGImages/2007_000009.jpg").unlink()
    (tmp_path / "SegmentationClass/2007_000009.png").unlink()
    with pytest.raises(ConfigError, match=r"Segmentation/val\.txt: 1 of 3 lines name no image \(2007_000009\)"):
        dataset_at("voc2012", tmp_path).records("val")
