"""Every test runs on one thread, with a cache of decoded images that is thrown away afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GUIDEDMIX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
