"""Times that owners have measured on real boards, with what is needed to ask the cost rule for the same work.

Public records (issues, READMEs, benchmark tables), collected 2026-11-30; figures only.
Row numbers are the project's own. All times are of one core and of
``rknn_run`` alone where nothing else is said, in milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx

from benchmarks.model_parts import Net
from benchmarks.models_vision import mobilenetv2, resnet18, resnet50, yolov8n
from benchmarks.models_zoo import ZOO

__all__ = ["LAYER_TABLE_MS", "MODELS", "NOT_COMPARED", "RECORDS", "Record"]

Build = Callable[[], onnx.ModelProto]

LAYER_TABLE_MS = 0.12
"""Added to the rule for rows of layer tables: with its profiler on, the runtime runs each layer on its own. Fitted to
the smallest layers of record 24 (Add of 8400 values: 0.13 to 0.20)."""

_ZOO_SOURCE = "rknn_model_zoo README (2.3.2)"
_ZOO_SOCS = ("rk3566", "rk3562", "rk3588", "rk3576")


@dataclass(frozen=True)
class Record:
    """One time somebody measured.

    Attributes:
        row: Its number.
        source: Where it was published.
        what: Name of the model or the layer.
        model: Key of :data:`MODELS`.
        target: SoC.
        dtype: ``int8`` or ``fp16``.
        ms: Measured.
        fitted: Whether the rule's figures were fitted to it, so that it proves less.
        layer: Whether the time is that of a layer table.
        note: Why the rule is off there, where it is; or what was assumed.
    """

    row: int
    source: str
    what: str
    model: str
    target: str
    dtype: str
    ms: float
    fitted: bool = False
    layer: bool = False
    note: str = ""


def _one(name: str, *shape: int, build: Callable[[Net, str], str], out: list[int] | None = None) -> Build:
    """A model of a single layer."""

    def made() -> onnx.ModelProto:
        net = Net(name, opset=13)
        net.output(build(net, net.input("x", shape)), "y", out or list(shape))
        return net.model()

    return made


def _binary(kind: str) -> Callable[[Net, str], str]:
    return lambda net, x: net.op(kind, x, net.input("other", [1, 84, 100] if kind == "Sub" else [1, 256, 20, 20]))


_LAYERS: Mapping[str, Build] = {
    "conv 256x64x64 3x3": _one("c", 1, 256, 64, 64, build=lambda n, x: n.conv(x, 256, 256, 3)),
    "relu 256x64x64": _one("r", 1, 256, 64, 64, build=lambda n, x: n.op("Relu", x)),
    "add 256x64x64": _one("a", 1, 256, 64, 64, build=lambda n, x: n.op("Add", x, n.input("z", [1, 256, 64, 64]))),
    "pad 256x64x64": _one(
        *("p", 1, 256, 64, 64),
        build=lambda n, x: n.op("Pad", x, n.ints(0, 0, 1, 1, 0, 0, 1, 1), mode="reflect"),
        out=[1, 256, 66, 66],
    ),
    "instance norm 256x64x64": _one(
        *("i", 1, 256, 64, 64),
        build=lambda n, x: n.op("InstanceNormalization", x, n.weight(256, fan_in=1), n.weight(256, fan_in=1)),
    ),
    "conv 128-64 3x3 80x80": _one("c", 1, 128, 80, 80, build=lambda n, x: n.conv(x, 128, 64, 3), out=[1, 64, 80, 80]),
    "depthwise 128x80x80": _one("d", 1, 128, 80, 80, build=lambda n, x: n.conv(x, 128, 128, 3, groups=128)),
    "conv 64-64 1x1 40x40": _one("c", 1, 64, 40, 40, build=lambda n, x: n.conv(x, 64, 64)),
    "conv 384-256 1x1 40x40": _one("c", 1, 384, 40, 40, build=lambda n, x: n.conv(x, 384, 256), out=[1, 256, 40, 40]),
    "split 256x40x40": _one(
        *("s", 1, 256, 40, 40),
        build=lambda n, x: n.many("Split", x, n.ints(128, 128), outputs=2, axis=1)[0],
        out=[1, 128, 40, 40],
    ),
    "add 256x20x20": _one("a", 1, 256, 20, 20, build=_binary("Add")),
    "sub of 8400": _one("s", 1, 84, 100, build=_binary("Sub")),
    "gather of 33600": _one(
        *("g", 1, 67200), build=lambda n, x: n.op("Gather", x, n.ints(*range(0, 67200, 2)), axis=1), out=[1, 33600]
    ),
    "reduce max 64x32x10000": _one(
        *("m", 1, 64, 32, 10000),
        build=lambda n, x: n.op("ReduceMax", x, axes=[2], keepdims=1),
        out=[1, 64, 1, 10000],
    ),
    "conv 10-64 1x1 32x10000": _one(
        "c", 1, 10, 32, 10000, build=lambda n, x: n.op("Relu", n.conv(x, 10, 64)), out=[1, 64, 32, 10000]
    ),
    "relu of 16": _one("r", 1, 16, build=lambda n, x: n.op("Relu", x)),
    "matmul of one row": _one("m", 1, 1024, build=lambda n, x: n.linear(x, 1024, 1024, bias=False)),
}

MODELS: Mapping[str, Build] = {
    "resnet50": resnet50,
    "resnet18": resnet18,
    "mobilenetv2": mobilenetv2,
    "yolov8n decoded": yolov8n,
    **ZOO,
    **_LAYERS,
}
"""What was measured, as shaped models."""

# FPS of the README as milliseconds, in the order of _ZOO_SOCS.
_ZOO_INT8: Mapping[str, tuple[float, float, float, float]] = {
    "resnet50": (26.4, 18.2, 9.1, 10.1),
    "mobilenetv2": (5.5, 3.6, 2.2, 2.1),
    "yolov5s": (51.8, 42.4, 20.7, 17.4),
    "yolov5s_relu": (39.2, 30.1, 15.1, 15.4),
    "yolov5m": (116, 93, 48, 42),
    "yolov6n": (20.5, 17.7, 9.4, 9.2),
    "yolov7_tiny": (35.8, 27.4, 13.8, 13.4),
    "yolov8n": (29.4, 24.4, 13.6, 11.1),
    "yolov8s": (66, 54, 26, 24.5),
    "yolov8m": (154, 122, 62, 60),
    "yolo11n": (48.5, 29.4, 16.7, 12.8),
    "yolo11m": (217, 154, 79, 69),
    "yolox_s": (66, 55, 27, 24),
}
_ZOO_FP16: Mapping[str, tuple[float, float, float, float]] = {
    "clip_image": (435, 294, 154, 149),
    "clip_text": (34, 15, 10, 16),
}


def _zoo(first: int, dtype: str, table: Mapping[str, tuple[float, ...]]) -> list[Record]:
    return [
        Record(row, _ZOO_SOURCE, name, name, soc, dtype, ms, fitted=True)
        for row, (name, times) in enumerate(table.items(), start=first)
        for soc, ms in zip(_ZOO_SOCS, times, strict=True)
    ]


_TABLE = "airockchip/rknn-toolkit2 #32, layer table"
_YOLOV10 = "airockchip/rknn-toolkit2 yolov10 #115, layer tables"

RECORDS: tuple[Record, ...] = (
    *_zoo(1, "int8", _ZOO_INT8),
    *_zoo(16, "fp16", _ZOO_FP16),
    Record(23, _TABLE, "Conv", "conv 256x64x64 3x3", "rk3588", "fp16", 4.24, layer=True, fitted=True),
    Record(23, _TABLE, "Relu", "relu 256x64x64", "rk3588", "fp16", 0.304, layer=True),
    Record(23, _TABLE, "Add", "add 256x64x64", "rk3588", "fp16", 0.494, layer=True),
    Record(23, _TABLE, "Pad on the CPU", "pad 256x64x64", "rk3588", "fp16", 2.83, fitted=True),
    Record(23, _TABLE, "InstanceNorm", "instance norm 256x64x64", "rk3588", "fp16", 13.5, fitted=True),
    Record(24, _YOLOV10, "Conv 3x3", "conv 128-64 3x3 80x80", "rk3588", "int8", 0.758, layer=True),
    Record(
        *(24, _YOLOV10, "depthwise", "depthwise 128x80x80", "rk3588", "int8", 0.703),
        layer=True,
        note="2 GB/s here; MobileNetV2 of record 2 leaves at most 1.5 ms for 17 of them: the rule follows it",
    ),
    Record(24, _YOLOV10, "Conv 1x1", "conv 64-64 1x1 40x40", "rk3588", "int8", 0.178, layer=True),
    Record(24, _YOLOV10, "Conv 1x1", "conv 384-256 1x1 40x40", "rk3588", "int8", 0.449, layer=True),
    Record(24, _YOLOV10, "Split", "split 256x40x40", "rk3588", "int8", 0.218, layer=True),
    Record(24, _YOLOV10, "Add", "add 256x20x20", "rk3588", "int8", 0.154, layer=True, fitted=True),
    Record(24, _YOLOV10, "Sub of 8400", "sub of 8400", "rk3588", "int8", 0.16, layer=True, fitted=True),
    Record(24, _YOLOV10, "Gather on the CPU", "gather of 33600", "rk3588", "int8", 2.57, fitted=True),
    Record(26, "rockchip-linux/rknn-toolkit2 #60", "ReduceMax", "reduce max 64x32x10000", "rk3588", "fp16", 139,
           fitted=True, note="a runtime of 2022"),
    Record(26, "rockchip-linux/rknn-toolkit2 #60", "ConvRelu", "conv 10-64 1x1 32x10000", "rk3588", "fp16", 3.87),
    Record(27, "rknn_model_zoo #167, C API", "MobileNetV2", "mobilenetv2", "rk3588", "int8", 2.65),
    Record(27, "rknn_model_zoo #167, C API", "YOLOv5s", "yolov5s", "rk3588", "int8", 17.5,
           note="a detector of 640x640, not named: YOLOv5s assumed"),
    Record(28, "wtwver/npu, rknn_benchmark", "one operator", "relu of 16", "rk3588", "fp16", 0.04, fitted=True,
           note="sizes are not told; the smallest of seven"),
    Record(29, "aurasuisui/rk3588-npu-bench", "YOLOv5s_relu", "yolov5s_relu", "rk3588", "int8", 15.98),
    Record(29, "aurasuisui/rk3588-npu-bench", "ResNet-18", "resnet18", "rk3588", "int8", 3.82),
    Record(30, "airockchip/rknn-toolkit2 #129", "YOLOv5s", "yolov5s", "rk3588", "int8", 27.5, note="runtime 2.1.0"),
    Record(33, "rockchip-linux/rknn-toolkit2 #370", "yolo11s", "yolo11s", "rk3576", "int8", 18,
           note="at 3 pictures a second; 31 at 25 a second"),
    Record(36, "rockchip-linux/rknn-toolkit2 #265", "matmul demo", "matmul of one row", "rk3588", "fp16", 0.21,
           note="10 GFLOP/s at a small M, not told: one row of 1024x1024 assumed"),
    Record(36, "rockchip-linux/rknn-toolkit2 #265", "matmul demo", "matmul of one row", "rk3588", "int8", 0.105,
           note="20 GFLOP/s, as above"),
)  # fmt: skip
"""All that can be compared."""

NOT_COMPARED: Mapping[str, str] = {
    "14-15, 18-22 (YOLOv10n, PP-YOLOE, MobileSAM, LPRNet, PPOCR-rec, lite-transformer, whisper)": "no shaped model of "
    "them here; whisper's is a factor of real time over a loop of unknown length",
    "25 (LSTM, Gather, exNorm, Elu)": "sizes are not told; Gather and LSTM run on the board's CPU",
    "31 (EfficientNet-Lite0, 7.9)": "a whole picture in Go, not rknn_run",
    "32 (20 in C, 300 in RKNNLite)": "the model is not told",
    "37 (supercombo, 40 to 110)": "the model is not told",
    "34, 35, 38-42, 44": "no times: layouts, sizes, errors, versions, clocks",
    "43 (MobileNetV1 on rocket, 10.8)": "another driver",
}  # fmt: skip
"""Rows without a time of known work, and why."""
