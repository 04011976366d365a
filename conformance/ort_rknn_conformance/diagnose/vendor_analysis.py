"""The vendor's own view of where an error begins: rknn-toolkit2's accuracy analysis of each segment, on its simulator.

It stands beside what our cut-outs say. The vendor measures the layers that it made: one made of several nodes stands at
the node that it is named after, the others have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from ort_rknn_conformance.diagnose.probe import ProbeSession
from ort_rknn_converters.errors import ConvertError
from ort_rknn_converters.numerics.storage_map import owners
from ort_rknn_converters.toolkit.compile import AnalysedLayer, compile_segment
from ort_rknn_converters.toolkit.setup.environment import toolkit_version

__all__ = ["VendorError", "vendor_errors"]

VendorError = tuple[float, float]
"""Relative RMS error of a tensor: its layer alone, and with everything before it."""


def vendor_errors(
    bench: ProbeSession, segments: Iterable[Sequence[str]], exact: Sequence[Mapping[str, NDArray[Any]]]
) -> tuple[dict[str, VendorError], str]:
    """Ask for the analysis of each segment.

    Args:
        bench: The prepared model.
        segments: Node names of each segment.
        exact: What the tensors are; the first sample is analysed, all calibrate what is quantized.

    Returns:
        Value name -> errors, and why some or all are not to be had (empty when they are).
    """
    if toolkit_version() is None:
        return {}, "no toolkit here"
    found: dict[str, VendorError] = {}
    missing = ""
    for nodes in segments:
        request, names = bench.analysis_request(nodes, exact)
        try:
            rows = compile_segment(request).analysis
        except ConvertError as error:
            missing = str(error).partition("\n")[0]
            continue
        ops = {name: bench.op_type(node) for node in nodes for name in bench.outputs_of(node)}
        known = {name: names.get(name, name) for name in (*ops, *names)}
        owned = owners([row.tensor for row in rows], known)
        for row in rows:
            name = known.get(owned.get(row.tensor, ""), "")
            if row.alone is None or row.entire is None or not _same_layer(row, name, ops.get(name, "")):
                continue
            before = found.get(name, (0.0, 0.0))
            found[name] = (max(before[0], row.alone), max(before[1], row.entire))
    return found, missing


def _same_layer(row: AnalysedLayer, name: str, op_type: str) -> bool:
    """Whether a row is about this value: by its name, or with something appended that does not mean another place.

    The toolkit moves layers past each other and keeps names: ``b_sw`` is what was computed before ``b``.
    """
    return bool(name) and (row.op == op_type or "_sw" not in row.tensor[len(name) :])
