"""What a cluster is made of is what was read and tried."""

from __future__ import annotations

import pytest

from tests.golden.rendered import CLUSTERS, FOLDER, rendered


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_cluster_renders_to_the_recorded_files(name: str) -> None:
    assert rendered(name) == {path.name: path.read_text() for path in (FOLDER / name).iterdir()}
