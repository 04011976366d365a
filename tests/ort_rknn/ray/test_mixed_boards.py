"""Boards of different SoCs in one pool: one file with code for both, each board runs its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.filterwarnings("default")]
ray = pytest.importorskip("ray", reason="Ray is installed by `make test-ray`")

from ort_rknn.ray import Pool  # noqa: E402
from ort_rknn_converters.options import ConvertOptions  # noqa: E402
from ort_rknn_converters.pipeline.convert_many import convert_bundle  # noqa: E402
from tests.helpers.ort_models import model  # noqa: E402
from tests.helpers.toolkits.fake import fake_toolkit  # noqa: E402

A = np.array([[1, 2], [3, -4], [5, 6]], np.float32)
W = np.float32([[1, 2], [-1, 3]])
BOARDS = {"rk3588": 3, "rk3576": 2}


def feed(number: int) -> dict[str, Any]:
    return {"A": A * number, "B": A}


def right(number: int, result: Any) -> bool:
    return bool(np.array_equal(result[0], A * np.float32(number) @ W))


@pytest.fixture(scope="module")
def mixed() -> Iterator[Any]:
    """A board of each SoC: simulators, as the environment of each node says."""
    from ray.cluster_utils import Cluster

    store = 100 << 20
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": store})
    for target, cores in BOARDS.items():
        made.add_node(
            num_cpus=1,
            resources={"rknpu": cores, f"rknpu_{target}": cores},
            object_store_memory=store,
            env_vars={"ORT_RKNN_DEVICE": "simulator", "ORT_RKNN_TARGET": target},
        )
    ray.init(address=made.address, log_to_driver=False)
    made.wait_for_nodes(60)
    yield made
    ray.shutdown()
    made.shutdown()


def compiled(folder: Path, *targets: str) -> Path:
    """The model with code for some SoCs."""
    path = folder / "two.rknn.onnx"
    with fake_toolkit(folder / "cache"):
        wanted = [ConvertOptions(target=target, min_gain=0) for target in targets]
        convert_bundle(model("two"), wanted, known_failures=folder).save(path)
    return path


def test_each_board_runs_its_own_code(mixed: Any, tmp_path: Path) -> None:
    with Pool(compiled(tmp_path, *BOARDS)) as pool:
        boards = pool.wait_ready(120)
        assert {board["target"] for board in boards} == set(BOARDS)
        assert {board["providers"][0] for board in boards} == {"RKNNExecutionProvider"}
        victim = next(board["pid"] for board in boards if board["target"] == "rk3588")
        feeds = (feed(number % 200) for number in range(400))  # 200: what fp16 holds exactly
        for number, result in enumerate(pool.map(feeds, ["K"])):
            assert right(number % 200, result)
            if number == 100:
                os.kill(victim, signal.SIGKILL)  # the other one goes on with its own code
        assert number == 399


def test_a_pool_of_one_soc(mixed: Any, tmp_path: Path) -> None:
    with Pool(compiled(tmp_path, "rk3576"), resource="rknpu_rk3576") as pool:
        (board,) = pool.wait_ready(120)
        assert (board["target"], board["providers"][0]) == ("rk3576", "RKNNExecutionProvider")
        assert [right(number, result) for number, result in enumerate(pool.map(map(feed, range(20)), ["K"]))] == [
            True
        ] * 20


def test_the_recipe_for_ray_serve(mixed: Any, tmp_path: Path) -> None:
    """As it stands in docs/cluster.md."""
    pytest.importorskip("starlette", reason="Ray Serve is installed by `make test-ray`")
    from ray import serve

    from ort_rknn.ray import BoardSession

    path = compiled(tmp_path, *BOARDS)
    deployment = serve.deployment(
        BoardSession,
        num_replicas=2,
        max_ongoing_requests=5,
        ray_actor_options={"num_cpus": 0, "resources": {"rknpu": 2}},
    )
    handle = serve.run(deployment.bind(str(path)))
    try:
        answers = [handle.run.remote(["K"], feed(number)) for number in range(60)]
        assert [right(number, answer.result(timeout_s=60)) for number, answer in enumerate(answers)] == [True] * 60
        targets = {handle.ready.remote().result(timeout_s=60)["target"] for _ in range(20)}
        assert targets == set(BOARDS)  # a replica on each board
    finally:
        serve.shutdown()
