"""The vendor's return codes with their names and what each means for the reader."""

from __future__ import annotations

__all__ = ["ERRORS"]

ERRORS: dict[int, tuple[str, str]] = {
    -1: ("RKNN_ERR_FAIL", "the call failed; the runtime's own log on stderr says more"),
    -2: ("RKNN_ERR_TIMEOUT", "the NPU did not answer in time"),
    -3: (
        "RKNN_ERR_DEVICE_UNAVAILABLE",
        "the NPU cannot be used (driver not loaded, or no permission on its device node)",
    ),
    -4: ("RKNN_ERR_MALLOC_FAIL", "no memory left for the NPU"),
    -5: ("RKNN_ERR_PARAM_INVALID", "an argument is not valid"),
    -6: ("RKNN_ERR_MODEL_INVALID", "the runtime does not accept this .rknn (damaged, or made by a newer toolkit)"),
    -7: ("RKNN_ERR_CTX_INVALID", "the context does not exist any more"),
    -8: ("RKNN_ERR_INPUT_INVALID", "an input's size, type or layout is not accepted"),
    -9: ("RKNN_ERR_OUTPUT_INVALID", "an output's size or type is not accepted"),
    -10: (
        "RKNN_ERR_DEVICE_UNMATCH",
        "the model and the device do not belong together; update the runtime and the driver",
    ),
    -11: ("RKNN_ERR_INCOMPATILE_PRE_COMPILE_MODEL", "the model is pre-compiled for another driver"),
    -12: (
        "RKNN_ERR_INCOMPATILE_OPTIMIZATION_LEVEL_VERSION",
        "the model's optimization level does not fit the driver's version",
    ),
    -13: ("RKNN_ERR_TARGET_PLATFORM_UNMATCH", "this is not for this SoC (a model for another one, or a core it lacks)"),
}
"""Return code -> (constant, sentence)."""
