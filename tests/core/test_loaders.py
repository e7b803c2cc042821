from __future__ import annotations

from typing import Any

import pytest
import torch

from guidedmix_core.batch import Batch, Views
from guidedmix_core.config import RunConfig
from guidedmix_core.errors import ConfigError
from guidedmix_core.loaders import open_data
from guidedmix_core.streams import TrainingStream
from tests.runs import small_run
from tests.trees import write_camvid, write_lines

ALL = Views(strong=2, partner=True)


def stream(changes: dict[str, Any] | None = None, views: Views = ALL, world: int = 1) -> TrainingStream:
    return open_data(small_run(changes)).training(views, "cpu", world)


def camvid_run(root, changes: dict[str, Any] | None = None) -> RunConfig:
    return small_run({"data": {"name": "camvid", "root": str(root)}, "augment.crop": [16, 16], **(changes or {})})


def tensors(batch: Batch) -> list[torch.Tensor]:
    """Everything in a batch, in order."""
    unlabeled = [part for part in (batch.unlabeled, batch.partner) if part]
    return [
        batch.image,
        batch.mask,
        *(tensor for part in unlabeled for tensor in (part.weak, *part.strong, part.valid)),
    ]


def equal(one: Batch, other: Batch) -> bool:
    pairs = list(zip(tensors(one), tensors(other), strict=True))
    return all(torch.equal(a, b) for a, b in pairs)


def images_seen(changes: dict[str, Any], steps: int) -> tuple[list[bytes], list[bytes]]:
    """The labeled and unlabeled images of the first steps, without augmentation."""
    still = {"augment.scale": [1.0, 1.0], "augment.flip": 0.0}
    run = stream({**still, **changes}, Views())
    batches = [run.batch(step, 0) for step in range(steps)]
    labeled = [image.numpy().tobytes() for batch in batches for image in batch.image]
    return labeled, [image.numpy().tobytes() for batch in batches if batch.unlabeled for image in batch.unlabeled.weak]


def test_a_batch_has_the_views_that_were_asked_for():
    batch = stream(views=Views(strong=2)).batch(0, 0)
    assert batch.image.shape == (4, 3, 32, 32) and batch.mask.shape == (4, 32, 32)
    assert batch.unlabeled is not None and len(batch.unlabeled.strong) == 2 and batch.partner is None


def test_a_method_without_unlabeled_images_gets_none():
    assert stream(views=Views(unlabeled=False)).batch(0, 0).unlabeled is None


def test_a_batch_is_a_function_of_seed_and_step():
    assert equal(stream().batch(5, 0), stream().batch(5, 0))
    assert not torch.equal(stream().batch(5, 0).image, stream().batch(6, 0).image)
    assert not torch.equal(stream().batch(5, 0).image, stream({"seed": 1}).batch(5, 0).image)


def test_a_view_more_changes_no_other_view():
    few, many = stream(views=Views(strong=1)).batch(3, 0), stream(views=ALL).batch(3, 0)
    assert few.unlabeled is not None and many.unlabeled is not None
    assert torch.equal(few.image, many.image)
    assert torch.equal(few.unlabeled.strong[0], many.unlabeled.strong[0])


@pytest.mark.parametrize(("world", "accumulate"), [(2, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("more", [{}, {"augment.weak_color": 0.3, "augment.max_class_share": 0.6}])
def test_the_parts_of_several_workers_are_the_batch_of_one(world, accumulate, more):
    whole = tensors(stream(more).batch(3, 0))
    parted = stream({"train.accumulate": accumulate, **more}, world=world)
    parts = [tensors(parted.batch(3, part)) for part in range(world * accumulate)]
    assert all(torch.equal(torch.cat(pieces), one) for one, *pieces in zip(whole, *parts, strict=True))


def test_a_batch_that_cannot_be_cut_is_an_error():
    with pytest.raises(ConfigError, match=r"train\.batch_size=4: expected a multiple of 3 \(3 workers"):
        stream(world=3)


def test_an_epoch_shows_each_image_once():
    labeled, unlabeled = images_seen({"split.labeled": 4}, steps=2)
    assert len(set(labeled[:4])) == len(set(labeled)) == 4
    assert len(set(unlabeled)) == 8


def test_fewer_labeled_images_than_a_batch_are_repeated():
    labeled, _ = images_seen({"split.labeled": 3}, steps=3)
    assert sorted(labeled.count(image) for image in set(labeled)) == [4, 4, 4]


def test_independent_streams_meet_in_new_pairs_and_zipped_ones_never_do():
    free, zipped = (
        set(zip(*images_seen({"split.zip_streams": zip_streams}, steps=20), strict=True))
        for zip_streams in (False, True)
    )
    assert len(zipped) == 8 < len(free)


def test_zipped_streams_repeat_the_shorter_list_evenly():
    labeled, unlabeled = images_seen({"split.zip_streams": True}, steps=2)
    assert sorted(labeled.count(image) for image in set(labeled)) == [2, 2, 2, 2]
    assert len(set(unlabeled)) == 8


def test_zipped_streams_need_equal_batches():
    with pytest.raises(ConfigError, match=r"train\.batch_size=4: .* expected train\.unlabeled_batch_size=8"):
        stream({"split.zip_streams": True, "train.unlabeled_batch_size": 8})


def test_strong_views_show_the_crop_of_the_weak_one():
    changes = {"augment.color": 0.0, "augment.gray": 0.0, "augment.blur": 0.0}
    unlabeled = stream(changes).batch(0, 0).unlabeled
    assert unlabeled is not None and torch.equal(unlabeled.weak, unlabeled.strong[0])


def test_weak_color_changes_every_view_and_no_geometry():
    plain, colored = stream().batch(0, 0), stream({"augment.weak_color": 0.5}).batch(0, 0)
    assert plain.unlabeled is not None and colored.unlabeled is not None
    assert not torch.equal(plain.image, colored.image) and not torch.equal(plain.unlabeled.weak, colored.unlabeled.weak)
    assert torch.equal(plain.mask, colored.mask) and torch.equal(plain.unlabeled.valid, colored.unlabeled.valid)


def test_pixels_outside_the_image_have_the_backbones_mean_color_in_every_view():
    config = small_run({"augment.scale": [0.5, 0.5], "augment.weak_color": 0.5})
    unlabeled = open_data(config).training(ALL, "cpu").batch(0, 0).unlabeled
    assert unlabeled is not None
    mean = torch.tensor(config.segmentor.backbone.mean)
    for view in (unlabeled.weak, *unlabeled.strong):
        outside = view.permute(0, 2, 3, 1)[~unlabeled.valid]
        assert torch.equal(outside, mean.expand_as(outside))


def test_images_of_different_sizes_share_a_batch(tmp_path):
    write_camvid(tmp_path, (24, 32))
    for folder in ("train", "trainannot"):
        (write_camvid(tmp_path / "other", (40, 20)) / folder / "train_1.png").replace(tmp_path / folder / "train_1.png")
    batch = open_data(camvid_run(tmp_path, {"split.labeled": 1.0})).training(Views(unlabeled=False), "cpu").batch(0, 0)
    assert batch.image.shape == (4, 3, 16, 16)


def test_evaluation_shows_each_image_once_in_batches_of_equal_size(tmp_path):
    write_camvid(tmp_path, (24, 32))
    for folder in ("val", "valannot"):
        (write_camvid(tmp_path / "other", (40, 20)) / folder / "val_1.png").replace(tmp_path / folder / "val_1.png")
    batches = list(open_data(camvid_run(tmp_path)).evaluation("cpu"))
    assert [(batch.ids, tuple(batch.mask.shape[1:])) for batch in batches] == [
        (("val_0", "val_2"), (24, 32)),
        (("val_1",), (40, 20)),
    ]


def test_the_ranks_share_the_evaluated_images():
    data = open_data(small_run({"evaluate.batch_size": 1}))
    ids = [[batch.ids[0] for batch in data.evaluation("cpu", rank, 2)] for rank in (0, 1)]
    assert ids == [["val_00000", "val_00002"], ["val_00001", "val_00003"]]


def test_evaluation_shows_images_and_truth_as_they_are():
    config = small_run()
    batch = next(open_data(config).evaluation("cpu"))
    record = config.data.records("val")[2]
    assert torch.equal(batch.image[2], torch.tensor(config.data.read_image(record)).permute(2, 0, 1) / 255)
    assert torch.equal(batch.mask[2], torch.tensor(config.data.read_mask(record)).long())


def test_panels_are_spread_over_the_evaluated_part():
    panels = open_data(small_run({"evaluate.panels": 2, "data.num_val": 8})).panels("cpu")
    assert [panel.ids for panel in panels] == [("val_00002",), ("val_00006",)]


def test_one_pass_shows_each_labeled_image_once():
    batches = list(open_data(small_run({"split.labeled": 6})).labeled("cpu"))
    assert [len(batch.image) for batch in batches] == [4, 2]


def test_telemetry_is_the_same_at_every_call_and_has_the_withheld_truth():
    data = open_data(small_run({"evaluate.telemetry_images": 6}))
    first, second = list(data.telemetry("cpu")), list(data.telemetry("cpu"))
    assert [(len(batch.image), len(truth)) for batch, truth in first] == [(4, 4), (2, 2)]
    assert all(equal(a, b) and torch.equal(s, t) for (a, s), (b, t) in zip(first, second, strict=True))


def test_telemetry_is_empty_without_the_truth(tmp_path):
    config = camvid_run(write_camvid(tmp_path))
    data = open_data(config)
    for record in data.split.unlabeled:
        record.mask.unlink()
    assert list(data.telemetry("cpu")) == []


def test_a_damaged_mask_that_is_withheld_is_left_out_of_the_telemetry_and_told(tmp_path, caplog):
    listed = {"split.labeled_list": write_lines(tmp_path / "list.txt", "train_6", "train_2")}
    config = camvid_run(write_camvid(tmp_path), {**listed, "evaluate.telemetry_images": 8})
    masks = tmp_path / "trainannot"
    (masks / "train_0.png").write_bytes(b"damaged")
    (masks / "train_3.png").write_bytes(
        (write_camvid(tmp_path / "other", (9, 9)) / "trainannot/train_3.png").read_bytes()
    )
    data = open_data(config)
    assert [sum(len(truth) for _, truth in data.telemetry("cpu")) for _ in range(2)] == [4, 4]
    assert caplog.messages == [
        "2 masks of unlabeled images can't be read (train_0, train_3); others judge pseudo masks"
    ]


@pytest.mark.parametrize("drawn", [True, False])
def test_training_is_the_same_without_the_withheld_masks(tmp_path, drawn):
    listed = {"split.labeled_list": write_lines(tmp_path / "list.txt", "train_6", "train_2")}
    config = camvid_run(write_camvid(tmp_path), {} if drawn else listed)
    before = open_data(config)
    batch = before.training(ALL, "cpu").batch(2, 0)
    for record in before.split.unlabeled:
        record.mask.unlink()
    after = open_data(config)
    assert equal(before.training(ALL, "cpu").batch(2, 0), batch) and equal(
        after.training(ALL, "cpu").batch(2, 0), batch
    )
    assert after.fingerprint == before.fingerprint


def test_training_opens_no_withheld_mask_that_a_list_withholds(tmp_path):
    listed = {"split.labeled_list": write_lines(tmp_path / "list.txt", "train_6", "train_2")}
    config = camvid_run(write_camvid(tmp_path), listed)
    for path in (tmp_path / "trainannot").glob("train_[013457].png"):
        path.write_bytes(b"withheld")
    assert open_data(config).training(ALL, "cpu").batch(0, 0).mask.shape == (4, 16, 16)


@pytest.mark.parametrize("changes", [{"data.seed": 1}, {"split.seed": 1}, {"split.labeled": 5}, {"data.num_val": 5}])
def test_the_fingerprint_depends_on_images_and_split(changes):
    assert open_data(small_run()).fingerprint != open_data(small_run(changes)).fingerprint


def test_unreadable_images_within_the_tolerance_are_left_out(tmp_path):
    config = camvid_run(write_camvid(tmp_path), {"data.unreadable_tolerance": 0.2, "split.labeled": 7})
    (tmp_path / "train" / "train_5.png").write_bytes(b"no image")
    data = open_data(config)
    assert data.skipped == ("train_5",)
    assert "train_5" not in {record.id for record in data.split.labeled}


def test_a_method_that_needs_unlabeled_images_is_told_when_there_are_none():
    with pytest.raises(
        ConfigError, match=r"all 12 images are labeled, but method\.name=mean_teacher needs unlabeled ones"
    ):
        open_data(small_run({"method.name": "mean_teacher", "split.labeled": 1.0}))
