"""LoRA adapters: sessions with an NPU part answer as onnxruntime does, whatever way they are called."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument

import ort_rknn
from ort_rknn.ort_types.adapters import has_adapters, without_adapters
from tests.helpers.toolkits.fake import fake_toolkit

WEIGHT = np.array([[1, 2, 0, -1], [-1, 3, 1, 0], [2, 0, 1, 1], [0, 1, -2, 3]], np.float32)
A, B = np.ones((4, 4), np.float32), 2 * np.eye(4, dtype=np.float32)
FEED = {"x": np.array([[1, -2, 3, 0], [2, 1, 0, -1]], np.float32)}


def lora_model(rank: int | str, batch: int | str = 2) -> bytes:
    """X -> X W + X A B; A and B are inputs, with weights of no effect."""
    size = 0 if isinstance(rank, str) else rank
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["h"]),
        helper.make_node("MatMul", ["x", "lora_a"], ["a"]),
        helper.make_node("MatMul", ["a", "lora_b"], ["b"]),
        helper.make_node("Add", ["h", "b"], ["y"]),
    ]
    inputs = [("x", [batch, 4]), ("lora_a", [4, rank]), ("lora_b", [rank, 4])]
    graph = helper.make_graph(
        nodes,
        "lora",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4])],
        [
            numpy_helper.from_array(WEIGHT, "W"),
            numpy_helper.from_array(np.zeros((4, size), np.float32), "lora_a"),
            numpy_helper.from_array(np.zeros((size, 4), np.float32), "lora_b"),
        ],
    )
    made = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    return made.SerializeToString()


@pytest.fixture
def adapter(tmp_path: Path) -> Any:
    return _adapter(tmp_path, {"lora_a": A, "lora_b": B})


def _adapter(folder: Path, weights: dict[str, np.ndarray]) -> Any:
    written = onnxruntime.AdapterFormat()
    written.set_adapter_version(1)
    written.set_model_version(1)
    written.set_parameters({key: onnxruntime.OrtValue.ortvalue_from_numpy(value) for key, value in weights.items()})
    written.export_adapter(str(folder / "lora.onnx_adapter"))
    adapter = onnxruntime.LoraAdapter()
    adapter.Load(str(folder / "lora.onnx_adapter"))
    return adapter


@pytest.fixture(params=[(4, 2), ("r", 2), (4, "n")], ids=["all compiled", "in part", "open shapes"])
def sessions(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    """Onnxruntime's, and ours with an NPU part."""
    model = lora_model(*request.param)
    with fake_toolkit(tmp_path):
        providers = [("RKNNExecutionProvider", {"min_gain": "0", "shapes": "x=2x4"})]
        if request.param[1] == "n":
            providers = [("RKNNExecutionProvider", {"min_gain": "0", "compile": "load"})]
        ours = ort_rknn.InferenceSession(model, providers=providers, device="simulator")
        assert ours.get_providers()[0] == "RKNNExecutionProvider"
        yield onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]), ours
        ours.close()


def _options(adapter: Any) -> Any:
    options = onnxruntime.RunOptions()
    options.add_active_adapter(adapter)
    return options


def _run(session: Any, options: Any) -> Any:
    return session.run(None, FEED, options)[0]


def _run_partly_given(session: Any, options: Any) -> Any:
    return session.run(["y"], {**FEED, "lora_a": -A}, options)[0]


def _with_ort_values(session: Any, options: Any) -> Any:
    feed = {"x": onnxruntime.OrtValue.ortvalue_from_numpy(FEED["x"])}
    return session.run_with_ort_values(["y"], feed, options)[0].numpy()


def _bound(session: Any, options: Any) -> Any:
    binding = session.io_binding()
    binding.bind_cpu_input("x", FEED["x"])
    binding.bind_output("y")
    session.run_with_iobinding(binding, options)
    return binding.copy_outputs_to_cpu()[0]


def _asynchronous(session: Any, options: Any) -> Any:
    done, found = threading.Event(), []

    def callback(results: Any, user_data: Any, error: str) -> None:
        found.append(results[0] if results else error)
        done.set()

    session.run_async(None, FEED, callback, None, options)
    assert done.wait(20)
    return found[0]


@pytest.mark.parametrize("call", [_run, _run_partly_given, _with_ort_values, _bound, _asynchronous])
def test_answers_are_onnxruntimes(sessions: tuple[Any, Any], adapter: Any, call: Callable[[Any, Any], Any]) -> None:
    """Where onnxruntime leaves adapters out (bindings, asynchronous calls), so do we."""
    theirs, ours = sessions
    expected = call(theirs, _options(adapter))
    np.testing.assert_array_equal(call(ours, _options(adapter)), expected)
    if call is not _run_partly_given:  # which fits no default of the other weight
        np.testing.assert_array_equal(call(ours, onnxruntime.RunOptions()), call(theirs, onnxruntime.RunOptions()))
    np.testing.assert_array_equal(call(ours, _options(adapter)), expected)


def test_jobs_have_the_adapter(sessions: tuple[Any, Any], adapter: Any) -> None:
    theirs, ours = sessions
    expected = theirs.run(None, FEED, _options(adapter))[0]
    np.testing.assert_array_equal(ours.submit(None, FEED, _options(adapter)).result(20)[0], expected)
    assert not np.array_equal(ours.submit(None, FEED).result(20)[0], expected)


def test_weights_the_model_does_not_have(sessions: tuple[Any, Any], tmp_path: Path) -> None:
    adapter = _adapter(tmp_path, {"lora_c": A})  # options do not keep it alive
    options = _options(adapter)
    texts = []
    for session in sessions:
        with pytest.raises(InvalidArgument) as error:
            session.run(None, FEED, options)
        texts.append(str(error.value))
    assert texts[0] == texts[1] == "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Invalid input name: lora_c"


def test_options_without_adapters_are_left_alone(adapter: Any, caplog: pytest.LogCaptureFixture) -> None:
    options = onnxruntime.RunOptions()
    options.logid = "mine"
    assert not has_adapters(None)
    assert not has_adapters(options)
    assert without_adapters(options, "run_async") is options
    options.terminate = True
    assert not has_adapters(options)
    options.terminate = False
    options.add_active_adapter(adapter)
    assert has_adapters(options)
    plain = without_adapters(options, "run_async")
    assert not has_adapters(plain)
    assert plain.logid == "mine"
    assert caplog.messages == ["run_async has active adapters specified, but won't have an effect"]


def test_a_flag_to_terminate_still_ends_the_call(sessions: tuple[Any, Any], adapter: Any) -> None:
    for session in sessions:
        options = _options(adapter)
        options.terminate = True
        with pytest.raises(Fail, match="Exiting due to terminate flag"):
            session.run(None, FEED, options)
