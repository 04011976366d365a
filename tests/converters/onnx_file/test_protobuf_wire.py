"""Telling a compiled model from any other file without parsing it."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import TensorProto, helper

from ort_rknn_converters.compiled.model import is_compiled
from ort_rknn_converters.onnx_file import protobuf_wire
from tests.helpers.compiled_models import contexts, original, sample, set_attribute


class TestIsCompiled:
    def test_ours(self, tmp_path: Path) -> None:
        sample().save(tmp_path / "m.onnx")
        assert is_compiled(tmp_path / "m.onnx")
        assert is_compiled(str(tmp_path / "m.onnx"))
        assert is_compiled(sample().to_bytes())

    def test_others(self, tmp_path: Path) -> None:
        assert not is_compiled(original().SerializeToString())
        foreign = sample().to_onnx()
        for node in contexts(foreign):
            set_attribute(node, "source", "QNN")
        del foreign.metadata_props[:]
        assert not is_compiled(foreign.SerializeToString())

    @pytest.mark.parametrize(
        "data", [b"", b"\x00" * 50, b"\xff" * 50, b"RKNN\0\0\0\0", b"EPContext RKNNExecutionProvider"]
    )
    def test_no_onnx_at_all(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "m.onnx").write_bytes(data)
        assert not is_compiled(tmp_path / "m.onnx")
        assert not is_compiled(data)

    def test_a_file_cut_anywhere_gets_an_answer(self) -> None:
        data = sample().to_bytes()
        answers = [is_compiled(data[:length]) for length in range(0, len(data), 997)]
        assert {type(answer) for answer in answers} == {bool}
        assert not answers[0]

    def test_a_node_or_the_metadata_is_enough(self) -> None:
        no_metadata, no_node = sample().to_onnx(), sample().to_onnx()
        del no_metadata.metadata_props[:]
        del no_node.graph.node[:]
        assert is_compiled(no_metadata.SerializeToString())
        assert is_compiled(no_node.SerializeToString())

    def test_the_alias_counts(self) -> None:
        model = sample().to_onnx()
        del model.metadata_props[:]
        set_attribute(contexts(model)[0], "source", "RKNPU2ExecutionProvider")
        assert is_compiled(model.SerializeToString())

    def test_weights_are_not_read(self) -> None:
        """A hundred megabytes of weights cost nothing: the walk steps over them."""
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], [])
        graph.initializer.append(TensorProto(name="w", data_type=1, dims=[1], raw_data=bytes(4)))
        head = helper.make_model(graph).SerializeToString()
        steps: list[int] = []

        class Counted(bytes):
            def __getitem__(self, key: object) -> object:
                steps.append(1)
                return super().__getitem__(key)  # type: ignore[call-overload]

        protobuf_wire._scan(Counted(head))
        small = len(steps)
        graph.initializer[0].raw_data = bytes(10_000_000)
        steps.clear()
        protobuf_wire._scan(Counted(helper.make_model(graph).SerializeToString()))
        assert len(steps) < small + 20

    def test_no_such_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            is_compiled(tmp_path / "none.onnx")
