"""A Ray cluster of two nodes in this machine, each with the resources of a board."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

ray = pytest.importorskip("ray", reason="Ray is installed by `make test-ray`")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two boards of three cores; the head has no NPU."""
    from ray.cluster_utils import Cluster

    store = 100 << 20
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": store})
    boards = [
        made.add_node(num_cpus=1, resources={"rknpu": 3, "rknpu_rk3588": 3}, object_store_memory=store)
        for _ in range(2)
    ]
    ray.init(address=made.address, log_to_driver=False)
    made.wait_for_nodes(60)
    yield boards
    ray.shutdown()
    made.shutdown()
