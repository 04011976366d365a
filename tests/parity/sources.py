"""Cases: what a session can be made of, and what is said of what it cannot."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers.ort_models import model
from tests.helpers.parity import Bench, cases

A = np.array([[1, 2], [3, -4], [5, 6]], np.float32)
FEED = {"A": A, "B": A}


class Fs:
    def __init__(self, path: Any) -> None:
        self.path = path

    def __fspath__(self) -> Any:
        return self.path


def _file(t: Bench, content: bytes, name: str = "model.onnx") -> Path:
    path = Path(t.folder) / name
    path.write_bytes(content)
    return path


def _run(session: Any) -> Any:
    return session.run(None, FEED)


SOURCES: dict[str, Any] = {
    "bytes": lambda t: model("two"),
    "str": lambda t: str(_file(t, model("two"))),
    "path": lambda t: _file(t, model("two")),
    "fspath": lambda t: Fs(str(_file(t, model("two")))),
    "fspath_bytes": lambda t: Fs(bytes(_file(t, model("two")))),
    "bytearray": lambda t: bytearray(model("two")),
    "memoryview": lambda t: memoryview(model("two")),
    "stream": lambda t: io.BytesIO(model("two")),
    "none": lambda t: None,
    "int": lambda t: 3,
    "empty_string": lambda t: "",
    "empty_bytes": lambda t: b"",
    "garbage": lambda t: b"garbage",
    "truncated": lambda t: model("two")[:-20],
    "trailing_garbage": lambda t: model("two") + b"\xff\xff",
    "missing_file": lambda t: "nope.onnx",
    "missing_path": lambda t: Path("no/such/nope.onnx"),
    "empty_file": lambda t: "empty.onnx" if _file(t, b"", "empty.onnx") else "",
    "garbage_file": lambda t: "garbage.onnx" if _file(t, b"garbage", "garbage.onnx") else "",
    "random_file": lambda t: "random.onnx" if _file(t, np.random.default_rng(0).bytes(1000), "random.onnx") else "",
    "directory": lambda t: ".",
    "garbage_ort_file": lambda t: "garbage.ort" if _file(t, b"garbage", "garbage.ort") else "",
}


def _source(make: Any) -> Any:
    return lambda t: _run(t.open(make(t)))


cases("source", {name: _source(make) for name, make in SOURCES.items()})


def _broken(change: Any) -> Any:
    def run(t: Bench) -> Any:
        import onnx

        proto = onnx.ModelProto.FromString(model("two"))
        change(proto)
        return _run(t.open(proto.SerializeToString()))

    return run


def _rename_op(proto: Any) -> None:
    proto.graph.node[1].op_type = "NoSuchOpAtAll"


def _rename_domain(proto: Any) -> None:
    proto.graph.node[1].domain = "my.custom"


def _dangle(proto: Any) -> None:
    proto.graph.node[1].input[0] = "missing_tensor"


def _new_ir(proto: Any) -> None:
    proto.ir_version = 99


def _new_opset(proto: Any) -> None:
    proto.opset_import[0].version = 999


def _wrong_type(proto: Any) -> None:
    proto.graph.output[0].type.tensor_type.elem_type = 7


def _wrong_shape(proto: Any) -> None:
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 9


def _cycle(proto: Any) -> None:
    proto.graph.node[0].input[0] = "Y"


def _twice(proto: Any) -> None:
    proto.graph.node[1].output[0] = "K"


def _no_nodes(proto: Any) -> None:
    del proto.graph.node[:]


def _foreign_context(proto: Any) -> None:
    from onnx import helper

    node = helper.make_node("EPContext", ["A"], ["K"], domain="com.microsoft", name="ctx0", source="X", main_context=1)
    proto.graph.node[0].CopyFrom(node)
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))


cases(
    "broken",
    {
        change.__name__.strip("_"): _broken(change)
        for change in (
            _rename_op,
            _rename_domain,
            _dangle,
            _new_ir,
            _new_opset,
            _wrong_type,
            _wrong_shape,
            _cycle,
            _twice,
            _no_nodes,
            _foreign_context,
        )
    },
)
