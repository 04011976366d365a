"""Compiles a model without the toolkit's graph rule that fails on it.

The toolkit fuses and rearranges a model by some hundred rules before it compiles it. Some of them raise an IndexError
on ordinary models, seen with the box decoder of YOLOv8 (``seperate_conv_rs_split``) and with attention whose weights
stand on the right, as in YOLO11 (``fuse_exmatmul_add_mul_exsoftmax13_exmatmul_to_sdpa``); two undo each other without
end on a rotary embedding of rank 3. The toolkit then names the rule at work and the setting that turns it off.
"""

from __future__ import annotations

import re

from ort_rknn_converters.errors import ToolkitFailed
from ort_rknn_converters.toolkit.request import CompileRequest
from ort_rknn_converters.util.frozen import replace

__all__ = ["MOST_RULES", "without_broken_rule"]

MOST_RULES = 3
"""Rules that are switched off for one model at most. A guess: one was enough wherever it helped; each costs a
compilation, and where rules undo each other some 30 are named in turn (seen with a quantized MatMul)."""

_HINT = re.compile(r"You can add disable_rules=\['([^']+)'\] in rknn\.config")


def without_broken_rule(request: CompileRequest, error: ToolkitFailed) -> CompileRequest | None:
    """Returns the request without the rule that failed.

    Args:
        request: What could not be compiled.
        error: Why.

    Returns:
        ``None`` when no rule is to blame, or it was off already.
    """
    hints = _HINT.findall(error.log)
    off = list(request.options.get("disable_rules", ()))
    if error.kind != "refused" or not hints or hints[-1] in off:
        return None
    return replace(request, options={**request.options, "disable_rules": [*off, hints[-1]]})
