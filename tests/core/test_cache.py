from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest

from guidedmix_core.cache import cache_root, cached_images, cached_masks
from guidedmix_core.datasets.camvid import CamVid
from guidedmix_core.datasets.shapes import Shapes
from guidedmix_core.errors import ConfigError
from tests.trees import write_camvid


class CountedShapes(Shapes):
    """Leaves a line in a file for each image that it makes."""

    log: str

    def read_image(self, record):
        with open(self.log, "a") as file:
            file.write(f"{record.id}\n")
        return super().read_image(record)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GUIDEDMIX_CACHE", str(tmp_path / "cache"))


def counted(tmp_path, **fields) -> CountedShapes:
    return CountedShapes(log=str(tmp_path / "log"), image_size=(16, 16), num_train=5, **fields)


def reads(tmp_path) -> int:
    return len((tmp_path / "log").read_text().split())


def test_arrays_come_back_as_they_were_read(tmp_path):
    camvid = CamVid(root=str(write_camvid(tmp_path)))
    records = camvid.records("train")
    images, masks = cached_images(camvid, records), cached_masks(camvid, records)
    for i, record in enumerate(records):
        np.testing.assert_array_equal(images[i], camvid.read_image(record))
        np.testing.assert_array_equal(masks[i], camvid.read_mask(record))


def test_the_second_opening_decodes_nothing(tmp_path):
    data = counted(tmp_path)
    cached_images(data, data.records("train"))
    cached_images(data, data.records("train"))
    assert reads(tmp_path) == 5


def test_another_configuration_has_another_cache(tmp_path):
    for seed in (0, 1):
        data = counted(tmp_path, seed=seed)
        cached_images(data, data.records("train"))
    assert reads(tmp_path) == 10


def test_a_changed_file_is_decoded_again(tmp_path):
    camvid = CamVid(root=str(write_camvid(tmp_path)))
    before = cached_images(camvid, camvid.records("val"))
    (tmp_path / "val" / "val_0.png").write_bytes((tmp_path / "val" / "val_1.png").read_bytes())
    after = cached_images(camvid, camvid.records("val"))
    np.testing.assert_array_equal(after[0], after[1])
    assert before.digest != after.digest


def test_the_digest_depends_on_the_content_and_not_on_the_place(tmp_path):
    roots = [write_camvid(tmp_path / name) for name in ("here", "there")]
    caches = [cached_images(camvid, camvid.records("val")) for camvid in (CamVid(root=str(root)) for root in roots)]
    assert caches[0].digest == caches[1].digest


def test_two_processes_that_start_at_once_build_once(tmp_path):
    data = counted(tmp_path)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=cached_images, args=(data, data.records("train"))) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert ([process.exitcode for process in processes], reads(tmp_path)) == ([0, 0], 5)


def test_a_truncated_cache_is_built_again(tmp_path):
    data = counted(tmp_path)
    whole = np.copy(cached_images(data, data.records("train"))[4])
    (file,) = cache_root().glob("images-*/bytes")
    file.write_bytes(file.read_bytes()[:-100])
    np.testing.assert_array_equal(cached_images(data, data.records("train"))[4], whole)
    assert reads(tmp_path) == 10


def test_an_interrupted_build_leaves_nothing_that_is_taken_for_a_cache(tmp_path, monkeypatch):
    data = counted(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cached_images(data, data.records("train"))
    assert len(cached_images(data, data.records("train"))) == 5


def interrupted(*_):
    raise KeyboardInterrupt


def test_a_cache_travels_between_processes(tmp_path):
    data = counted(tmp_path)
    cache = cached_images(data, data.records("train"))
    again = pickle.loads(pickle.dumps(cache))
    np.testing.assert_array_equal(again[3], cache[3])


def test_arrays_are_read_only(tmp_path):
    data = counted(tmp_path)
    with pytest.raises(ValueError, match="read-only"):
        cached_images(data, data.records("train"))[0][0, 0, 0] = 1


def test_images_may_differ_in_size(tmp_path):
    write_camvid(tmp_path, (24, 32))
    for name in ("trainannot", "train"):
        (write_camvid(tmp_path / "other", (20, 50)) / name / "train_1.png").replace(tmp_path / name / "train_1.png")
    camvid = CamVid(root=str(tmp_path))
    assert cached_images(camvid, camvid.records("train")).shapes[:2] == ((24, 32, 3), (20, 50, 3))


def test_caching_masks_opens_no_other_mask(tmp_path):
    camvid = CamVid(root=str(write_camvid(tmp_path)))
    for path in (tmp_path / "trainannot").glob("train_[2-7].png"):
        path.write_bytes(b"withheld")
    assert cached_masks(camvid, camvid.records("train")[:2]).ids == ("train_0", "train_1")


def test_unreadable_images_within_the_tolerance_are_skipped_and_named(tmp_path):
    camvid = CamVid(root=str(write_camvid(tmp_path)), unreadable_tolerance=0.125)
    (tmp_path / "train" / "train_2.png").write_bytes(b"no image")
    cache = cached_images(camvid, camvid.records("train"))
    assert (len(cache), cache.skipped) == (7, ("train_2",))


def test_unreadable_images_above_the_tolerance_are_named(tmp_path):
    camvid = CamVid(root=str(write_camvid(tmp_path)), unreadable_tolerance=0.1)
    (tmp_path / "train" / "train_2.png").write_bytes(b"no image")
    with pytest.raises(
        ConfigError, match=r"1 of 8 images can't be read; .*data\.unreadable_tolerance[^$]*train_2\.png"
    ):
        cached_images(camvid, camvid.records("train"))


def test_a_missing_labeled_mask_is_named(tmp_path):
    camvid = CamVid(root=str(write_camvid(tmp_path)))
    (tmp_path / "trainannot" / "train_2.png").unlink()
    with pytest.raises(ConfigError, match=r"1 of 8 masks can't be read[^$]*trainannot/train_2\.png"):
        cached_masks(camvid, camvid.records("train"))


def test_a_cache_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GUIDEDMIX_CACHE", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match=r"GUIDEDMIX_CACHE=.*/file: images can't be written there"):
        cached_images(counted(tmp_path), counted(tmp_path).records("train"))
