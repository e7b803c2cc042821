"""A checkpoint judged and used again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guidedmix_core.checkpoint import Checkpoints
from guidedmix_core.datasets import Classes
from guidedmix_core.errors import ConfigError
from guidedmix_core.prediction import evaluate_checkpoint, overlay_mask, palette_image, predict
from guidedmix_core.trainer import train
from tests.listening import Listening
from tests.runs import small_run


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(small_run(), Listening(), Checkpoints(folder), device="cpu")
    return folder / "last.pt"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_checkpoint_is_judged_as_its_run_was(precision: str, tmp_path: Path) -> None:
    config = small_run({"train.precision": precision})
    result = train(config, Listening(), Checkpoints(tmp_path), device="cpu")
    metrics, judged = evaluate_checkpoint(tmp_path / "last.pt", {}, "cpu")
    assert metrics["val/miou"] == result.metrics["val/miou"]
    assert (judged.counts == result.counts).all()


def test_the_evaluated_part_can_be_changed(checkpoint: Path) -> None:
    _, judged = evaluate_checkpoint(checkpoint, {"evaluate.part": "test"}, "cpu")
    assert len(judged.ids) == 2


def test_the_networks_of_a_checkpoint_cannot_be_changed(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=r"segmentor.dropout: a checkpoint's segmentor can't be changed"):
        evaluate_checkpoint(checkpoint, {"segmentor.dropout": 0.1}, "cpu")


def test_a_mask_has_the_size_of_its_image(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(np.zeros((37, 53, 3), np.uint8)).save(path)
    _, predictions = predict(checkpoint, [path], {}, "cpu")
    assert next(predictions).mask.shape == (37, 53)


def test_an_image_that_cannot_be_read_is_named(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_text("no image")
    _, predictions = predict(checkpoint, [path], {}, "cpu")
    with pytest.raises(ConfigError, match=r"photo.png: can't be read as an image"):
        next(predictions)


def test_a_saved_mask_keeps_its_ids_and_shows_the_colors(tmp_path: Path) -> None:
    classes = Classes(("a", "b"), ((1, 2, 3), (4, 5, 6)))
    palette_image(np.array([[0, 1, 255]], np.uint8), classes).save(tmp_path / "mask.png")
    saved = Image.open(tmp_path / "mask.png")
    assert np.array(saved).tolist() == [[0, 1, 255]]
    assert np.array(saved.convert("RGB"))[0, 1].tolist() == [4, 5, 6]


def test_an_overlay_leaves_ignored_pixels_as_they_are() -> None:
    image = np.full((1, 2, 3), 100, np.uint8)
    mixed = overlay_mask(image, np.array([[0, 255]], np.uint8), Classes(("a",), ((0, 0, 200),)))
    assert mixed.tolist() == [[[50, 50, 150], [100, 100, 100]]]
