"""Which of the compiler's tensors stands for which ONNX value."""

from __future__ import annotations

from ort_rknn_converters.numerics.storage_map import owners


def test_names_are_appended_to_only() -> None:
    found = owners(["y", "y_mm", "y__float16", "y1_2rs", "y1", "z", "conv/y-rs"], ["y", "y1", "conv/y"])
    assert found == {"y": "y", "y_mm": "y", "y__float16": "y", "y1_2rs": "y1", "y1": "y1", "conv/y-rs": "conv/y"}
