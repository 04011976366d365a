"""Sessions on many boards by Ray: placement, order, boards that die, datasets."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.filterwarnings("default")]
ray = pytest.importorskip("ray", reason="Ray is installed by `make test-ray`")

from ort_rknn.errors import DeviceUnavailable  # noqa: E402
from ort_rknn.ray import BatchRunner, Pool, node_resources  # noqa: E402
from ort_rknn.ray.worker import BoardSession  # noqa: E402
from tests.helpers.ort_models import model  # noqa: E402

A = np.array([[1, 2], [3, -4], [5, 6]], np.float32)
W = np.float32([[1, 2], [-1, 3]])
OPTIONS = {"device": "cpu"}


def feed(number: int) -> dict[str, Any]:
    return {"A": A * number, "B": A}


def right(number: int, result: Any) -> bool:
    return bool(np.array_equal(result[0], A * np.float32(number) @ W))


def test_a_board_without_an_npu_offers_nothing() -> None:
    assert node_resources() == {}


def test_the_emulated_npu_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.helpers.emulator import build_emulator

    monkeypatch.setenv("ORT_RKNN_RUNTIME_LIBRARY", str(build_emulator()))
    found = node_resources()
    assert found["rknpu"] == 3


def test_one_actor_a_board_and_all_its_cores(cluster: Any) -> None:
    with Pool(model("two"), options=OPTIONS) as pool:
        assert len(pool) == 2
        found = pool.wait_ready(120)
        assert [row["providers"] for row in found] == [["CPUExecutionProvider"]] * 2
        assert len({row["pid"] for row in found}) == 2
        assert ray.available_resources().get("rknpu", 0) == 0  # three of three on each board


def test_map_is_ordered_bounded_and_right(cluster: Any) -> None:
    read = []

    def feeds() -> Any:
        for number in range(300):
            read.append(number)
            yield feed(number)

    with Pool(model("two"), options=OPTIONS) as pool:
        for number, result in enumerate(pool.map(feeds(), ["K"])):
            assert right(number, result)
            assert len(read) - number <= 2 * 10 + 1
        assert number == 299


def test_an_actor_killed_in_a_map(cluster: Any) -> None:
    with Pool(model("two"), options=OPTIONS) as pool:
        actors = pool.wait_ready(120)
        killed = False
        for number, result in enumerate(pool.map((feed(number) for number in range(600)), ["K"])):
            assert right(number, result)
            if number == 100 and not killed:
                os.kill(actors[0]["pid"], signal.SIGKILL)
                killed = True
        assert number == 599


def test_errors_are_the_sessions_own(cluster: Any) -> None:
    with Pool(model("two"), options=OPTIONS) as pool:
        results = pool.map([feed(1), {"A": A[:2], "B": A}, feed(2)], ["K"])
        assert right(1, next(results))
        with pytest.raises(Exception, match="Got invalid dimensions for input: A"):
            next(results)


def test_a_model_that_cannot_be_opened(cluster: Any) -> None:
    refused = pytest.raises(DeviceUnavailable, match=r"a board cannot open the model: .*INVALID_PROTOBUF")
    with Pool(b"garbage", options=OPTIONS, timeout=60) as pool, refused:
        list(pool.map([feed(1)]))


def test_nobody_has_the_resource(cluster: Any) -> None:
    with pytest.raises(DeviceUnavailable, match=r"no node of the cluster has the resource rknpu_rk3566.*ray start"):
        Pool(model("two"), resource="rknpu_rk3566")


def test_batches_of_a_dataset() -> None:
    rows = np.stack([A * number for number in range(5)])
    runner = BatchRunner(model("two"), output_names=["K"], options=OPTIONS)
    batch = runner({"A": rows, "B": rows})
    assert batch["K"].shape == (5, 3, 2)
    assert all(right(number, [batch["K"][number]]) for number in range(5))


def test_ready_is_a_run_that_was_right() -> None:
    session = BoardSession(model("two"), OPTIONS)
    assert session.ready()["providers"] == ["CPUExecutionProvider"]
