"""Streams over submit: the iterator and the pipeline. EZ-24, EZ-25, VA-11."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from ort_rknn.api.streams import Pipeline, map_feeds
from ort_rknn.devices.fake import FakeDevice
from ort_rknn.engine.engine import Engine
from ort_rknn.engine.options import EngineOptions
from ort_rknn.errors import DeviceError
from tests.helpers.engines import LONG, fake, frame, program


@pytest.fixture
def device() -> FakeDevice:
    return fake(3)


@pytest.fixture
def engine(device: FakeDevice) -> Iterator[Engine]:
    engine = Engine(program(device), EngineOptions(max_queue_size=16))
    yield engine
    device.open_all()
    engine.close()
    assert device.misuse == []


def test_va11_prime_steady_drain(engine: Engine, device: FakeDevice) -> None:
    read: list[int] = []

    def feeds() -> Iterator[Any]:
        for tag in range(6):
            read.append(tag)
            yield frame(tag)

    results = map_feeds(engine.submit, feeds(), depth=3)
    assert read == [], "nothing happens before the first result is asked for"
    device.gate(0).open()
    assert next(results)[0][0, 0] == 0
    assert read == [0, 1, 2], "primed"
    device.gate(1).open()
    assert next(results)[0][0, 0] == 1
    assert read == [0, 1, 2, 3], "one in for one out"
    device.open_all()
    assert [result[0][0, 0] for result in results] == [2, 3, 4, 5]
    assert read == list(range(6))


def test_oldest_first_or_whatever_is_ready(engine: Engine, device: FakeDevice) -> None:
    device.gate(2).open()
    results = map_feeds(engine.submit, (frame(tag) for tag in range(4)), depth=3, ordered=False)
    assert next(results)[0][0, 0] == 2
    device.gate(3).open()
    assert next(results)[0][0, 0] == 3
    device.open_all()
    assert sorted(result[0][0, 0] for result in results) == [0, 1]


def test_an_endless_stream_can_be_left(engine: Engine, device: FakeDevice) -> None:
    device.gate(0).open()
    results = map_feeds(engine.submit, (frame(tag) for tag in itertools.count()), depth=8)
    assert next(results)[0][0, 0] == 0
    for tag in (1, 2, 3):
        device.gate(tag).wait_started(LONG)
    results.close()  # type: ignore[attr-defined]
    device.open_all()
    assert engine.wait_all(LONG)
    assert engine.stats().cancelled == 4
    assert len(device.calls) == 4


def test_an_error_comes_out_where_its_result_would(engine: Engine, device: FakeDevice) -> None:
    device.gate(1).fail(-1)
    device.open_all()
    results = map_feeds(engine.submit, (frame(tag) for tag in range(4)), depth=2)
    assert next(results)[0][0, 0] == 0
    with pytest.raises(DeviceError):
        next(results)


@pytest.mark.parametrize("depth", [0, -1])
def test_depth_is_checked_at_once(engine: Engine, depth: int) -> None:
    with pytest.raises(ValueError, match="depth"):
        map_feeds(engine.submit, [], depth=depth)
    with pytest.raises(ValueError, match="depth"):
        Pipeline(engine.submit).push(frame(0), depth=depth)


def test_ez24_ez25_pipeline(engine: Engine, device: FakeDevice) -> None:
    device.open_all()
    pipeline = Pipeline(engine.submit)
    results = [pipeline.push(frame(tag)) for tag in range(10)]
    assert results[:3] == [None, None, None]
    assert [result[0][0, 0] for result in results[3:] if result is not None] == list(range(7))
    assert len(pipeline) == 3
    assert [result[0][0, 0] for result in pipeline.drain()] == [7, 8, 9], "10 in, 10 out"
    assert pipeline.drain() == []


def test_ez25_reset_throws_away_and_another_depth_does_not(engine: Engine, device: FakeDevice) -> None:
    pipeline = Pipeline(engine.submit)
    for tag in range(3):
        assert pipeline.push(frame(tag), depth=5) is None
    assert pipeline.push(frame(3), depth=5, reset=True) is None
    assert len(pipeline) == 1
    device.open_all()
    pipeline.push(frame(4), depth=5)
    result = pipeline.push(frame(5), depth=1)
    assert result is not None
    assert result[0][0, 0] == 3
    assert [result[0][0, 0] for result in pipeline.drain()] == [4, 5]
