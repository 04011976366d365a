"""Where the emulated runtime answers otherwise than the vendor's librknnrt 1.6.0 on purpose, and why; and its versions.

tests/conformance/hardware/contract/test_ask.py holds every other answer against tests/data/librknnrt-1.6.0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """A kind of answer that differs.

    Attributes:
        pattern: Of what is said (a regular expression, from its beginning).
        reason: Why it may differ.
        models: Of the record, to which it applies; all when empty.
    """

    pattern: str
    reason: str
    models: tuple[str, ...] = ()

    def holds(self, model: str, said: str) -> bool:
        """Whether this answer may differ."""
        return re.match(self.pattern, said) is not None and (not self.models or model in self.models)


DELIBERATE = (
    Difference("SDK rc=0 api=", "the emulator says that it is one, so that no report of it passes for a board's"),
    Difference("(dup )?MEM_SIZE", "how the vendor counts weights, internal tensors and dma memory is not known"),
    Difference("PERF_RUN", "times, and before a run the garbage that lay in memory"),
    Difference(r"set_core_mask\(0\)", "the record's program had asked for a BOOL output again", ("types-npu_0",)),
    Difference(
        "init (truncated|32 bytes|model version 7)",
        "the model's file is somebody else's and not kept here: its inputs and outputs are told in text",
        ("mi",),
    ),
)
"""Answers that differ from the record, and why."""

BEYOND_THE_RECORD = (
    (
        "memory bound to an output below size_with_stride",
        "counted as overrun, not written: the vendor writes past it",
    ),
    (
        "a context used after rknn_destroy, but not to destroy",
        "ends the process, as the query does",
    ),
    ("rknn_destroy or rknn_destroy_mem twice", "counted as misuse: not seen at the vendor's"),
    ("conversions into float32, int32, int16, uint8 and BOOL", "a guess: no model with such tensors was asked"),
    ("four-dimensional inputs whose layout is not NHWC", "taken as NCHW: no model with such inputs was asked"),
    (
        "C1 of outputs on RK356x",
        "from the file's bytes; owners' logs show 32, 34, 34 for three heads of 255 channels",
    ),
    (
        "rknn_init of a model for another SoC",
        "-6, as all that ends in 'load model failed!': it was not recorded",
    ),
    ("a dynamic model's duplicate", "needs rknn_set_input_shapes of its own: that it inherits them was not seen"),
)
"""What the emulator does where the record says nothing, and why."""

VERSIONS = {
    "BOOL outputs": (
        "type 11, -n bytes, 'output dtype is undefine!', runs fail (-1)",
        "BOOL (9), runs",
        "toolkit 2.x writes such models; that its own runtimes run them is the vendor's documentation, not seen",
    ),
    "NCHW floats into an NHWC input": (
        "SIGSEGV",
        "'Meet unsupported src layout for normalize: NCHW, only support NHWC src layout!', not taken, 0",
        "2.3.0 on boards: airockchip/rknn-toolkit2 issues 258 and 304",
    ),
    "kernel driver 0.9.2": ("works", "rknn_init fails (its code was not told: -10 here)", "luckfox issue 328"),
}
"""What changes with EMU_RUNTIME: question -> (1.6.0, 2.3.2, source)."""
