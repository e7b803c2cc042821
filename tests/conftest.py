"""Every test runs on one thread, with a cache of decoded images that is thrown away afterwards. Of two processes one
has all that start a Ray."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling


def scope_of(nodeid: str) -> str:
    """Tests of one scope stay in one process, one after another."""
    return "ray" if nodeid.startswith("tests/integration/") else nodeid


class _OneRay(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return _OneRay(config, log)


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
