from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from guidedmix_core.datasets.camvid import CamVid
from guidedmix_core.datasets.folder import Folder
from guidedmix_core.datasets.shapes import Shapes
from guidedmix_core.errors import ConfigError
from guidedmix_core.schema import build
from guidedmix_core.sources import Tree
from tests.trees import write, write_camvid, write_lines


def test_shapes_follow_from_seed_part_and_index_alone():
    few, many = Shapes(num_train=3), Shapes(num_train=9)
    np.testing.assert_array_equal(few.read_image(few.records("train")[2]), many.read_image(many.records("train")[2]))


def test_shapes_differ_between_seeds_parts_and_images():
    images = [
        Shapes(seed=s).read_image(Shapes().records(part)[i])
        for s, part, i in [(0, "train", 0), (1, "train", 0), (0, "val", 0), (0, "train", 1)]
    ]
    assert len({image.tobytes() for image in images}) == 4


def test_every_object_class_of_shapes_fills_between_4_and_15_percent():
    shapes = Shapes(num_train=100)
    masks = np.stack([shapes.read_mask(record) for record in shapes.records("train")])
    shares = np.bincount(masks.ravel(), minlength=len(shapes.classes())) / masks.size
    assert ((shares[1:] > 0.04) & (shares[1:] < 0.15)).all()


def test_difficulty_changes_the_picture_of_shapes():
    record = Shapes().records("train")[0]
    easy, hard = (Shapes(difficulty=value).read_image(record).astype(float) for value in (0.0, 1.0))
    assert np.abs(np.diff(easy, axis=1)).mean() < np.abs(np.diff(hard, axis=1)).mean()


def test_size_resizes_images_and_keeps_ids():
    shapes = Shapes(size=(40, 56))
    record = shapes.records("val")[0]
    mask = shapes.read_mask(record)
    assert shapes.read_image(record).shape == (40, 56, 3)
    assert set(np.unique(mask)) <= set(np.unique(Shapes().read_mask(record)))


def test_camvid_ignores_its_unlabeled_id(tmp_path):
    camvid = CamVid(root=str(write_camvid(tmp_path)))
    mask = camvid.read_mask(camvid.records("train")[3])
    np.testing.assert_array_equal(np.unique(mask), [0, 3, 255])


def test_camvid_lists_images_in_the_order_of_their_names(tmp_path):
    camvid = CamVid(root=str(write_camvid(tmp_path)))
    assert [record.id for record in camvid.records("val")] == ["val_0", "val_1", "val_2"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.root=.*/nowhere: no such folder; expected one with train and"):
        CamVid(root=str(tmp_path / "nowhere")).records("train")


def test_a_mask_without_an_image_is_named(tmp_path):
    (write_camvid(tmp_path) / "train" / "train_4.png").unlink()
    with pytest.raises(ConfigError, match=r"trainannot/train_4\.png: 1 masks have no image"):
        CamVid(root=str(tmp_path)).records("train")


def test_an_evaluated_image_without_a_mask_is_named(tmp_path):
    (write_camvid(tmp_path) / "valannot" / "val_1.png").unlink()
    with pytest.raises(ConfigError, match=r"val/val_1\.png: 1 val images have no mask"):
        CamVid(root=str(tmp_path)).records("val")


def test_a_training_image_needs_no_mask(tmp_path):
    (write_camvid(tmp_path) / "trainannot" / "train_1.png").unlink()
    assert [record.has_mask for record in CamVid(root=str(tmp_path)).records("train")][:3] == [True, False, True]


def test_a_mask_of_another_size_than_its_image_is_named(tmp_path):
    camvid = CamVid(root=str(write_camvid(tmp_path)), size=(12, 16))
    write(tmp_path / "trainannot" / "train_0.png", np.zeros((24, 30), np.uint8))
    with pytest.raises(ConfigError, match=r"train_0\.png: the mask has 24x30 pixels, its image .* has 24x32"):
        camvid.read_mask(camvid.records("train")[0])


def test_an_id_that_is_no_class_is_named(tmp_path):
    camvid = CamVid(root=str(write_camvid(tmp_path)))
    write(tmp_path / "trainannot" / "train_0.png", np.full((24, 32), 12, np.uint8))
    with pytest.raises(ConfigError, match=r"train_0\.png: the mask has the ids \[12\], but the 11 classes are 0 to 10"):
        camvid.read_mask(camvid.records("train")[0])


@pytest.mark.parametrize("damage", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + 40 * b"\0", "half"])
def test_a_damaged_image_is_an_oserror(tmp_path, damage):
    camvid = CamVid(root=str(write_camvid(tmp_path)))
    path = tmp_path / "train" / "train_0.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if damage == "half" else damage)
    with pytest.raises(OSError):
        camvid.read_image(camvid.records("train")[0])


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_an_image_with_wider_pixels_than_bytes_is_named(tmp_path, kind):
    camvid = CamVid(root=str(write_camvid(tmp_path)))
    path = tmp_path / "train" / "train_0.png"
    Image.fromarray(np.full((24, 32), 300, kind)).save(path, format="TIFF")
    with pytest.raises(
        ConfigError, match=r"train_0\.png: the image has wider pixels \(mode .*save it scaled to 0 to 255"
    ):
        camvid.read_image(camvid.records("train")[0])


def folder(root, **fields) -> Folder:
    return build(Tree({"root": str(root), "class_names": ["ground", "thing"], **fields}, {}), Folder)


def write_pairs(root, part: str, mask: np.ndarray, *names: str) -> None:
    for name in names:
        write(root / "images" / part / f"{name}.png", np.zeros((*mask.shape[:2], 3), np.uint8))
        write(root / "masks" / part / f"{name}.png", mask)


IDS = np.array([[0, 1, 1], [7, 255, 0]], np.uint8)


def test_folder_reads_ids_and_ignores_the_named_ones(tmp_path):
    write_pairs(tmp_path, "train", IDS, "a")
    data = folder(tmp_path, ignore=[7])
    np.testing.assert_array_equal(data.read_mask(data.records("train")[0]), [[0, 1, 1], [255, 255, 0]])


def test_folder_reads_the_indices_of_an_indexed_png(tmp_path):
    write_pairs(tmp_path, "train", IDS, "a")
    indexed = Image.fromarray(IDS).convert("P")
    indexed.putpalette([9, 8, 7] * 256)
    indexed.putdata(IDS.ravel().tolist())
    indexed.save(tmp_path / "masks" / "train" / "a.png")
    data = folder(tmp_path, ignore=[7])
    np.testing.assert_array_equal(data.read_mask(data.records("train")[0]), [[0, 1, 1], [255, 255, 0]])


def test_folder_reads_colors(tmp_path):
    palette = np.array([[10, 20, 30], [200, 0, 0], [255, 255, 255]], np.uint8)
    write_pairs(tmp_path, "train", palette[[[0, 1], [2, 1]]], "a")
    data = folder(tmp_path, mask_format="palette", palette=palette[:2].tolist(), ignore_colors=[[255, 255, 255]])
    np.testing.assert_array_equal(data.read_mask(data.records("train")[0]), [[0, 1], [255, 1]])


def test_a_color_that_is_no_class_is_named(tmp_path):
    write_pairs(tmp_path, "train", np.full((2, 2, 3), 5, np.uint8), "a")
    data = folder(tmp_path, mask_format="palette", palette=[[0, 0, 0], [9, 9, 9]])
    with pytest.raises(ConfigError, match=r"a\.png: the mask has the color \(5, 5, 5\)"):
        data.read_mask(data.records("train")[0])


def test_a_mask_of_colors_read_as_ids_says_what_to_set(tmp_path):
    write_pairs(tmp_path, "train", np.full((2, 2, 3), 5, np.uint8), "a")
    with pytest.raises(ConfigError, match="mask_format=palette"):
        folder(tmp_path).read_mask(folder(tmp_path).records("train")[0])


def test_folder_takes_suffixes_off_and_keeps_subfolders_in_the_id(tmp_path):
    write(tmp_path / "leftImg8bit/train/ulm/ulm_01_leftImg8bit.png", np.zeros((2, 3, 3), np.uint8))
    write(tmp_path / "gtFine/train/ulm/ulm_01_gtFine_labelTrainIds.png", IDS.clip(max=1))
    data = folder(
        tmp_path,
        images="leftImg8bit/{part}",
        masks="gtFine/{part}",
        image_suffix="_leftImg8bit",
        mask_suffix="_gtFine_labelTrainIds",
    )
    (record,) = data.records("train")
    assert (record.id, record.has_mask) == ("ulm/ulm_01", True)


def test_folder_takes_the_parts_from_lists(tmp_path):
    for name in ("a", "b", "c"):
        write(tmp_path / "flat" / f"{name}.jpg", np.zeros((2, 3, 3), np.uint8))
        write(tmp_path / "flat" / f"{name}_truth.png", IDS.clip(max=1))
    write_lines(tmp_path / "train.txt", "c", "a")
    write_lines(tmp_path / "val.txt", "/JPEGImages/b.jpg /SegmentationClass/b.png")
    data = folder(
        tmp_path, images="flat", masks="flat", mask_suffix="_truth", lists={"train": "train.txt", "val": "val.txt"}
    )
    assert [[record.id for record in data.records(part)] for part in ("train", "val")] == [["c", "a"], ["b"]]


def test_a_part_without_a_list_is_named(tmp_path):
    write_pairs(tmp_path, "train", IDS, "a")
    data = folder(tmp_path, lists={"train": "train.txt", "val": "val.txt"})
    with pytest.raises(ConfigError, match=r"data\.lists\.test is not given"):
        data.records("test")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"palette": [[0, 0, 0]]}, "palette has 1 colors, class_names 2"),
        ({"mask_format": "palette"}, "needs the palette"),
        ({"mask_format": "binary", "class_names": ["a", "b", "c"]}, "binary has two classes, black and white"),
        ({"mask_format": "palette", "palette": [[1, 1, 1], [1, 1, 1]]}, "name a color twice"),
        ({"images": "pictures"}, "without lists"),
    ],
)
def test_fields_of_folder_that_contradict_each_other_are_rejected(tmp_path, fields, said):
    with pytest.raises(ConfigError, match=said):
        folder(tmp_path, **fields)


def test_the_default_palette_is_pascal_vocs():
    names = [f"class{i}" for i in range(21)]
    assert folder("x", class_names=names).classes().palette[15] == (192, 128, 128)  # person
