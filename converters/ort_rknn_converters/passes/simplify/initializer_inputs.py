"""Takes weights off the list of inputs."""

from __future__ import annotations

import onnx_ir as ir

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.passes.base import Context, Pass

__all__ = ["ListedConstants"]

_FIRST_UNLISTED = 4


class ListedConstants(Pass):
    """Before IR version 4 every initializer had to be listed as an input; exporters of old still do so.

    Since version 4 a listed one is the default of an input that the caller may feed. Here it is a constant all the
    same, because the NPU has to have its weights; the compiled model's stub keeps the declaration.
    """

    name = "listed-constants"

    def apply(self, model: ir.Model, ctx: Context) -> tuple[str, ...]:
        """The IR version is raised where an older one demands the list."""
        graph = model.graph
        fed = [value for value in graph.inputs if not value.is_initializer()]
        listed = len(graph.inputs) - len(fed)
        if not listed:
            return ()
        graph.inputs.clear()
        graph.inputs.extend(fed)
        model.ir_version = max(_FIRST_UNLISTED, model.ir_version)
        return (f"{onnx_graph.many(listed, 'weight')} listed as inputs made constants",)
