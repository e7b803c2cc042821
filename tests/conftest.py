"""Every test runs on one thread, with a cache of decoded images that is thrown away afterwards. Of two processes one
has all that start a Ray, and begins with them; a file stays in one process, for what its tests share is made once."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator

import pytest
import torch
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling


def scope_of(nodeid: str) -> str:
    """Tests of one scope stay in one process, one after another."""
    file = nodeid.partition("::")[0]
    return "ray" if file.startswith("tests/integration/test_ray_") else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A Ray takes longer than anything else, so that comes first."""
    items.sort(key=lambda item: scope_of(item.nodeid) != "ray")


class _OneRay(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    config.option.loadscopereorder = False  # by the number of tests, which says little of their time
    return _OneRay(config, log)


@pytest.fixture(scope="session", autouse=True)
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    torch.set_num_threads(1)
    # Importing takes longer than what such processes do. One does it, and is forked for each.
    multiprocessing.set_forkserver_preload(["torch._dynamo", "tests.runs", "tests.listening"])
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
