"""What is particular to the medical data sets: CHASE_DB1, DRIVE, COVID-SemiSeg, MedSeg, ISIC, Kvasir-SEG."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from guidedmix_core.cache import cached_images, cached_masks
from guidedmix_core.config import RunConfig
from guidedmix_core.errors import ConfigError
from guidedmix_core.schema import build
from guidedmix_core.sources import override, read_run
from tests.trees import (
    dataset_at,
    halves,
    write,
    write_chase_db1,
    write_covid_ct,
    write_covid_ct100,
    write_drive,
    write_isic,
    write_kvasir,
    write_noise,
)


@pytest.fixture(scope="module")
def medseg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_covid_ct100(tmp_path_factory.mktemp("medseg"))


def preset(name: str, root: Path) -> RunConfig:
    return build(override(read_run(f"base/{name}"), {"data.root": str(root), "data.size": None}, "test"))


def children(data, part: str) -> set[int]:
    return {int(record.id[6:8]) for record in data.records(part)}


def first_mask(data, part: str = "train") -> np.ndarray:
    return data.read_mask(data.records(part)[0])


def test_chase_is_cut_between_children(tmp_path: Path) -> None:
    data = dataset_at("chase_db1", write_chase_db1(tmp_path))
    assert children(data, "train") == set(range(1, 11))
    assert children(data, "val") == children(data, "test") == {11, 12, 13, 14}
    assert [len(data.records(part)) for part in data.parts()] == [20, 8, 8]


def test_the_other_published_cut_of_chase_is_four_children(tmp_path: Path) -> None:
    data = dataset_at("chase_db1", write_chase_db1(tmp_path), train_children=4)
    assert [len(data.records(part)) for part in data.parts()] == [8, 20, 20]


def test_children_of_chase_can_be_set_apart_for_validation(tmp_path: Path) -> None:
    data = dataset_at("chase_db1", write_chase_db1(tmp_path), validation_children=2)
    found = [children(data, part) for part in ("train", "val", "test")]
    assert found == [set(range(1, 9)), {9, 10}, {11, 12, 13, 14}]


def test_chase_keeps_a_child_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="validation_children=4: expected fewer than train_children=4"):
        dataset_at("chase_db1", tmp_path, train_children=4, validation_children=4)


def test_chases_masks_are_cut_at_128(tmp_path: Path) -> None:
    data = dataset_at("chase_db1", write_chase_db1(tmp_path))
    np.testing.assert_array_equal(first_mask(data), halves(0, 1, outline=0))


def test_chases_second_observer_reads_other_files(tmp_path: Path) -> None:
    assert first_mask(dataset_at("chase_db1", write_chase_db1(tmp_path), observer="second")).all()


def test_an_image_of_chase_that_tells_no_child_is_named(tmp_path: Path) -> None:
    write_noise(write_chase_db1(tmp_path) / "overview.jpg", 99)
    with pytest.raises(ConfigError, match=r"overview\.jpg: the name tells no child; expected one such as Image_01L"):
        dataset_at("chase_db1", tmp_path).records("train")


def test_a_mask_of_ids_is_not_taken_for_black_and_white(tmp_path: Path) -> None:
    write(write_chase_db1(tmp_path) / "Image_01L_1stHO.png", halves(0, 1))
    with pytest.raises(ConfigError, match=r"01L_1stHO\.png: the mask has the ids 0 and 1, expected black and white"):
        first_mask(dataset_at("chase_db1", tmp_path))


def test_drive_reads_gifs_and_counts_every_pixel(tmp_path: Path) -> None:
    data = dataset_at("drive", write_drive(tmp_path))
    assert [record.id for record in data.records("train")] == ["21", "22", "23"]
    np.testing.assert_array_equal(first_mask(data), halves(0, 1))


@pytest.mark.parametrize("part", ["train", "test"])
def test_drive_can_ignore_what_lies_outside_the_field_of_view(tmp_path: Path, part: str) -> None:
    data = dataset_at("drive", write_drive(tmp_path), outside_fov="ignore")
    np.testing.assert_array_equal(first_mask(data, part), halves(0, 1, outline=255))


def test_drives_second_observer_judges_the_test_part_alone(tmp_path: Path) -> None:
    data = dataset_at("drive", write_drive(tmp_path), observer="second")
    np.testing.assert_array_equal(first_mask(data, "test"), halves(1, 0))
    np.testing.assert_array_equal(first_mask(data, "train"), halves(0, 1))


def test_a_drive_whose_test_masks_are_withheld_says_so(tmp_path: Path) -> None:
    (write_drive(tmp_path) / "test/1st_manual").rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"2 val images have no mask; the first should be .*/01_manual1\.gif"):
        dataset_at("drive", tmp_path).records("val")


def test_covid_has_labeled_slices_and_unlabeled_ones(tmp_path: Path) -> None:
    records = dataset_at("covid_ct", write_covid_ct(tmp_path)).records("train")
    assert [record.id for record in records if record.has_mask] == ["0", "1", "2"]
    assert sum(not record.has_mask for record in records) == 4


def test_the_predictions_beside_covids_unlabeled_slices_are_never_a_mask(tmp_path: Path) -> None:
    data = dataset_at("covid_ct", write_covid_ct(tmp_path))
    with pytest.raises(ConfigError, match=r"1 of 1 masks can't be read[^$]*Doctor-label/GT/Data-1"):
        cached_masks(data, [record for record in data.records("train") if not record.has_mask][:1])


@pytest.mark.parametrize("mode", ["P", "RGB", "L"])
def test_covids_kinds_are_read_from_colors_or_their_grays(tmp_path: Path, mode: str) -> None:
    path = write_covid_ct(tmp_path) / "TrainingSet/MultiClassInfection-Train/GT/0.png"
    with Image.open(path) as mask:
        mask.convert(mode).save(path)
    data = dataset_at("covid_ct", tmp_path, task="multiclass")
    np.testing.assert_array_equal(first_mask(data), halves(1, 2, outline=0))


def test_covids_kinds_together_are_the_infection(tmp_path: Path) -> None:
    write_covid_ct(tmp_path)
    infection, kinds = (first_mask(dataset_at("covid_ct", tmp_path, task=task)) for task in ("infection", "multiclass"))
    np.testing.assert_array_equal(infection, kinds > 0)


def test_a_color_that_is_no_kind_of_infection_is_named(tmp_path: Path) -> None:
    write(write_covid_ct(tmp_path) / "TrainingSet/MultiClassInfection-Train/GT/0.png", halves(38, 200))
    with pytest.raises(ConfigError, match=r"GT/0\.png: the mask has the gray values \[200\]; expected \[0, 38, 75\]"):
        first_mask(dataset_at("covid_ct", tmp_path, task="multiclass"))


def test_covids_gray_slices_become_rgb_at_their_own_sizes(tmp_path: Path) -> None:
    data = dataset_at("covid_ct", write_covid_ct(tmp_path))
    images = cached_images(data, data.records("train"))
    assert images.shapes[:3] == ((24, 32, 3), (25, 32, 3), (26, 32, 3))
    np.testing.assert_array_equal(images[0][..., 0], images[0][..., 2])


def test_an_unlabeled_slice_with_the_name_of_a_labeled_one_is_named(tmp_path: Path) -> None:
    write_noise(write_covid_ct(tmp_path) / "TrainingSet/LungInfection-Train/Pseudo-label/Imgs/1.jpg", 9)
    with pytest.raises(ConfigError, match=r"Imgs/1\.jpg: 1 unlabeled images have the name of a labeled one"):
        dataset_at("covid_ct", tmp_path).records("train")


def test_medsegs_slices_are_transposed(medseg: Path) -> None:
    data = dataset_at("covid_ct100", medseg)
    image, mask = data.read_image(data.records("train")[2])[..., 0], data.read_mask(data.records("train")[2])
    assert (np.diff(image.mean(axis=1)) > 0).all()  # the ramp runs down the picture
    np.testing.assert_array_equal(mask, halves(0, 2))


def test_medsegs_slices_are_stretched_each_to_its_own_extremes(medseg: Path) -> None:
    data = dataset_at("covid_ct100", medseg)
    for record in data.records("val")[:3]:
        image = data.read_image(record)
        assert (image.min(), image.max()) == (0, 255)
        np.testing.assert_array_equal(image[..., 0], image[..., 1])


def test_medsegs_window_says_what_is_black_and_white(tmp_path: Path) -> None:
    volume = np.full((32, 24, 100), -600.0, np.float32)
    volume[:2], volume[2:4], volume[4:6] = -2000, 400, 0
    for name, values in (("tr_im", volume), ("tr_mask", np.zeros_like(volume))):
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / f"{name}.nii")
    data = dataset_at("covid_ct100", tmp_path, window=[-1000.0, 0.0])
    image = data.read_image(data.records("train")[0])
    assert image[0, [0, 2, 4, 6], 0].tolist() == [0, 255, 255, 102]


@pytest.mark.parametrize(("cut", "counts"), [("first_70", (70, 30)), ("inf_net", (50, 48))])
def test_medsegs_cuts_have_the_published_counts(medseg: Path, cut: str, counts: tuple[int, int]) -> None:
    data = dataset_at("covid_ct100", medseg, cut=cut)
    assert (len(data.records("train")), len(data.records("val"))) == counts
    assert data.records("val") == data.records("test")


def test_inf_nets_slices_are_those_of_its_file_names(medseg: Path) -> None:
    data = dataset_at("covid_ct100", medseg, cut="inf_net")
    test = [record.slice for record in data.records("test")]
    assert test == [*range(6, 10), 18, 21, 36, 38, *range(59, 67), *range(68, 100)]


def test_every_slice_of_medseg_has_its_own_digest(medseg: Path) -> None:
    data = dataset_at("covid_ct100", medseg)
    digests = {cached_images(data, [record]).digest for record in data.records("train")[:4]}
    assert len(digests) == 4


def test_values_that_are_no_ids_are_named_with_their_slice(medseg: Path, tmp_path: Path) -> None:
    (tmp_path / "tr_im.nii.gz").symlink_to(medseg / "tr_im.nii.gz")
    mask = np.zeros((32, 24, 100), np.float32)
    mask[0, 0, 5], mask[0, 1, 5] = 4, 0.5
    nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), tmp_path / "tr_mask.nii.gz")
    data = dataset_at("covid_ct100", tmp_path)
    with pytest.raises(ConfigError, match=r"slice_05 has the values \[0\.5, 4\.0\]; expected the ids 0 to 3"):
        data.read_mask(data.records("train")[5])


def test_volumes_of_unequal_shapes_are_refused(medseg: Path, tmp_path: Path) -> None:
    (tmp_path / "tr_im.nii.gz").symlink_to(medseg / "tr_im.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros((32, 24, 99), np.uint8), np.eye(4)), tmp_path / "tr_mask.nii.gz")
    with pytest.raises(ConfigError, match=r"the volumes are \(32, 24, 100\) and \(32, 24, 99\)"):
        dataset_at("covid_ct100", tmp_path).records("train")


def test_a_volume_that_was_cut_off_is_an_oserror(medseg: Path, tmp_path: Path) -> None:
    for name in ("tr_im", "tr_mask"):
        whole = (medseg / f"{name}.nii.gz").read_bytes()
        (tmp_path / f"{name}.nii.gz").write_bytes(whole[: len(whole) // 2])
    data = dataset_at("covid_ct100", tmp_path)
    with pytest.raises(OSError, match=r"tr_im\.nii\.gz"):
        data.read_image(data.records("test")[-1])


def test_the_isic_preset_reads_the_official_folders(tmp_path: Path) -> None:
    data = preset("isic", write_isic(tmp_path)).data
    assert [len(data.records(part)) for part in data.parts()] == [3, 2, 2]
    assert data.records("train")[1].id == "ISIC_0000001"
    np.testing.assert_array_equal(first_mask(data), halves(0, 1))


def test_the_kvasir_preset_reads_jpeg_masks_by_the_authors_lists(tmp_path: Path) -> None:
    data = preset("kvasir", write_kvasir(tmp_path)).data
    assert (data.parts(), len(data.records("train")), len(data.records("val"))) == (("train", "val"), 3, 2)
    with Image.open(tmp_path / "masks/cju0qkwl35piu0993l0dewei0.jpg") as mask:
        assert len(np.unique(np.asarray(mask))) > 2
    np.testing.assert_array_equal(first_mask(data), halves(0, 1, (24, 36)))
