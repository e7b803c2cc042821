"""What several nodes and an object store cost: the same short ablation on one node of two CPUs with a folder, on two
nodes of one CPU with a folder, and on the two nodes with a bucket. Nodes are raylets on this machine, the store is a
real S3 server (moto) on the loopback; a network is not in it.

    python benchmarks/nodes.py
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from moto.server import ThreadedMotoServer
from ray.cluster_utils import Cluster

from guidedmix_core import Tree, build, read_run
from orchestrator import ray_session
from orchestrator.ablation import AblationStudy
from orchestrator.executors import ray_tune
from orchestrator.folder import StudyFolder
from orchestrator.results import load_trials


@contextmanager
def cluster(nodes: int) -> Iterator[None]:
    """Two CPUs on so many nodes, beside a head without any."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(nodes):
        made.add_node(num_cpus=2 // nodes, object_store_memory=ray_session.OBJECT_STORE)
    os.environ["RAY_ADDRESS"] = made.address
    try:
        with ray_session.cluster():
            yield
    finally:
        made.shutdown()


@contextmanager
def bucket() -> Iterator[str]:
    import boto3

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    os.environ |= {
        "AWS_ENDPOINT_URL": "http://{}:{}".format(*server.get_host_and_port()),
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    boto3.client("s3").create_bucket(Bucket="bucket")
    yield "s3://bucket/studies"
    server.stop()


def measure(place: str, base: Tree, seeds: int) -> tuple[float, float]:
    """Seconds of the whole study, and those that its runs trained."""
    request = {"base": "shapes", "reference": "a", "cells": {"a": {}, "b": {"optim.lr": 0.002}}, "reuse": False}
    study = build(Tree({**request, "blocks": {"seed": list(range(seeds))}}, {}), AblationStudy)
    began = time.perf_counter()
    folder = StudyFolder(place)
    ray_tune.run(study, base, folder, [], "cpu")
    return time.perf_counter() - began, sum(record.seconds for record in load_trials(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4, help="runs are twice as many")
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    base = read_run("shapes")
    values = {**base.values, "train": {**base.values["train"], "steps": options.steps}}
    base = Tree({**values, "evaluate": {"every": max(1, options.steps // 4), "telemetry_images": 0}}, base.origins)
    found = {}
    with bucket() as uri, tempfile.TemporaryDirectory() as place:
        with cluster(1):
            measure(f"{place}/warm", base, 1)  # caches of data and of compiled code
            found["1 node, folder"] = measure(f"{place}/one", base, options.seeds)
        with cluster(2):
            measure(f"{place}/warm_too", base, 1)
            found["2 nodes, folder"] = measure(f"{place}/two", base, options.seeds)
            found["2 nodes, bucket"] = measure(f"{uri}/two", base, options.seeds)
    print(f"{2 * options.seeds} runs of {options.steps} steps, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    usual = found["1 node, folder"][0]
    for name, (whole, trained) in found.items():
        beside = 2 * whole - trained
        print(f"{name:<16} {whole:6.1f} s, {whole / usual:4.2f} x; {beside / 2 / options.seeds:5.2f} CPU-s a run idle")


if __name__ == "__main__":
    main()
