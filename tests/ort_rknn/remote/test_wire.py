"""Messages cut and joined by hand: as the parser of protocol buffers reads and writes them, whatever the bytes."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from ort_rknn.remote.wire import cut, field_number, fields, raw_bytes, read_parted, wrapped

MESSAGES: Any = service_pb2
REQUEST = MESSAGES.ModelInferRequest
RAW = "raw_input_contents"
NUMBER = field_number(REQUEST, RAW)


def request(*sizes: int) -> Any:
    made = REQUEST(model_name="m", id="7")
    for number, size in enumerate(sizes):
        made.inputs.add(name=f"x{number}", datatype="UINT8", shape=[size])
        made.raw_input_contents.append(bytes([number % 256]) * size)
    made.parameters["timeout"].int64_param = -1
    return made


@pytest.mark.parametrize("sizes", [(), (5,), (100_000,), (0, 70_000, 3, 40_000), (1,) * 300, (200,) * 200])
def test_the_parser_reads_the_same(sizes: tuple[int, ...]) -> None:
    wanted = request(*sizes)
    parted = read_parted(REQUEST, RAW, wanted.SerializeToString())
    assert [bytes(one) for one in parted.raw] == list(wanted.raw_input_contents)
    del wanted.raw_input_contents[:], parted.message.raw_input_contents[:]
    assert parted.message == wanted


def test_large_tensors_are_not_copied() -> None:
    content = request(100_000, 50_000).SerializeToString()
    assert all(isinstance(one, memoryview) and one.obj is content for one in read_parted(REQUEST, RAW, content).raw)


def test_joined_messages_are_the_parsers_own() -> None:
    wanted = request(0, 127, 128, 20_000, 3_000_000)
    raw = list(wanted.raw_input_contents)
    head = REQUEST()
    head.CopyFrom(wanted)
    del head.raw_input_contents[:]
    assert REQUEST.FromString(b"".join((head.SerializeToString(), *fields(NUMBER, raw)))) == wanted
    answer = MESSAGES.ModelInferResponse(model_name="m", raw_output_contents=raw)
    stream = MESSAGES.ModelStreamInferResponse
    content = wrapped(field_number(stream, "infer_response"), [answer.SerializeToString()])
    assert stream.FromString(content).infer_response == answer


def test_damaged_messages_are_read_as_the_parser_reads_them() -> None:
    random_ = random.Random(3)
    content = request(20_000, 9).SerializeToString()
    places = [*range(40), *range(len(content) - 120, len(content))]
    agreed = refused = 0
    for _ in range(3000):
        bad = bytearray(content)
        for _ in range(random_.randrange(1, 4)):
            bad[random_.choice(places)] = random_.randrange(256)
        if random_.random() < 0.3:
            bad = bad[: random_.randrange(17_000, len(bad))]
        try:
            wanted = REQUEST.FromString(bytes(bad))
        except DecodeError:
            refused += 1
            with pytest.raises(DecodeError):
                read_parted(REQUEST, RAW, bytes(bad))
            continue
        parted = read_parted(REQUEST, RAW, bytes(bad))
        assert [bytes(one) for one in parted.raw] == list(wanted.raw_input_contents)
        agreed += 1
    assert min(agreed, refused) > 100


@pytest.mark.parametrize("content", [b"\x3b", b"\x80" * 11, b"\x3a\xff", b"\x00"])
def test_odd_bytes_are_left_to_the_parser(content: bytes) -> None:
    assert cut(content, NUMBER) is None or cut(content, NUMBER) == (content, [])


def test_raw_bytes_are_c_order_and_little_endian() -> None:
    array = np.arange(6, dtype=">f4").reshape(2, 3)
    assert bytes(raw_bytes(array.T, "FP32")) == array.T.astype("<f4").tobytes()
    plain = np.arange(400, dtype=np.int64)
    assert np.shares_memory(np.frombuffer(raw_bytes(plain, "INT64"), np.int64), plain)
    assert bytes(raw_bytes(np.zeros((0, 3), np.float32), "FP32")) == b""
    assert bytes(raw_bytes(np.array("ab", object), "BYTES")) == b"\x02\0\0\0ab"
    assert bytes(raw_bytes(np.array(True), "BOOL")) == b"\x01"
