"""Requests and answers as bytes: known heads are those that were read, and no more of them are kept than fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from ort_rknn.remote.tensors import TensorError
from ort_rknn.serving.protobufs import Answers, Requests, call_of
from ort_rknn.serving.service import Answer, Call

MESSAGES: Any = service_pb2


def message(array: np.ndarray[Any, Any], *, name: str = "x", request_id: str = "", **parameters: str) -> bytes:
    made = MESSAGES.ModelInferRequest(model_name="m", id=request_id)
    made.inputs.add(name=name, datatype="INT32", shape=array.shape)
    made.outputs.add(name="y")
    made.raw_input_contents.append(array.tobytes())
    for key, text in parameters.items():
        made.parameters[key].string_param = text
    return bytes(made.SerializeToString())


def call(requests: Requests, content: bytes) -> Call:
    return call_of(requests.read(content), None, lambda: False)


def test_the_next_picture_has_a_known_head_and_its_own_values() -> None:
    requests = Requests(MESSAGES)
    first, second = np.arange(6, dtype=np.int32).reshape(2, 3), np.full((2, 3), 7, np.int32)
    heads = [requests.read(message(array)).head for array in (first, second)]
    assert heads[0] is heads[1]
    for array in (first, second):
        asked = call(requests, message(array))
        assert asked.inputs["x"].tolist() == array.tolist()
        assert (asked.model, list(asked.outputs), asked.parameters) == ("m", ["y"], {})


def test_what_differs_is_another_head() -> None:
    requests = Requests(MESSAGES)
    array = np.zeros((2, 3), np.int32)
    assert call(requests, message(array)).parameters == {}
    assert call(requests, message(array, priority="high")).parameters == {"priority": "high"}
    assert requests.read(message(array, request_id="8")).head.id == "8"
    assert call(requests, message(array.reshape(3, 2))).inputs["x"].shape == (3, 2)
    with pytest.raises(TensorError, match="24 bytes"):
        call(requests, wrong_bytes(array))


def wrong_bytes(array: np.ndarray[Any, Any]) -> bytes:
    made = MESSAGES.ModelInferRequest.FromString(message(array))
    made.raw_input_contents[0] = bytes(20)
    return bytes(made.SerializeToString())


def test_typed_values_are_never_those_of_another_request() -> None:
    requests = Requests(MESSAGES)
    for value in (1, 2):
        made = MESSAGES.ModelInferRequest(model_name="m")
        made.inputs.add(name="x", datatype="INT32", shape=[1]).contents.int_contents.append(value)
        assert call(requests, made.SerializeToString()).inputs["x"].tolist() == [value]


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
        answer = Answer("m", ("y", "z"), ("FP32", "BYTES"), (array, texts))
        read = MESSAGES.ModelInferResponse.FromString(b"".join(answers.pieces(f"id{number // 2}", answer)))
        assert (read.id, read.model_name, read.model_version) == (f"id{number // 2}", "m", "1")
        assert [(one.name, one.datatype, tuple(one.shape)) for one in read.outputs] == [
            ("y", "FP32", shape),
            ("z", "BYTES", (2,)),
        ]
        assert read.raw_output_contents[0] == array.tobytes()
        assert read.raw_output_contents[1].endswith(str(number).encode())
