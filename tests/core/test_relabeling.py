"""Pseudo masks made by a finished stage: whose, by which prediction, and what is never looked at."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from guidedmix_core import stages
from guidedmix_core.batch import IGNORE
from guidedmix_core.cache import ArrayCache, store
from guidedmix_core.checkpoint import Checkpoints
from guidedmix_core.config import RunConfig
from guidedmix_core.loaders import open_data
from guidedmix_core.methods import Relabel
from guidedmix_core.place import Place
from guidedmix_core.relabeling import most_stable, predict_mask, relabel, stability
from guidedmix_core.rng import generator
from guidedmix_core.stage_folder import StageFolder, save_weights
from guidedmix_core.trainer import train
from tests.listening import Listening
from tests.runs import small_run
from tests.trees import write_camvid, write_lines

HERE = Place(torch.device("cpu"))
AS_IT_IS = Relabel(1.0, False, (1.0,), False)


class Recorded(nn.Module):
    """A network that says what it is told to, whatever it sees; it remembers what it saw."""

    def __init__(self, *answers: Tensor) -> None:
        super().__init__()
        self.answers, self.seen = list(answers), []

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append(image)
        return self.answers[len(self.seen) - 1]


def stage_with(tmp_path: Path, *, seeds: dict[str, int]) -> tuple[RunConfig, StageFolder]:
    """A stage of six steps that was not trained: each of its files has the first weights of another seed."""
    config, folder = small_run({"train.steps": 6}), StageFolder(tmp_path / "stage")
    for name, seed in seeds.items():
        torch.manual_seed(seed)
        save_weights(folder.path / name, config.segmentor.build(7))
    return config, folder


def test_stability_is_the_mean_miou_of_earlier_predictions_with_the_final_one() -> None:
    final = torch.tensor([[0, 0, 1, 1]])
    first = torch.tensor([[0, 1, 1, 1]])  # IoU 1/2 and 2/3
    second = torch.tensor([[0, 0, 1, 2]])  # IoU 1, 1/2 and 0; class 3 occurs nowhere and is left out
    expected = ((1 / 2 + 2 / 3) / 2 + (1 + 1 / 2 + 0) / 3) / 2
    assert stability([first, second], final, 4) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("share", "chosen"), [(0.5, [1, 3]), (0.2, [1]), (0.01, [1]), (0.6, [1, 2, 3]), (0.8, [0, 1, 2, 3])]
)
def test_the_most_stable_images_are_a_share_rounded_down_the_first_of_equal_ones(
    share: float, chosen: list[int]
) -> None:
    assert most_stable([0.2, 0.9, 0.5, 0.7, 0.2], share) == chosen


def test_a_mask_is_the_class_of_the_largest_mean_probability_over_views() -> None:
    plain = torch.tensor([[[[2.0, 2.0]], [[0.0, 0.0]]]])  # class 0 twice, with probability 0.88
    mirrored = torch.tensor([[[[0.0, 9.0]], [[9.0, 0.0]]]])  # seen from behind: class 0 on the left, surely class 1
    network = Recorded(plain, mirrored)
    image = torch.rand(1, 3, 1, 2)
    mask = predict_mask(network, image, (1.0,), True, align_corners=False)
    assert mask.tolist() == [[0, 1]]
    assert torch.equal(network.seen[1], image.flip(-1))


def test_every_scale_is_seen_and_comes_back_to_the_size_of_the_image() -> None:
    network = Recorded(*(torch.rand(1, 3, side, side) for side in (4, 8, 12)))
    mask = predict_mask(network, torch.rand(1, 3, 8, 8), (0.5, 1.0, 1.5), False, align_corners=False)
    assert mask.shape == (8, 8)
    assert [tuple(image.shape[-2:]) for image in network.seen] == [(4, 4), (8, 8), (12, 12)]


def test_corners_stay_corners_at_every_scale_if_they_are_aligned() -> None:
    said = torch.rand(1, 3, 4, 4, generator=generator("said"))
    network, image = Recorded(said), torch.rand(1, 3, 8, 8, generator=generator("image"))
    mask = predict_mask(network, image, (0.5,), False, align_corners=True)
    assert torch.equal(network.seen[0][..., ::3, ::3], image[..., ::7, ::7])
    assert mask[::7, ::7].tolist() == said.argmax(1)[0, ::3, ::3].tolist()


def test_the_stored_masks_are_those_of_the_stages_network(tmp_path: Path) -> None:
    config, folder = stage_with(tmp_path, seeds={"weights.pt": 0})
    data = open_data(config)
    masks = relabel(AS_IT_IS, config, folder, data, HERE, None)
    torch.manual_seed(0)
    network = config.segmentor.build(7).eval()
    assert masks.ids == tuple(record.id for record in data.split.unlabeled)
    with torch.no_grad():
        expected = network(data.unlabeled_image(5, "cpu")).argmax(1)[0]
    assert np.array_equal(masks[5], expected.numpy())


def test_the_share_of_images_is_that_of_the_best_scores(tmp_path: Path) -> None:
    seeds = {"weights-2.pt": 1, "weights-4.pt": 2, "weights.pt": 0}
    config, folder = stage_with(tmp_path, seeds=seeds)
    masks = relabel(Relabel(0.5, False, (1.0,), False), config, folder, open_data(config), HERE, None)
    scores = json.loads(folder.stability.read_text())
    assert len(scores) == 8
    assert set(masks.ids) == set(sorted(scores, key=lambda name: -scores[name])[:4])


@pytest.mark.parametrize("keep", [True, False])
def test_masks_that_the_stage_was_taught_are_kept_if_asked(tmp_path: Path, keep: bool) -> None:
    config, folder = stage_with(tmp_path, seeds={"weights.pt": 0})
    data = open_data(config)
    taught = data.split.unlabeled[2].id
    earlier = store(tmp_path / "earlier", [(taught, np.full((32, 32), 6, np.uint8))])
    masks = relabel(Relabel(1.0, keep, (1.0,), False), config, folder, data, HERE, earlier)
    assert len(masks) == 8
    assert bool((masks[2] == 6).all()) is keep


def test_a_stream_with_stored_masks_shows_the_images_they_are_of_and_their_crops(tmp_path: Path) -> None:
    config = small_run({"augment.scale": [2.0, 2.0], "augment.crop": [80, 80]})
    data = open_data(config)
    chosen = [data.split.unlabeled[i] for i in (1, 4)]
    truths = [(record.id, config.data.read_mask(record)) for record in chosen]
    views = small_run({"method.name": "mean_teacher"}).method.views()
    unlabeled = data.relabeled(store(tmp_path / "masks", truths)).training(views, "cpu").batch(0, 0).unlabeled
    assert unlabeled is not None and unlabeled.pseudo is not None
    assert torch.equal(unlabeled.pseudo == IGNORE, ~unlabeled.valid)
    areas = {int((mask == kind).sum()) * 4 for _, mask in truths for kind in range(1, 7)}
    assert {int((mask == kind).sum()) for mask in unlabeled.pseudo for kind in range(1, 7)} <= areas


def test_without_stored_masks_a_batch_has_none() -> None:
    views = small_run({"method.name": "mean_teacher"}).method.views()
    unlabeled = open_data(small_run()).training(views, "cpu").batch(0, 0).unlabeled
    assert unlabeled is not None and unlabeled.pseudo is None


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunConfig, Listening]:
    """ST++ as published, in a few steps: its folder, configuration and what was heard."""
    folder, heard = tmp_path_factory.mktemp("chain"), Listening()
    selects = {"method": {"name": "st_plus_plus", "reliable_share": 0.5}, "steps": 2}
    stages = [{"method": "supervised", "steps": 3}, selects]
    config = small_run({"method.name": "st_plus_plus", "stages": stages, "train.steps": 2})
    train(config, heard, Checkpoints(folder / "run"), device="cpu", stages=folder / "stages")
    return folder, config, heard


def stored(folder: Path) -> list[ArrayCache]:
    """The pseudo masks of the chain, in order."""
    return sorted((ArrayCache(found.parent) for found in folder.glob("stages/*/pseudo-*/made.json")), key=len)


def test_st_plus_plus_labels_the_reliable_half_then_the_rest(chain: tuple[Path, RunConfig, Listening]) -> None:
    reliable, everything = stored(chain[0])
    places = {name: i for i, name in enumerate(everything.ids)}
    assert (len(reliable), len(everything)) == (4, 8)
    assert all(np.array_equal(reliable[i], everything[places[name]]) for i, name in enumerate(reliable.ids))


def test_the_quality_of_the_stored_masks_is_reported(chain: tuple[Path, RunConfig, Listening]) -> None:
    folder, config, heard = chain
    *_, masks = stored(folder)
    places = {name: i for i, name in enumerate(masks.ids)}
    known = [open_data(config).split.unlabeled[i] for i in (1, 3, 5, 7)]  # the four that telemetry takes of eight
    right = [masks[places[record.id]] == config.data.read_mask(record) for record in known]
    metrics = heard.reports[-1].metrics
    assert (metrics["pseudo/coverage"], metrics["pseudo/precision"]) == (1.0, pytest.approx(np.mean(right)))


def test_stored_masks_are_reused(
    chain: tuple[Path, RunConfig, Listening], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, config, first = chain
    monkeypatch.setattr(stages, "relabel", None)
    again = Listening()
    train(config, again, Checkpoints(tmp_path), device="cpu", stages=folder / "stages")
    assert [(stage.index, stage.state) for stage in again.stages] == [(0, "reused"), (1, "reused")]
    assert again.losses == first.losses[5:]


def test_the_cost_of_a_chain_counts_stages_and_masks(chain: tuple[Path, RunConfig, Listening]) -> None:
    folder, _, heard = chain
    made = [json.loads(file.read_text())["seconds"] for file in folder.glob("stages/*/pseudo-*/made.json")]
    trained = [json.loads(file.read_text())["seconds"] for file in folder.glob("stages/*/result.json")]
    assert heard.reports[-1].metrics["time/stage_seconds"] == pytest.approx(sum(made) + sum(trained))


def test_a_chain_opens_no_mask_of_an_unlabeled_image(tmp_path: Path) -> None:
    root = write_camvid(tmp_path / "camvid")
    for path in (root / "trainannot").glob("train_[013457].png"):
        path.write_bytes(b"withheld")
    selects = {"method": {"name": "st_plus_plus", "reliable_share": 0.5}, "steps": 1}
    changes = {
        "method.name": "st_plus_plus",
        "stages": [{"method": "supervised", "steps": 3}, selects],
        "data": {"name": "camvid", "root": str(root)},
        "augment.crop": [16, 16],
        "split.labeled_list": write_lines(tmp_path / "list.txt", "train_6", "train_2"),
        "train.steps": 1,
        "evaluate.telemetry_images": 0,
    }
    result = train(small_run(changes), Listening(), Checkpoints(tmp_path / "run"), device="cpu")
    assert result.step == 1
