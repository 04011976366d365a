"""Makes one small file of each form the toolkit writes: ``python tests/data/rknn/generate_formats.py``.

The files are committed, so the tests of the reader need no toolkit. Two builds of one model differ in padding bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from ort_rknn_converters.toolkit.compile import compile_segment
from ort_rknn_converters.toolkit.request import CompileRequest

HERE = Path(__file__).parent
WEIGHT = (np.random.default_rng(7).standard_normal((4, 3, 1, 1)) / 2).astype(np.float32)


def model(batch: int | str) -> bytes:
    """A Conv with Relu (NPU) and an Exp (CPU) of an image."""
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "w"], ["c"]),
            helper.make_node("Relu", ["c"], ["features"]),
            helper.make_node("Exp", ["features"], ["grown"]),
        ],
        "formats",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 4, 4])],
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, 4, 4, 4]),
            helper.make_tensor_value_info("grown", TensorProto.FLOAT, [batch, 4, 4, 4]),
        ],
        [numpy_helper.from_array(WEIGHT, "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return made.SerializeToString()


def main() -> None:
    sample = {"image": np.linspace(-1, 1, 48, dtype=np.float32).reshape(1, 3, 4, 4)}
    for name, target, precision, shapes in (
        ("formats_fp16_rk3562", "rk3562", "fp16", []),
        ("formats_fp16_rk3576", "rk3576", "fp16", []),
        ("formats_fp16_rv1126b", "rv1126b", "fp16", []),
        ("formats_int8_rv1106", "rv1106", "int8", []),  # the mini format
        ("formats_dynamic_rv1106", "rv1106", "int8", [1]),  # not the mini format
        ("formats_dynamic_rk3588", "rk3588", "fp16", [1, 2]),
    ):
        options: dict[str, object] = {"dataset": [sample]} if precision == "int8" else {}
        if shapes:
            options["dynamic_input"] = [[[batch, 3, 4, 4]] for batch in shapes]
        request = CompileRequest(
            model("n" if shapes else 1), target, precision, custom_string="größer", options=options
        )
        result = compile_segment(request)
        (HERE / f"{name}.rknn").write_bytes(result.rknn)
        print(name, len(result.rknn), [(row.name, row.target) for row in result.layers], file=sys.stderr)


if __name__ == "__main__":
    main()
