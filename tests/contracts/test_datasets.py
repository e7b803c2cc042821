"""What every data set promises. The suite finds its subjects; one with files needs a tiny tree in `tests/trees.py`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guidedmix_core.cache import cached_images, cached_masks
from guidedmix_core.components import find, names
from guidedmix_core.datasets import Dataset, Part, Record
from guidedmix_core.errors import ConfigError
from guidedmix_core.lists import Names
from guidedmix_core.loaders import open_data
from guidedmix_core.schema import build
from guidedmix_core.sources import override, read_run
from tests.runs import small_run
from tests.trees import TREES, built, dataset_at

SEARCH_SPACES = Path(__file__).parents[2] / "search_spaces"
ON_DISK = [name for name in names("datasets") if "root" in find("datasets", name).model_fields]
every = pytest.mark.parametrize("name", names("datasets"))
WITH_RUN = [name for name in ON_DISK if (SEARCH_SPACES / "base" / f"{name}.yaml").exists()]
on_disk = pytest.mark.parametrize("name", ON_DISK)
SMALLER = {"shapes": {"image_size": [24, 32], "num_train": 6, "num_val": 3, "num_test": 3}}
PARTS: tuple[Part, ...] = ("train", "val", "test")


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every tree, written once; tests that change one write their own."""
    folder = tmp_path_factory.mktemp("trees")
    return {name: write(folder / name / "tree") for name, (write, _) in TREES.items()}


@pytest.fixture
def fields(name: str, roots: dict[str, Path]) -> dict[str, Any]:
    """Those that name the tree; a generated data set needs none."""
    return {"root": str(roots[name]), **TREES[name][1]} if name in ON_DISK else SMALLER.get(name, {})


@pytest.fixture
def data(name: str, fields: dict[str, Any]) -> Dataset:
    return built(name, fields)


def everything(data: Dataset) -> list[Record]:
    return [record for part in data.parts() for record in data.records(part)]


def judged(data: Dataset) -> list[Record]:
    return [record for record in everything(data) if record.has_mask]


@on_disk
def test_it_has_a_tiny_tree(name: str) -> None:
    assert name in TREES


@every
def test_it_has_images_to_train_on_and_to_judge_by(data: Dataset) -> None:
    assert {"train", "val"} <= set(data.parts())
    assert all(data.records(part) for part in data.parts())


@every
def test_a_part_that_it_has_not_is_refused_by_name(data: Dataset) -> None:
    for part in set(PARTS) - set(data.parts()):
        with pytest.raises(ConfigError, match=part):
            data.records(part)


@every
def test_ids_are_unique_sorted_and_the_same_at_every_call(data: Dataset) -> None:
    for part in data.parts():
        ids = [record.id for record in data.records(part)]
        assert ids == sorted(set(ids)) == [record.id for record in data.records(part)]


@every
def test_no_image_is_both_trained_on_and_judged_by(data: Dataset) -> None:
    trained = {(record.id, record.image) for record in data.records("train")}
    judged = {(record.id, record.image) for part in data.parts()[1:] for record in data.records(part)}
    assert not trained & judged


@every
def test_names_and_colors_are_as_many(data: Dataset) -> None:
    classes = data.classes()
    assert len(set(classes.names)) == len(classes.palette) == len(classes)
    assert all(len(color) == 3 and 0 <= min(color) <= max(color) <= 255 for color in classes.palette)


@every
def test_a_mask_is_as_large_as_its_image_and_has_ids_of_classes(data: Dataset) -> None:
    for record in judged(data):
        image, mask = data.read_image(record), data.read_mask(record)
        assert (image.dtype, image.shape) == (np.uint8, (*mask.shape, 3))
        assert set(np.unique(mask)) <= {*range(len(data.classes())), 255}


@every
def test_some_pixels_have_a_class_in_every_part(data: Dataset) -> None:
    for part in data.parts():
        masks = [data.read_mask(record) for record in data.records(part) if record.has_mask]
        assert any((mask < 255).any() for mask in masks)


@every
def test_size_resizes_both_and_makes_no_new_id(name: str, data: Dataset, fields: dict[str, Any]) -> None:
    record = data.records("val")[0]
    resized = built(name, {**fields, "size": [40, 50]})
    assert resized.read_image(record).shape == (40, 50, 3)
    assert set(np.unique(resized.read_mask(record))) <= set(np.unique(data.read_mask(record)))


@every
def test_the_cache_gives_what_is_read(data: Dataset) -> None:
    records = data.records("val")
    images, masks = cached_images(data, records), cached_masks(data, records)
    for i, record in enumerate(records):
        np.testing.assert_array_equal(images[i], data.read_image(record))
        np.testing.assert_array_equal(masks[i], data.read_mask(record))


@every
def test_two_parts_have_two_digests(data: Dataset) -> None:
    train, val = (cached_images(data, data.records(part)).digest for part in ("train", "val"))
    assert train != val


@every
def test_lists_of_ids_and_lists_of_paths_name_its_images(data: Dataset) -> None:
    records = data.records("train")
    by_id = [record.id for record in records]
    by_path = [f"{record.id if record.slice is not None else record.image or record.id}" for record in records]
    for lines in (by_id, by_path):
        assert Names(records).find_all(lines, "list") == records


@every
def test_a_run_finds_its_labeled_images(name: str, fields: dict[str, Any]) -> None:
    run = open_data(small_run({"data": {"name": name, **fields}, "split.labeled": 2, "method.name": "mean_teacher"}))
    assert (len(run.split.labeled), run.skipped) == (2, ())
    assert len(run.split.unlabeled) > 0


@pytest.mark.parametrize("name", WITH_RUN)
def test_the_run_of_its_name_reads_it(name: str, roots: dict[str, Path]) -> None:
    run = build(override(read_run(f"base/{name}"), {"data.root": str(roots[name])}, "test"))
    assert run.data.name == name
    assert all(run.data.records(part) for part in run.data.parts())


@on_disk
def test_a_root_that_is_not_there_is_named_with_a_cure(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"{tmp_path}/nowhere.*no such folder; (expected|set data\.root)"):
        dataset_at(name, tmp_path / "nowhere").records("train")


@on_disk
def test_a_root_a_level_too_high_or_too_low_is_corrected(name: str, roots: dict[str, Path]) -> None:
    if name == "folder":
        pytest.skip("the layout of `folder` is the user's: it has no other place to suggest")
    (roots[name] / "deeper").mkdir(exist_ok=True)
    for wrong in (roots[name].parent, roots[name] / "deeper"):
        with pytest.raises(ConfigError, match=rf"data\.root={wrong}: .*did you mean data\.root={roots[name]}\?"):
            dataset_at(name, wrong).records("train")


@on_disk
def test_a_training_image_needs_no_mask_and_an_evaluated_one_does(name: str, tmp_path: Path) -> None:
    data = dataset_at(name, TREES[name][0](tmp_path))
    if all(record.slice is not None for record in everything(data)):
        pytest.skip("its slices share a file, so no mask can be missing")
    for part in ("train", "val"):
        mask = data.records(part)[0].mask
        assert mask is not None
        mask.unlink()
    assert not data.records("train")[0].has_mask
    with pytest.raises(ConfigError, match=f"1 val images have no mask; the first should be {mask}"):
        data.records("val")


@on_disk
def test_a_damaged_image_is_an_oserror(name: str, tmp_path: Path) -> None:
    data = dataset_at(name, TREES[name][0](tmp_path))
    record = data.records("train")[0]
    assert record.image is not None
    broken = tmp_path / f"broken{record.image.suffix}"
    broken.write_bytes(b"no image")
    with pytest.raises(OSError):
        data.read_image(replace(record, image=broken))
