"""Every test runs on one thread, with a cache of decoded images that is thrown away afterwards."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GUIDEDMIX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def our_loggers_speak():
    """Libraries that configure logging (alembic does) silence loggers they do not know."""
    logging.disable(logging.NOTSET)
    for name, logger in logging.root.manager.loggerDict.items():
        if name.partition(".")[0] in ("orchestrator", "guidedmix_core") and isinstance(logger, logging.Logger):
            logger.disabled, logger.propagate = False, True
