"""A stand-in for the toolkit's child process that fails on demand, as the real one does.

It "compiles" by running the lowered model on onnxruntime, so what follows a failure is tested in milliseconds.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from ort_rknn_converters.errors import ToolkitFailed
from ort_rknn_converters.toolkit.compile import CompileRequest, CompileResult, LayerRow

VERSION = "2.5.0"
OVERFLOW = (
    "REGTASK: The bit width of field value exceeds the limit, target: v2, offset: 0x4030, shift = 0, limit: 0x1fff,"
    " value: 0x20cf"
)


def counting(folder: Path, seconds: float = 0.0) -> Callable[..., CompileResult]:
    """A toolkit that leaves one file in ``folder`` per compilation, so that several processes can be counted."""
    toolkit = ScriptedToolkit()

    def compile(request: CompileRequest, **options: Any) -> CompileResult:
        (folder / f"{os.getpid()}-{time.monotonic_ns()}").touch()
        time.sleep(seconds)
        return toolkit(request, **options)

    return compile


@dataclass
class ScriptedToolkit:
    """Callable as :func:`ort_rknn_converters.toolkit.compile.compile_segment`.

    Attributes:
        crashes: Op types that crash it.
        refuses: Op types it refuses, with its message.
        wrong: Op types whose presence makes the result wrong.
        pairs: Pairs of op types that crash it only when both are there.
        unlowered: Op types without lowering.
        overflows: Op types whose sizes do not fit the NPU's registers.
        on_cpu: Op type -> what the layer table calls it, on the CPU.
        fails_with: What every compilation raises.
        requests: What it was asked to compile.
    """

    crashes: frozenset[str] = frozenset()
    refuses: dict[str, str] = field(default_factory=dict)
    wrong: frozenset[str] = frozenset()
    pairs: tuple[tuple[str, str], ...] = ()
    unlowered: frozenset[str] = frozenset()
    overflows: frozenset[str] = frozenset()
    on_cpu: dict[str, str] = field(default_factory=dict)
    fails_with: BaseException | None = None
    requests: list[CompileRequest] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: CompileRequest, **_: Any) -> CompileResult:
        with self._lock:
            self.requests.append(request)
        if self.fails_with is not None:
            raise self.fails_with
        model = onnx.ModelProto.FromString(request.model)
        ops = {node.op_type for node in model.graph.node}
        if ops & self.crashes or any({one, other} <= ops for one, other in self.pairs):
            raise ToolkitFailed("the toolkit crashed during build (SIGSEGV)", kind="crashed")
        for op in sorted(ops & set(self.refuses)):
            raise ToolkitFailed(self.refuses[op], kind="refused")
        return CompileResult(
            rknn=b"RKNN" + hashlib.sha256(request.model).digest(),
            outputs=self._answers(request, spoil=bool(ops & self.wrong)),
            seconds={"total": 0.01},
            peak_rss=1,
            log="",
            layers=tuple(
                self._row(number, node) for number, node in enumerate(model.graph.node) if node.op_type in self.on_cpu
            ),
            no_lowering=tuple((n.output[0], n.op_type) for n in model.graph.node if n.op_type in self.unlowered),
            toolkit_version=VERSION,
            errors=(OVERFLOW,) if ops & self.overflows else (),
        )

    def _answers(self, request: CompileRequest, *, spoil: bool) -> tuple[dict[str, np.ndarray], ...]:
        session = ort.InferenceSession(request.model)
        names = [output.name for output in session.get_outputs()]
        answers = []
        for feed in request.feeds:
            values = [np.asarray(value) for value in session.run(names, dict(feed))]
            if spoil:
                values = [value * 2 if value.dtype.kind == "f" else value for value in values]
            answers.append(dict(zip(names, values, strict=True)))
        return tuple(answers)

    def _row(self, number: int, node: onnx.NodeProto) -> LayerRow:
        name = f"{node.op_type}:{node.output[0]}_2rs"
        return LayerRow(number, self.on_cpu[node.op_type], "FLOAT16", "CPU", name, "", "", (0, 0, 0), 0.0)
