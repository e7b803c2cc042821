from __future__ import annotations

import numpy as np
import pytest

from guidedmix_core.config import Split
from guidedmix_core.datasets.camvid import CamVid
from guidedmix_core.datasets.folder import Folder
from guidedmix_core.datasets.shapes import Shapes
from guidedmix_core.errors import ConfigError
from guidedmix_core.splits import LabelSplit, draw_split
from tests.trees import write, write_camvid, write_lines

SHAPES = Shapes(image_size=(32, 32), num_train=40)


def labeled(split: LabelSplit) -> list[str]:
    return [record.id for record in split.labeled]


def unlabeled(split: LabelSplit) -> list[str]:
    return [record.id for record in split.unlabeled]


def test_a_count_and_a_share_say_how_many_are_labeled():
    assert [len(draw_split(Split(labeled=amount), SHAPES).labeled) for amount in (5, 0.25, 1, 1.0)] == [5, 10, 1, 40]


def test_every_image_is_labeled_or_unlabeled_and_none_is_both():
    split = draw_split(Split(labeled=7), SHAPES)
    assert sorted(labeled(split) + unlabeled(split)) == [record.id for record in SHAPES.records("train")]


def test_equal_seeds_draw_equal_splits_and_others_differ():
    draws = [labeled(draw_split(Split(labeled=8, seed=seed), SHAPES)) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize("seed", range(5))
def test_every_class_occurs_in_a_drawn_split(tmp_path, seed):
    split = draw_split(Split(labeled=7, seed=seed), CamVid(root=str(write_camvid(tmp_path))))
    assert (
        len(split.labeled) == 7
    )  # 8 images, each the only one with its class, but for the first: it is the one left out
    assert labeled(split) == [f"train_{i}" for i in range(1, 8)]


def test_a_draw_too_small_for_every_class_takes_as_many_as_it_can(tmp_path):
    data = Folder(root=str(tmp_path), class_names=("a", "b", "c", "d"), images="images/{part}", masks="masks/{part}")
    for i in range(200):  # all have one class, but one
        write(tmp_path / f"images/train/{i:03}.png", np.zeros((2, 2, 3), np.uint8))
        write(
            tmp_path / f"masks/train/{i:03}.png", np.array([[0, 1], [2, 3]] if i == 77 else [[0, 0], [0, 0]], np.uint8)
        )
    assert labeled(draw_split(Split(labeled=1), data)) == ["077"]


def test_images_without_a_mask_are_no_candidates(tmp_path):
    camvid = CamVid(root=str(write_camvid(tmp_path)))
    for i in range(5):
        (tmp_path / "trainannot" / f"train_{i}.png").unlink()
    assert set(labeled(draw_split(Split(labeled=2), camvid))) < {"train_5", "train_6", "train_7"}


def test_a_drawn_split_stays_when_the_withheld_masks_are_removed(tmp_path):
    camvid = CamVid(root=str(write_camvid(tmp_path)))
    before = draw_split(Split(labeled=3, seed=4), camvid)
    for record in before.unlabeled:
        record.mask.unlink()
    assert draw_split(Split(labeled=3, seed=4), camvid) == before


def test_unreadable_images_are_in_no_part():
    split = draw_split(Split(labeled=39), SHAPES, skipped=["train_00003"])
    assert "train_00003" not in labeled(split) + unlabeled(split)


@pytest.mark.parametrize(
    "lines",
    [
        ("train_00003", "train_00001"),
        (
            "/JPEGImages/train_00003.jpg /SegmentationClassAug/train_00003.png",
            "/JPEGImages/train_00001.jpg /x//train_00001.png",
        ),
        ("JPEGImages/train_00003.jpg SegmentationClass/train_00003.png", "", "JPEGImages/train_00001.jpg x"),
    ],
)
def test_a_list_of_pascal_voc_in_any_format_keeps_its_order(tmp_path, lines):
    split = draw_split(Split(labeled_list=write_lines(tmp_path / "list.txt", *lines)), SHAPES)
    assert (labeled(split), len(split.unlabeled)) == (["train_00003", "train_00001"], 38)


@pytest.mark.parametrize(
    "lines",
    [
        ("ulm/a_01_leftImg8bit.png", "jena/a_01_leftImg8bit.png"),
        ("leftImg8bit/train/ulm/a_01_leftImg8bit.png", "leftImg8bit/train/jena/a_01_leftImg8bit.png"),
        ("leftImg8bit/train/ulm/a_01_leftImg8bit.png gtFine/train/ulm/a_01_gtFine_labelTrainIds.png", "jena/a_01"),
    ],
)
def test_a_list_of_cityscapes_in_any_format_is_read(tmp_path, lines):
    for city in ("jena", "ulm"):
        for name in ("a_01", "a_02"):
            write(tmp_path / f"images/train/{city}/{name}_leftImg8bit.png", np.zeros((2, 2, 3), np.uint8))
    data = Folder(root=str(tmp_path), class_names=("a",), image_suffix="_leftImg8bit")
    split = draw_split(Split(labeled_list=write_lines(tmp_path / "list.txt", *lines)), data)
    assert (labeled(split), unlabeled(split)) == (["ulm/a_01", "jena/a_01"], ["jena/a_02", "ulm/a_02"])


def test_an_unlabeled_list_leaves_the_other_images_out(tmp_path):
    lists = (
        write_lines(tmp_path / "l.txt", "train_00000"),
        write_lines(tmp_path / "u.txt", "train_00009", "train_00005"),
    )
    split = draw_split(Split(labeled_list=lists[0], unlabeled_list=lists[1]), SHAPES)
    assert (labeled(split), unlabeled(split)) == (["train_00000"], ["train_00009", "train_00005"])


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((), "the list is empty"),
        (
            ("train_00001", "val_00001", "ulm/train_0"),
            r"2 of 3 lines name no image \(val_00001, ulm/train_0\); .* look like train_00000",
        ),
        (("train_00001", "train_00001.png"), "2 lines name 1 images; list each image once"),
    ],
)
def test_a_list_that_does_not_fit_is_named(tmp_path, lines, said):
    with pytest.raises(ConfigError, match=said):
        draw_split(Split(labeled_list=write_lines(tmp_path / "list.txt", *lines)), SHAPES)


def test_another_citys_image_is_not_taken_for_one_of_equal_name(tmp_path):
    write(tmp_path / "images/train/jena/a_01.png", np.zeros((2, 2, 3), np.uint8))
    data = Folder(root=str(tmp_path), class_names=("a",))
    with pytest.raises(ConfigError, match="ulm/a_01"):
        draw_split(Split(labeled_list=write_lines(tmp_path / "list.txt", "ulm/a_01.png")), data)


def test_a_list_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.txt: the list can't be read"):
        draw_split(Split(labeled_list=str(tmp_path / "nowhere.txt")), SHAPES)


def test_an_image_in_both_lists_is_named(tmp_path):
    both = write_lines(tmp_path / "list.txt", "train_00001")
    with pytest.raises(ConfigError, match=r"share 1 images \(train_00001\)"):
        draw_split(Split(labeled_list=both, unlabeled_list=both), SHAPES)


@pytest.mark.parametrize(
    ("amount", "said"),
    [(41, r"split\.labeled=41: expected at most 40"), (0.001, r"split\.labeled=0\.001: that is no image of 40")],
)
def test_a_number_of_labels_that_is_not_there_is_named(amount, said):
    with pytest.raises(ConfigError, match=said):
        draw_split(Split(labeled=amount), SHAPES)
