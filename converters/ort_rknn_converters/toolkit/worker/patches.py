"""Lets the toolkit need less time and memory for the same result: what it does twice, or for nothing, is left out.

Runs inside the toolkit's child process, like ``main.py`` beside it and with the same limits (Python 3.8 or newer).
Each of these was compared with the toolkit left alone; where a version of it lacks what is replaced, nothing happens.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
from typing import Any

LARGE = 1 << 20  # bytes: arrays from this size on go back to the system when they are freed
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
ROOM = 32 << 20  # bytes: glibc's own limit of blocks it keeps
COLLECT_AFTER = 50_000  # new objects: the toolkit makes millions, of which next to none are cycles


def give_memory_back() -> None:
    """Return freed memory to the system; the C library keeps it otherwise."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc
        libc.malloc_trim(0)


def collect_rarely() -> None:
    """Look for cycles less often, and never among the modules. Measured: 5 % of a build's time, no more memory."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 20)


def load() -> None:
    """Spare two passes over all weights at loading, and memory at saving.

    Ours is a checked model, and types do not depend on weights. Measured on ResNet-50: 0.6 s of 4.
    """
    import onnx
    import onnx.checker
    import onnx.shape_inference

    infer = onnx.shape_inference.infer_shapes

    def infer_lightly(model: Any, *args: Any, **kwargs: Any) -> Any:
        initializers = getattr(getattr(model, "graph", None), "initializer", ())
        heavy = [tensor for tensor in initializers if len(tensor.raw_data) > LARGE]
        if not heavy:
            return infer(model, *args, **kwargs)
        light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
        light.graph.name = model.graph.name
        for kind in ("node", "input", "output", "value_info"):
            getattr(light.graph, kind).extend(getattr(model.graph, kind))
        light.graph.initializer.extend(tensor for tensor in initializers if len(tensor.raw_data) <= LARGE)
        for tensor in heavy:
            light.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        inferred = infer(light, *args, **kwargs)
        for kind in ("output", "value_info"):
            del getattr(model.graph, kind)[:]
            getattr(model.graph, kind).extend(getattr(inferred.graph, kind))
        return model

    save = onnx.save_model

    def save_with_room(*args: Any, **kwargs: Any) -> Any:
        # The model is serialized for the compiler: the moment at which a build needs most.
        give_memory_back()
        return save(*args, **kwargs)

    onnx.save = onnx.save_model = save_with_room
    onnx.checker.check_model = lambda *_, **__: None
    onnx.shape_inference.infer_shapes = infer_lightly


def build() -> None:
    """Spare what building does for nothing.

    That is the look at every channel of every weight for sparsity that is not to be used (measured: a fifth of
    ResNet-50's build), and the threads of the sessions that fold one constant each.
    """
    _sessions(threads=1)
    try:
        optimizer = importlib.import_module("rknn.api.graph_optimizer").GraphOptimizer
        look = optimizer.sparse_weight
    except (ImportError, AttributeError):
        return

    def look_if_asked(self: Any, sparse_infer: Any = False, *args: Any, **kwargs: Any) -> Any:
        return look(self, sparse_infer, *args, **kwargs) if sparse_infer is not False else False

    optimizer.sparse_weight = look_if_asked


def simulate() -> None:
    """Let the simulator need no more memory than the build did, in the same process.

    It makes one onnxruntime session a node, each of which keeps an arena as large as its outputs. Measured on
    YOLOv8n: 450 MB without this, 235 MB with it, which is what the build alone takes.
    """
    _sessions()
    _keep_free(0, LARGE)
    give_memory_back()


def simulate_beside() -> None:
    """Prepares a process that simulates and has not built: it may keep what it frees for the next layer.

    Measured on YOLOv8n: 0.3 s of 1.0 s of CPU, and 210 MB instead of 160 MB.
    """
    _sessions(max(1, (os.cpu_count() or 1) - 1))  # the compiler has one core
    _keep_free(2 * ROOM, ROOM)
    give_memory_back()


def _keep_free(together: int, each: int) -> None:
    """Let the C library keep freed memory, up to so many bytes at the end of its heap, in blocks up to a size."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc
        libc.mallopt(M_MMAP_THRESHOLD, each)
        if together:
            libc.mallopt(M_TRIM_THRESHOLD, together)


def restore_sessions() -> None:
    """From now on, onnxruntime's sessions are as they are without us."""
    import onnxruntime

    onnxruntime.InferenceSession = getattr(onnxruntime.InferenceSession, "real", onnxruntime.InferenceSession)


def _sessions(threads: int = 0) -> None:
    """From now on, onnxruntime's sessions have so many threads (0: what it chooses), which sleep, and no arena.

    The simulator has a session a layer. With two threads each, which wait busily for the next layer, int8 MobileNetV2
    took over 260 s for 60 feeds on two cores; without them a whole conversion with a promised accuracy takes 17 s.
    """
    import onnxruntime

    restore_sessions()
    real = onnxruntime.InferenceSession

    class Lean(real):  # type: ignore[misc, valid-type]
        def __init__(self, model: Any, sess_options: Any = None, *args: Any, **kwargs: Any) -> None:
            options = sess_options or onnxruntime.SessionOptions()
            options.enable_cpu_mem_arena = False
            options.intra_op_num_threads = threads
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            super().__init__(model, options, *args, **kwargs)

    Lean.real = real
    onnxruntime.InferenceSession = Lean
