"""Values beyond fp16's range: which nodes of a part reach them on its feeds, and which might on others.

Where the overflow is seen in no output on these feeds the comparison passes, and other inputs would be answered
wrongly without a word. So such nodes go to the CPU, whatever the comparison says, and those that come near with them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ort_rknn_converters.onnx_file.tensor_types import FP16_MAX
from ort_rknn_converters.op_support.fp16_range import out_of_range, way_to_softmax

__all__ = ["MARGIN", "entering_peaks", "overflows", "possible_overflows"]

_LIMIT = f"beyond fp16's {FP16_MAX:.0f}"

MARGIN = 4.0
"""How much larger real values may be than those of random feeds; a guess (measured: 2.1, Magika's second LayerNorm)."""


def entering_peaks(feeds: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, float]:
    """Largest finite magnitude of each floating input over all feeds."""
    peaks: dict[str, float] = {}
    for feed in feeds:
        for name, array in feed.items():
            if np.asarray(array).dtype.kind == "f":
                size = np.abs(array, dtype=np.float64)
                peaks[name] = max(peaks.get(name, 0.0), float(size.max(initial=0.0, where=np.isfinite(size))))
    return peaks


def overflows(graph: Iterable[ir.Node], members: Sequence[ir.Node], peaks: Mapping[str, float]) -> dict[str, str]:
    """The nodes that cannot compute in fp16 what they compute in float32, or might not on other feeds, with the reason.

    Infinities do not count, fp16 has them; neither does a mask on its way to a Softmax, where any large number does.

    Args:
        graph: All nodes of the model: a mask may be made outside of the part.
        members: Those of the part.
        peaks: Largest magnitude of the floating tensors in the part and entering it, by name.
    """
    over = {name for name, peak in peaks.items() if FP16_MAX / MARGIN < peak < math.inf}
    if not over:
        return {}
    masks = {user for node in graph if out_of_range(node) for user in way_to_softmax(node) or ()}
    found: dict[str, str] = {}
    for node in members:
        if node in masks:
            continue
        made = [peaks[v.name] for v in node.outputs if v.name in over]
        read = [v.name for v in node.inputs if v is not None and v.name in over]
        if made:
            found[node.name or ""] = f"its values reach {max(made):.2g}, {_where(max(made))}"
        elif read:
            found[node.name or ""] = f"its input {read[0]} reaches {peaks[read[0]]:.2g}, {_where(peaks[read[0]])}"
    return found


def _where(peak: float) -> str:
    return _LIMIT if peak > FP16_MAX else f"on other inputs perhaps {_LIMIT}"


def possible_overflows(members: Sequence[ir.Node], peaks: Mapping[str, float]) -> Iterator[str]:
    """A sentence for each sum that stayed inside fp16's range but need not: were all it adds as large as the largest.

    Args:
        members: The nodes of the part.
        peaks: As for :func:`overflows`.
    """
    for node in members:
        read, made = (node.inputs[0] if node.inputs else None), node.outputs[0]
        if node.op_type != "ReduceSum" or read is None or read.shape is None or made.shape is None:
            continue
        whole, kept = ([d for d in shape if isinstance(d, int)] for shape in (read.shape, made.shape))
        if len(whole) != len(read.shape) or len(kept) != len(made.shape) or not math.prod(kept):
            continue
        count, largest = math.prod(whole) // math.prod(kept), peaks.get(read.name or "", 0.0)
        if peaks.get(made.name or "", math.inf) <= FP16_MAX < count * largest < math.inf:
            yield (
                f"{node.op_type} {node.name}: {made.name} adds {count} values of up to {largest:.3g}; that might reach "
                f"{count * largest:.2g}, {_LIMIT}, on other inputs"
            )
