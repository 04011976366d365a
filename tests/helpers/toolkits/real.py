"""Tiny models for the tests that run the vendor's toolkit, and a look at what a conversion leaves behind."""

from __future__ import annotations

import os
import select
from pathlib import Path

import numpy as np
from onnx import NodeProto, TensorProto, helper

from tests.helpers.builders import build

FLOAT = TensorProto.FLOAT


def model(
    nodes: list[NodeProto],
    inputs: list[tuple[str, int, list[int | str]]],
    outputs: list[tuple[str, int, list[int | str]]],
    constants: dict[str, np.ndarray] | None = None,
) -> bytes:
    """A model of opset 17, serialized, as the toolkit's child gets it."""
    given, made = ({name: (kind, dims) for name, kind, dims in values} for values in (inputs, outputs))
    return build(nodes, given, made, constants, opset=17, ir_version=8, name="tiny").SerializeToString()


def conv() -> tuple[bytes, dict[str, np.ndarray]]:
    """A 3x3 Conv with Relu on a (1, 3, 8, 8) image, with a feed."""
    rng = np.random.default_rng(3)
    weight = (rng.standard_normal((4, 3, 3, 3)) / 4).astype(np.float32)
    data = model(
        [helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]), helper.make_node("Relu", ["c"], ["y"])],
        [("x", FLOAT, [1, 3, 8, 8])],
        [("y", FLOAT, [1, 4, 8, 8])],
        {"w": weight},
    )
    return data, {"x": rng.standard_normal((1, 3, 8, 8)).astype(np.float32)}


def cubic() -> bytes:
    """A cubic Resize: the compiler segfaults on it."""
    return model(
        [helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="cubic")],
        [("x", FLOAT, [1, 1, 4, 4])],
        [("y", FLOAT, [1, 1, 8, 8])],
        {"scales": np.array([1, 1, 2, 2], np.float32)},
    )


def add_uint8() -> bytes:
    """An addition of bytes: the compiler aborts on it."""
    return model(
        [helper.make_node("Add", ["a", "b"], ["y"])],
        [("a", TensorProto.UINT8, [2, 3]), ("b", TensorProto.UINT8, [2, 3])],
        [("y", TensorProto.UINT8, [2, 3])],
    )


def nonzero() -> bytes:
    """An op whose output has no static shape: the toolkit refuses it."""
    return model(
        [helper.make_node("NonZero", ["x"], ["y"])], [("x", FLOAT, [3, 4])], [("y", TensorProto.INT64, [2, "n"])]
    )


def rotary() -> bytes:
    """A rotary embedding of rank 3: the toolkit's graph rules never come to an end."""
    rng = np.random.default_rng(4)
    constants = {name: rng.standard_normal((1, 16, 32)).astype(np.float32) for name in ("cos", "sin")}
    constants["parts"] = np.array([16, 16])
    nodes = [
        helper.make_node("Split", ["x", "parts"], ["x1", "x2"], axis=-1),
        helper.make_node("Neg", ["x2"], ["n"]),
        helper.make_node("Concat", ["n", "x1"], ["turned"], axis=-1),
        helper.make_node("Mul", ["x", "cos"], ["a"]),
        helper.make_node("Mul", ["turned", "sin"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    return model(nodes, [("x", FLOAT, [1, 16, 32])], [("y", FLOAT, [1, 16, 32])], constants)


def slow() -> bytes:
    """A model whose conversion takes long enough to be interrupted: weights of 64 MB."""
    nodes, constants = [], {}
    for number in range(16):
        constants[f"w{number}"] = np.full((1024, 1024), 1 / 1024, np.float32)
        nodes.append(helper.make_node("MatMul", [f"v{number}", f"w{number}"], [f"v{number + 1}"]))
    return model(nodes, [("v0", FLOAT, [1, 1024])], [("v16", FLOAT, [1, 1024])], constants)


def workers_in(folder: Path) -> list[int]:
    """Process ids of the workers whose job lies in ``folder``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"toolkit/worker/main.py" in command and os.fsencode(folder) in command:
                found.append(int(entry.name))
    return found


def wait_for_end(pid: int) -> None:
    """Wait until another's process is gone."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([handle], [], [], 30)
    os.close(handle)


def make_old(folder: Path) -> None:
    """Let a folder look as if nobody had touched it for a day."""
    yesterday = folder.stat().st_mtime - 86400
    os.utime(folder, (yesterday, yesterday))


def attention_from_the_right() -> tuple[bytes, dict[str, np.ndarray]]:
    """Attention whose weights stand on the right, as in YOLO11: a graph rule of the toolkit raises an IndexError."""
    swap = {"perm": [0, 1, 3, 2]}
    data = model(
        [
            helper.make_node("Transpose", ["q"], ["qt"], **swap),
            helper.make_node("MatMul", ["qt", "k"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["weights"], axis=-1),
            helper.make_node("Transpose", ["weights"], ["turned"], **swap),
            helper.make_node("MatMul", ["v", "turned"], ["y"]),
        ],
        [("q", FLOAT, [1, 2, 16, 16]), ("k", FLOAT, [1, 2, 16, 16]), ("v", FLOAT, [1, 2, 32, 16])],
        [("y", FLOAT, [1, 2, 32, 16])],
    )
    rng = np.random.default_rng(4)
    return data, {name: rng.standard_normal((1, 2, 16, 16)).astype(np.float32) for name in "qk"} | {
        "v": rng.standard_normal((1, 2, 32, 16)).astype(np.float32)
    }
