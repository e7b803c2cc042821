"""Every named term can be switched off: its weight 0 is its absence. The suite finds methods and weights by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from guidedmix_core.checkpoint import Checkpoints, read_checkpoint
from guidedmix_core.components import names
from guidedmix_core.errors import ConfigError
from guidedmix_core.schema import flatten
from guidedmix_core.trainer import train
from tests.contracts.test_methods import one_step
from tests.listening import Listening
from tests.runs import small_run, subject

LABELED = "method.labeled_weight"
NEEDS = {"guidedmix": {"method.pairing.mode": "random"}}  # similarity needs the classifier that alignment trains
STILL = {"segmentor.norm": "none", "segmentor.backbone.norm": "none", "segmentor.dropout": 0.0}
"""Then images of a batch do not meet in statistics, and no draw depends on how many there are."""


def weights_of(method: str) -> list[str]:
    """The paths of a method's weights, but for the labeled term's."""
    paths = (path.removesuffix(".final") for path in flatten(small_run(subject(method))))
    return [path for path in paths if path.startswith("method.") and path.endswith("weight") and path != LABELED]


def plain(method: str) -> dict[str, object]:
    """The labeled term as the supervised method has it by default."""
    known = flatten(small_run(subject(method)))
    return {path: value for path, value in ((LABELED, 1.0), ("method.labeled.ohem", None)) if path in known}


WITH_WEIGHTS = [method for method in names("methods") if weights_of(method)]
SWITCHES = [(method, path) for method in WITH_WEIGHTS for path in weights_of(method)]


@pytest.mark.parametrize("method", WITH_WEIGHTS)
def test_without_any_of_its_terms_a_method_is_supervised_bit_by_bit(method: str, tmp_path: Path) -> None:
    dropout = {"segmentor.dropout": 0.3}
    off = {**subject(method), **dict.fromkeys(weights_of(method), 0.0), **plain(method), **NEEDS.get(method, {})}
    train(small_run({**off, **dropout}), Listening(), Checkpoints(tmp_path / "off"), device="cpu")
    reference = {"method.name": "supervised", **dropout}
    train(small_run(reference), Listening(), Checkpoints(tmp_path / "reference"), device="cpu")
    found, expected = (read_checkpoint(tmp_path / name / "last.pt")["nets"] for name in ("off", "reference"))
    assert [name for name, weight in expected.items() if not torch.equal(found[name], weight)] == []


@pytest.mark.parametrize(("method", "path"), SWITCHES)
def test_a_term_that_is_off_is_absent_and_moves_no_other(method: str, path: str) -> None:
    changes = {**subject(method), **STILL, **NEEDS.get(method, {})}
    try:
        config = small_run({**changes, path: 0.0})
    except ConfigError:
        return  # the method says why it can't be without
    _, everything = one_step(small_run(changes))
    _, rest = one_step(config)
    if path in weights_that_are_off(changes):
        return
    assert rest.terms.keys() < everything.terms.keys()
    assert_close(rest.terms, {name: everything.terms[name] for name in rest.terms})


def weights_that_are_off(changes: dict[str, object]) -> set[str]:
    """By default already."""
    return {path.removesuffix(".final") for path, value in flatten(small_run(changes)).items() if value == 0.0}
