"""What was learned about single nodes is kept, and only used where it holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper
from onnx.parser import parse_graph

from ort_rknn_converters.compile.known_failures import KnownFailures, signature
from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.util.user_dirs import KNOWN_FAILURES
from ort_rknn_converters.version import CONVERTER
from tests.helpers.threads import together


def model(
    body: str = "y = Softmax <axis = 1> (x)", shape: str = "2,8", opset: int = 17, **weights: np.ndarray
) -> ir.Model:
    parsed = parse_graph(f"g (float[{shape}] x) => (float[{shape}] y) {{ {body} }}")
    for number, node in enumerate(parsed.node):
        node.name = f"n{number}"
    parsed.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return onnx_graph.load(helper.make_model(parsed, opset_imports=[helper.make_opsetid("", opset)], ir_version=8))


def first(found: ir.Model) -> str:
    return signature(next(iter(found.graph)), found)


OPTIONS = ConvertOptions()


class TestSignature:
    def test_names_do_not_count(self) -> None:
        other = model()
        next(iter(other.graph)).name = "else"
        other.graph.inputs[0].name = "z"
        assert first(model()) == first(other)

    @pytest.mark.parametrize(
        "other",
        [
            model("y = Softmax <axis = 0> (x)"),
            model("y = Softmax (x)"),
            model("y = LogSoftmax <axis = 1> (x)"),
            model(shape="2,9"),
            model(opset=13),
        ],
    )
    def test_all_else_does(self, other: ir.Model) -> None:
        assert first(model()) != first(other)

    def test_small_constants_count_and_weights_do_not(self) -> None:
        def scaled(size: int, value: float) -> str:
            return first(model("y = Mul (x, w)", "1,100", w=np.full((1, size), value, np.float32)))

        assert scaled(1, 1) != scaled(1, 2)
        assert scaled(100, 1) == scaled(100, 2)
        assert scaled(1, 1) != scaled(100, 1)


class TestFile:
    def test_remembered_for_the_same_soc_and_toolkit_only(self, tmp_path: Path) -> None:
        KnownFailures(tmp_path, OPTIONS, "2.5.0").remember(model(), {"n0": "it crashes", "n9": "unknown"}, {"n0", "n9"})
        assert KnownFailures(tmp_path, OPTIONS, "2.5.0").recall(model()) == {"n0": "it crashes"}
        assert KnownFailures(tmp_path, OPTIONS, "2.6.0").recall(model()) == {}
        assert KnownFailures(tmp_path, OPTIONS, None).recall(model()) == {}
        assert KnownFailures(tmp_path, ConvertOptions(target="rk3566"), "2.5.0").recall(model()) == {}

    def test_a_new_converter_may_do_what_the_old_one_could_not(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        KnownFailures(tmp_path, OPTIONS, "2.5.0").remember(model(), {"n0": "it crashes"}, {"n0"})
        monkeypatch.setattr("ort_rknn_converters.compile.known_failures.CONVERTER", CONVERTER + 1)
        assert KnownFailures(tmp_path, OPTIONS, "2.5.0").recall(model()) == {}

    def test_only_the_certain_ones(self, tmp_path: Path) -> None:
        KnownFailures(tmp_path, OPTIONS, "2.5.0").remember(model(), {"n0": "perhaps"}, ())
        assert not (tmp_path / KNOWN_FAILURES).exists()

    def test_it_grows(self, tmp_path: Path) -> None:
        known_failures = KnownFailures(tmp_path / "new" / "folder", OPTIONS, "2.5.0")
        known_failures.remember(model(), {"n0": "one"}, {"n0"})
        known_failures.remember(model(shape="3,3"), {"n0": "two"}, {"n0"})
        assert known_failures.recall(model()) == {"n0": "one"}
        assert known_failures.recall(model(shape="3,3")) == {"n0": "two"}

    def test_many_writers_lose_nothing(self, tmp_path: Path) -> None:
        def write(number: int) -> None:
            KnownFailures(tmp_path, OPTIONS, "2.5.0").remember(model(shape=f"1,{number}"), {"n0": "x"}, {"n0"})

        together(write, range(1, 9))
        assert (
            len(json.loads((tmp_path / KNOWN_FAILURES).read_text())["2.5.0"][f"rk3588/fp16/3/converter {CONVERTER}"])
            == 8
        )

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 99}', '{"format": 1, "2.5.0": 3}'])
    def test_a_damaged_file_is_an_empty_one(self, tmp_path: Path, text: str) -> None:
        (tmp_path / KNOWN_FAILURES).write_text(text)
        known_failures = KnownFailures(tmp_path, OPTIONS, "2.5.0")
        assert known_failures.recall(model()) == {}
        known_failures.remember(model(), {"n0": "x"}, {"n0"})

    def test_no_folder_is_no_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for place in (None, tmp_path / "file"):
            known_failures = KnownFailures(place, OPTIONS, "2.5.0")
            known_failures.remember(model(), {"n0": "x"}, {"n0"})
            assert known_failures.recall(model()) == {}
