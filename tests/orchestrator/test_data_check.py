"""`guidedmix data check`: what it counts, what it finds wrong, what it draws."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guidedmix_core import ConfigError
from orchestrator import cli
from orchestrator.contact_sheet import Row, contact_sheet
from orchestrator.inspection import Inspection, inspect, list_parts, named_dataset, shown_images
from tests.trees import halves, write, write_camvid, write_chase_db1, write_folder, write_kvasir, write_voc2012

TWO = "class_names=[ground, thing]"


def inspected(name: str, *fields: str) -> Inspection:
    dataset = named_dataset(name, fields)
    listed, problems = list_parts(dataset)
    return inspect(dataset, listed, problems, lambda: None)


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The exit code of a command."""
    monkeypatch.setattr(sys, "argv", ["guidedmix", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_images_masks_sizes_and_shares_are_counted(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "masks/train/2.png").unlink()
    write(tmp_path / "masks/train/1.png", halves(0, 0, outline=255))
    train = inspected("folder", f"root={tmp_path}", TWO).parts[0]
    assert (len(train.seen), len(train.masked), train.sizes) == (3, 2, [(24, 32)])
    assert train.pixels.tolist() == [12 * 32 + 22 * 32, 12 * 32, 2 * 32]
    assert train.shares.tolist() == [34 / 46, 12 / 46]
    assert train.present.sum(0).tolist() == [2, 1]


def test_a_clean_data_set_has_no_problems(tmp_path: Path) -> None:
    assert inspected("folder", f"root={write_folder(tmp_path)}", TWO).problems == []


def test_every_kind_of_problem_is_named_with_its_part_and_place(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "images/train/0.png").write_bytes(b"no image")
    write(tmp_path / "masks/train/1.png", halves(0, 7))
    write(tmp_path / "masks/train/2.png", np.zeros((24, 30), np.uint8))
    (tmp_path / "masks/val/1.png").unlink()
    shutil.copy(tmp_path / "images/train/2.png", tmp_path / "images/test/0.png")
    write(tmp_path / "masks/test/1.png", halves(255, 255))
    problems = "\n".join(inspected("folder", f"root={tmp_path}", TWO).problems)
    for said in (
        f"val: {tmp_path}/images/val/1.png: 1 val images have no mask",
        "train: 0: the image can't be read",
        f"train: 1: {tmp_path}/masks/train/1.png: the mask has the ids [7]",
        f"train: 2: {tmp_path}/masks/train/2.png: the mask has 24x30 pixels",
        "train: no image has a mask",
        "test: every pixel is ignored in 1 masks, such as that of 1",
        "train and test: 1 images are in both, such as train 2 = test 0",
    ):
        assert said in problems


def test_a_class_that_no_mask_has_is_named(tmp_path: Path) -> None:
    found = inspected("folder", f"root={write_folder(tmp_path)}", "class_names=[ground, thing, ghost]")
    assert found.problems == [f"{part}: no mask has ghost" for part in ("train", "val", "test")]


def test_a_part_that_is_another_once_more_is_not_taken_for_a_leak(tmp_path: Path) -> None:
    found = inspected("chase_db1", f"root={write_chase_db1(tmp_path)}")
    assert (found.repeats, [part.part for part in found.parts]) == ({"test": "val"}, ["train", "val"])
    assert found.problems == []


def test_parts_without_public_masks_are_no_problem(tmp_path: Path) -> None:
    assert [part.part for part in inspected("voc2012", f"root={write_voc2012(tmp_path)}").parts] == ["train", "val"]


def test_a_run_stands_for_its_data_set(tmp_path: Path) -> None:
    found = inspected("kvasir", f"root={write_kvasir(tmp_path)}", "size=null")
    assert [len(part.masked) for part in found.parts] == [3, 2]


def test_a_name_that_is_neither_data_set_nor_run_is_told_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no data set or run 'citiscapes'; did you mean 'cityscapes'\?"):
        named_dataset("citiscapes", [])


def test_the_shown_images_have_as_many_classes_as_possible(tmp_path: Path) -> None:
    write_camvid(tmp_path)  # mask i has the classes 0 and i
    train = inspected("camvid", f"root={tmp_path}").parts[0]
    assert len(shown_images(train, 6)) == len({record.id for record in shown_images(train, 6)}) == 6
    assert len(shown_images(train, 99)) == 8
    write(tmp_path / "trainannot/train_7.png", np.resize(np.arange(11, dtype=np.uint8), (24, 32)))
    assert [record.id for record in shown_images(inspected("camvid", f"root={tmp_path}").parts[0], 1)] == ["train_7"]


def test_the_picture_has_each_image_its_mask_and_the_classes(tmp_path: Path) -> None:
    dataset = named_dataset("folder", [f"root={write_folder(tmp_path)}", TWO, "palette=[[0, 0, 0], [10, 200, 30]]"])
    record = dataset.records("train")[0]
    write(tmp_path / "images/train/0.png", np.full((24, 32, 3), 255, np.uint8))
    colors = {color: count for count, color in contact_sheet(dataset, "", [Row("", "", [record])]).getcolors(1 << 16)}
    assert colors[(10, 200, 30)] > 200  # the legend
    assert colors[(108, 222, 120)] > 100 * 190  # the right half of the mask: 0.6 of its color over white
    assert colors[(102, 102, 102)] > 100 * 190  # the left one


def test_the_command_writes_the_picture_and_ends_well(tmp_path: Path, monkeypatch, capsys) -> None:
    picture = tmp_path / "new" / "sheet.png"
    fields = (f"root={write_folder(tmp_path / 'data')}", TWO)
    assert run(monkeypatch, "data", "check", "folder", *fields, "-o", str(picture)) == 0
    said = capsys.readouterr().out
    assert "nothing is wrong" in said and str(picture) in said.replace("\n", "")
    with Image.open(picture) as sheet:
        assert sheet.width > 1000


def test_the_command_ends_with_1_if_something_is_wrong_with_the_data(tmp_path: Path, monkeypatch, capsys) -> None:
    (write_folder(tmp_path) / "images/train/0.png").write_bytes(b"no image")
    words = ("data", "check", "folder", f"root={tmp_path}", TWO, "-o", str(tmp_path / "sheet.png"))
    assert run(monkeypatch, *words) == 1
    assert "train: 0: the image can't be read" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("camvid", "root=nowhere"), ("camvid",), ("camvid", "rot=x"), ("nothing",)])
def test_the_command_ends_with_2_if_the_request_is_wrong(monkeypatch, words: tuple[str, ...]) -> None:
    assert run(monkeypatch, "data", "check", *words) == 2
