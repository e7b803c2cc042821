"""A real S3 server on the loopback, and ways to look into its bucket from beside."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import fsspec
import pytest
from moto.server import ThreadedMotoServer

from orchestrator import storage

BUCKET = "bucket"


_servers: list[ThreadedMotoServer] = []


def start_server(port: int = 0) -> int:
    """Its port. What another one had in this process before it stopped is still there."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    _servers.append(server)
    return server.get_host_and_port()[1]


def stop_server() -> None:
    _servers.pop().stop()


@contextmanager
def s3_server() -> Iterator[str]:
    """The URI of a folder for studies, in an empty bucket. The environment leads every client there."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request
    access = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{start_server()}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in access.items():
                patch.setenv(name, value)
            bucket().makedirs(BUCKET, exist_ok=True)
            yield f"s3://{BUCKET}/studies"
    finally:
        stop_server()


def bucket() -> fsspec.AbstractFileSystem:
    """A client that keeps nothing in mind."""
    files = fsspec.filesystem("s3", use_listings_cache=False, endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    files.invalidate_cache()
    return files


def objects(uri: str) -> dict[str, bytes]:
    """All objects below a URI, by what follows it."""
    files, base = bucket(), uri.removeprefix("s3://")
    return {name.removeprefix(f"{base}/"): files.cat_file(name) for name in files.find(base)}


def another_process() -> None:
    """Nothing that this process has known of any store is known any more."""
    storage._copies.clear()
