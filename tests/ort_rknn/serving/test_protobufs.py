"""Requests and answers as bytes: known heads are those that were read, and no more of them are kept than fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from ort_rknn.remote.tensors import TensorError
from ort_rknn.serving.model import Outputs
from ort_rknn.serving.protobufs import Answers, Requests, inputs_of

MESSAGES: Any = service_pb2


def message(array: np.ndarray[Any, Any], *, name: str = "x", request_id: str = "", **parameters: str) -> bytes:
    made = MESSAGES.ModelInferRequest(model_name="m", id=request_id)
    made.inputs.add(name=name, datatype="INT32", shape=array.shape)
    made.outputs.add(name="y")
    made.raw_input_contents.append(array.tobytes())
    for key, text in parameters.items():
        made.parameters[key].string_param = text
    return bytes(made.SerializeToString())


def inputs(requests: Requests, content: bytes) -> dict[str, Any]:
    return inputs_of(requests.read(content))


def test_the_next_picture_has_a_known_head_and_its_own_values() -> None:
    requests = Requests(MESSAGES)
    first, second = np.arange(6, dtype=np.int32).reshape(2, 3), np.full((2, 3), 7, np.int32)
    heads = [requests.read(message(array)).head for array in (first, second)]
    assert heads[0] is heads[1]
    for array in (first, second):
        asked = requests.read(message(array))
        assert inputs_of(asked)["x"].tolist() == array.tolist()
        call = asked.head.call
        assert (call.model, list(call.outputs), call.parameters) == ("m", ["y"], {})


def test_what_differs_is_another_head() -> None:
    requests = Requests(MESSAGES)
    array = np.zeros((2, 3), np.int32)
    assert requests.read(message(array)).head.call.parameters == {}
    assert requests.read(message(array, priority="high")).head.call.parameters == {"priority": "high"}
    assert requests.read(message(array, request_id="8")).head.id == "8"
    assert inputs(requests, message(array.reshape(3, 2)))["x"].shape == (3, 2)
    with pytest.raises(TensorError, match="24 bytes"):
        inputs(requests, wrong_bytes(array))


def wrong_bytes(array: np.ndarray[Any, Any]) -> bytes:
    made = MESSAGES.ModelInferRequest.FromString(message(array))
    made.raw_input_contents[0] = bytes(20)
    return bytes(made.SerializeToString())


def test_typed_values_are_never_those_of_another_request() -> None:
    requests = Requests(MESSAGES)
    for value in (1, 2):
        made = MESSAGES.ModelInferRequest(model_name="m")
        made.inputs.add(name="x", datatype="INT32", shape=[1]).contents.int_contents.append(value)
        assert inputs(requests, made.SerializeToString())["x"].tolist() == [value]


def two_inputs(first: bytes, second: bytes, mark: str = "m") -> bytes:
    made = MESSAGES.ModelInferRequest(model_name=mark)
    for name in ("a", "b"):
        made.inputs.add(name=name, datatype="UINT8", shape=[-1 if mark == "open" else 4])
    made.raw_input_contents.extend([first, second])
    return bytes(made.SerializeToString())


def test_requests_of_one_length_are_told_apart() -> None:
    requests = Requests(MESSAGES)
    for _ in range(3):  # the third one is read by a template, if it is one
        for mark in "klmnopq":
            asked = requests.read(two_inputs(b"1234", b"5678", mark))
            assert asked.head.call.model == mark
            assert {name: array.tobytes() for name, array in inputs_of(asked).items()} == {"a": b"1234", "b": b"5678"}
    shifted = two_inputs(b"123", b"56789")  # as long, with another border between its tensors
    assert len(shifted) == len(two_inputs(b"1234", b"5678"))
    for _ in range(3):
        asked = requests.read(shifted)
        assert [bytes(raw) for raw in asked.raw] == [b"123", b"56789"]
        with pytest.raises(TensorError, match="'a': UINT8 of shape \\[4\\] is 4 bytes, not 3"):
            inputs_of(asked)
    # bytes of a tensor that look like the head of the next one change nothing
    head = two_inputs(b"1234", b"5678")
    at = head.index(b"1234")
    lure = head[at + 4 : at + 6] + b"56"
    for _ in range(2):
        assert [bytes(raw) for raw in requests.read(two_inputs(lure, b"5678")).raw] == [lure, b"5678"]


def test_templates_are_kept_up_to_a_number() -> None:
    requests = Requests(MESSAGES)
    for size in range(1000):
        for _ in range(2):
            assert inputs(requests, message(np.zeros(size, np.int32)))["x"].shape == (size,)
    assert 0 < sum(map(len, requests._alike.values())) <= 256


def test_heads_are_kept_up_to_a_number() -> None:
    requests = Requests(MESSAGES)
    array = np.zeros(1, np.int32)
    for number in range(1000):
        assert requests.read(message(array, request_id=str(number))).head.id == str(number)
    requests.read(message(array, name="n" * 5000))
    assert 0 < len(requests._known) <= 256
    assert sum(map(len, requests._known)) < 256 * 2048


def test_answers_are_what_the_parser_reads() -> None:
    answers = Answers(MESSAGES)
    for number, shape in enumerate([(2, 3), (2, 3), (3, 2), (0, 3), ()]):
        array = np.full(shape, number, np.float32)
        texts = np.array(["a", str(number)], object)
        outputs = Outputs("m", ("y", "z"), ("FP32", "BYTES"), ["y", "z"])
        pieces = answers.pieces(f"id{number // 2}", outputs, [array, texts])
        read = MESSAGES.ModelInferResponse.FromString(b"".join(pieces))
        assert (read.id, read.model_name, read.model_version) == (f"id{number // 2}", "m", "1")
        assert [(one.name, one.datatype, tuple(one.shape)) for one in read.outputs] == [
            ("y", "FP32", shape),
            ("z", "BYTES", (2,)),
        ]
        assert read.raw_output_contents[0] == array.tobytes()
        assert read.raw_output_contents[1].endswith(str(number).encode())
