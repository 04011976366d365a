"""Takes weights off the list of inputs where the format's version says that nobody may feed them."""

from __future__ import annotations

import onnx_ir as ir

from ort_rknn_converters import graph as graphs
from ort_rknn_converters.passes.base import Context, Pass

__all__ = ["ListedConstants"]

_FIRST_WITH_DEFAULTS = 4


class ListedConstants(Pass):
    """Before IR version 4 every initializer had to be listed as an input; onnxruntime takes those for constants.

    Since version 4 a listed one is the default of an input that the caller may feed: it stays, and is no constant.
    """

    name = "listed-constants"

    def apply(self, model: ir.Model, ctx: Context) -> tuple[str, ...]:
        """The IR version is raised where the list was shortened."""
        graph = model.graph
        listed = [value for value in graph.inputs if value.is_initializer()]
        if not listed:
            return ()
        count = graphs.many(len(listed), "weight")
        if model.ir_version >= _FIRST_WITH_DEFAULTS:
            return (f"{count} listed as inputs: callers may feed them, so they are not taken for constants",)
        fed = [value for value in graph.inputs if not value.is_initializer()]
        graph.inputs.clear()
        graph.inputs.extend(fed)
        model.ir_version = _FIRST_WITH_DEFAULTS
        return (f"{count} listed as inputs made constants",)
