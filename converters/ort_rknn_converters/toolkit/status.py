"""Says which toolkit there is, and proves that it works by converting a model of two nodes."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from ort_rknn_converters.errors import ConvertError, NpuNotOpened, ToolkitFailed, ToolkitMissing
from ort_rknn_converters.targets import DEFAULT_TARGET
from ort_rknn_converters.toolkit.compile import compile_segment
from ort_rknn_converters.toolkit.request import CompileRequest
from ort_rknn_converters.toolkit.setup.environment import ToolkitPython, find_python, last_failure
from ort_rknn_converters.toolkit.setup.find_python import probe
from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.user_dirs import size_on_disk, toolkit_directory

__all__ = ["Status", "prove", "status"]

PROOF_TIMEOUT_S = 120.0  # a guess: 0.3 s on a PC, a board reads 250 MB from its card first
TOLERANCE = 5e-3  # of values around 1 to 4: fp16 keeps three digits


@frozen
class Status:
    """State of the toolkit on this machine.

    Attributes:
        toolkit: The interpreter that would be used, or None.
        python_version: Of that interpreter, such as ``3.11``.
        directory: Where the private environment is or would be.
        size: Bytes of the private environment on disk, 0 when there is none.
        works: Whether it converted the proof's model.
        seconds: What that took.
        problem: Why not, with the cure.
    """

    toolkit: ToolkitPython | None
    python_version: str
    directory: Path
    size: int
    works: bool
    seconds: float
    problem: str


def _proof_model() -> bytes:
    """``y = relu(x) + (1, 2, 3)`` on a (1, 3, 8, 8) tensor."""
    from ort_rknn_converters.onnx_file.schema import TensorProto, helper  # there may be no onnx yet

    shape = [1, 3, 8, 8]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Add", ["r", "bias"], ["y"])],
        "proof",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [helper.make_tensor("bias", TensorProto.FLOAT, [1, 3, 1, 1], [1.0, 2.0, 3.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def prove(python: str | None = None, *, timeout: float = PROOF_TIMEOUT_S) -> str:
    """Converts a model of two nodes and checks the simulator's numbers; returns the toolkit's version.

    Raises:
        ToolkitMissing: There is no toolkit.
        ToolkitFailed: It does not work.
    """
    x = np.linspace(-1, 1, 192, dtype=np.float32).reshape(1, 3, 8, 8)
    request = CompileRequest(_proof_model(), DEFAULT_TARGET, feeds=({"x": x},))
    result = compile_segment(request, python=python, timeout=timeout)
    expected = np.maximum(x, 0) + np.array([1, 2, 3], np.float32).reshape(1, 3, 1, 1)
    answer = result.outputs[0].get("y")
    if answer is None or answer.shape != x.shape or not np.allclose(answer, expected, atol=TOLERANCE):
        raise ToolkitFailed(
            "the toolkit's simulator gives wrong numbers for relu(x) + 1", kind="refused", log=result.log
        )
    return result.toolkit_version


def status() -> Status:
    """Look for the toolkit and prove it. Never raises for a toolkit that is missing or broken."""
    directory = toolkit_directory()
    size = size_on_disk(directory)
    try:
        toolkit = find_python()
    except ToolkitMissing as error:
        reason = last_failure()
        problem = f"{error}. The last installation failed: {reason.splitlines()[0]}" if reason else str(error)
        return Status(None, "", directory, size, False, 0.0, problem)
    found = probe(toolkit.python)
    version = ".".join(map(str, found.version)) if found else ""
    began = time.perf_counter()
    try:
        prove()
    except ConvertError as error:
        problem = str(error)
        if toolkit.source == "private" and not isinstance(error, NpuNotOpened):
            problem += ". Repair it with `ort-rknn toolkit install --force`"
        return Status(toolkit, version, directory, size, False, time.perf_counter() - began, problem)
    return Status(toolkit, version, directory, size, True, time.perf_counter() - began, "")
