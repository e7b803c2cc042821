"""The method of docs/add_a_method.md works as written: one file, no edit elsewhere."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import guidedmix_core.methods
from guidedmix_core.checkpoint import Checkpoints
from guidedmix_core.components import find, names
from guidedmix_core.trainer import train
from tests.listening import Listening
from tests.runs import small_run

PAGE = Path(__file__).parents[2] / "docs" / "add_a_method.md"


@pytest.fixture
def pseudo_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "pseudo_label.py").write_text(example)
    monkeypatch.setattr(guidedmix_core.methods, "__path__", [*guidedmix_core.methods.__path__, str(tmp_path)])
    names.cache_clear()
    yield
    names.cache_clear()
    find.cache_clear()
    sys.modules.pop("guidedmix_core.methods.pseudo_label", None)


@pytest.mark.usefixtures("pseudo_label")
def test_a_new_file_is_a_method_that_trains(tmp_path: Path) -> None:
    listening = Listening()
    config = small_run({"method.name": "pseudo_label", "method.threshold": 0.0})
    train(config, listening, Checkpoints(tmp_path / "run"), device="cpu")
    assert "pseudo_label" in names("methods")
    assert all(losses["unlabeled"] > 0 for losses in listening.losses)
