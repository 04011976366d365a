"""The reader of ``.rknn`` files, on real files of each form the toolkit writes."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from ort_rknn_converters.errors import CompiledModelError
from ort_rknn_converters.rknn_format import reader
from ort_rknn_converters.rknn_format.values import RknnFile
from ort_rknn_converters.targets import TARGETS

FOLDER = Path(__file__).resolve().parents[2] / "data" / "rknn"
FILES = sorted(FOLDER.glob("*.rknn"))


def load(name: str) -> RknnFile:
    return reader.read_rknn(FOLDER / f"{name}.rknn")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_form_is_read(path: Path) -> None:
    found = reader.read_rknn(path)
    assert found.target == path.stem.rsplit("_", 1)[1]
    assert found.toolkit_version == "2.5.0"
    assert found.size == path.stat().st_size
    assert found.inputs
    assert all(value.name and value.dims for value in found.inputs + found.outputs)
    if found.problem:
        assert found.format_version == 0x1004
        assert "not in the form" in found.problem
    else:
        assert found.compiler.startswith("2.5.0 (")
        assert found.framework == "ONNX"
        family = TARGETS[found.target].family
        assert found.family == family or family == "mini"


@pytest.mark.parametrize("target", ["rk3562", "rk3576", "rv1126b"])
def test_nodes_and_where_they_run(target: str) -> None:
    found = load(f"formats_fp16_{target}")
    places = {node.op_type: node.placement for node in found.nodes if not node.op_type.endswith("Operator")}
    assert places == {"ConvRelu": "NPU", "Exp": "CPU"}
    conv = next(node for node in found.nodes if node.op_type == "ConvRelu")
    assert conv.inputs[:2] == ("image", "w")
    assert conv.outputs == ("features",)
    assert found.custom_string == "größer"
    weights = found.tensors["w"]
    assert (weights.dims, weights.dtype, weights.kind) == ((4, 3, 1, 1), "float16", "constant")
    assert not found.dynamic


def test_inputs_and_outputs_of_fp16() -> None:
    (image,) = load("image_fp16_rk3588").inputs
    assert (image.name, image.dims, image.dtype, image.device_dtype) == ("x", (1, 3, 6, 5), "float32", "float16")
    assert (image.layout, image.index, image.quantization) == ("NHWC", 0, None)
    y, z = load("image_fp16_rk3588").outputs
    assert (y.name, y.layout, y.dims, z.name, z.dims) == ("y", "NCHW", (1, 4, 6, 5), "z", (1, 4))


def test_integers_keep_their_dtype() -> None:
    found = load("tokens_fp16_rk3588")
    assert [(value.name, value.dtype, value.device_dtype, value.layout) for value in found.inputs] == [
        ("ids", "int64", "int64", "UNDEFINED"),
        ("bias", "float32", "float16", "UNDEFINED"),
    ]
    assert [(value.name, value.dtype) for value in found.outputs] == [("h", "float32"), ("best", "int64")]


def test_scales_of_int8() -> None:
    found = load("image_int8_rk3588")
    (image,) = found.inputs
    assert image.device_dtype == "int8"
    assert image.quantization is not None
    (scale,), (zero,) = image.quantization.scale, image.quantization.zero_point
    (low,), (high,) = image.quantization.minimum, image.quantization.maximum
    assert scale == pytest.approx((high - low) / 255, rel=1e-4)
    assert zero == pytest.approx(-128 - low / scale, abs=1)
    assert found.tensors["x"].quantization == image.quantization
    assert all(tensor.quantization is None for tensor in load("image_fp16_rk3588").tensors.values())


def test_several_sets_of_shapes() -> None:
    found = load("formats_dynamic_rk3588")
    assert found.dynamic
    assert len(found.subgraphs) == 2
    assert found.inputs[0].dims == (2, 3, 4, 4)
    assert found.inputs[0].shapes == ((2, 3, 4, 4), (1, 3, 4, 4))
    assert found.outputs[1].shapes == ((2, 4, 4, 4), (1, 4, 4, 4))


def test_the_mini_format_falls_back_to_the_description_behind_it() -> None:
    found = load("formats_int8_rv1106")
    assert found.problem
    assert found.nodes == ()
    assert [(value.name, value.dims, value.device_dtype) for value in found.inputs] == [("image", (1, 3, 4, 4), "int8")]
    assert [value.name for value in found.outputs] == ["features", "grown"]
    assert load("formats_dynamic_rv1106").nodes


def test_bytes_are_as_good_as_a_path() -> None:
    path = FOLDER / "tokens_fp16_rk3588.rknn"
    assert reader.read_rknn(path.read_bytes()) == reader.read_rknn(str(path))
    assert reader.is_rknn(path.read_bytes()[:8])
    assert not reader.is_rknn(b"\x08\x08\x12\x07onnx")


def test_a_damaged_graph_falls_back() -> None:
    data = bytearray((FOLDER / "image_fp16_rk3588.rknn").read_bytes())
    data[64:68] = b"\xff\xff\xff\x7f"  # the FlatBuffer's root offset
    found = reader.read_rknn(bytes(data))
    assert "an offset leads to" in found.problem
    assert [value.name for value in found.outputs] == ["y", "z"]


def test_a_damaged_description_is_not_needed() -> None:
    data = (FOLDER / "image_fp16_rk3588.rknn").read_bytes()
    (length,) = struct.unpack_from("<Q", data, 16)
    found = reader.read_rknn(data[: 64 + length + 100])
    assert found.nodes
    assert found.target == "rk3588"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a .rknn file"),
        (b"\x08\x08\x12\x07onnx-ml", "not a .rknn file"),
        (b"RKNN\0\0\0\0\x06", "cut off after 9 bytes"),
        ((FOLDER / "image_fp16_rk3588.rknn").read_bytes()[:5000], "cut off"),
        (b"RKNN\0\0\0\0" + b"\xff" * 80, "damaged"),
    ],
)
def test_says_what_is_wrong(data: bytes, words: str) -> None:
    with pytest.raises(CompiledModelError, match=words):
        reader.read_rknn(data)


def test_missing_file() -> None:
    with pytest.raises(FileNotFoundError):
        reader.read_rknn("/nowhere/model.rknn")
