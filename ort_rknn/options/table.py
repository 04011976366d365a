"""The provider options: one table, used by sessions, commands and docs.

Each option is a field of :class:`RknnOptions`; its metadata holds how it is read, where its default comes from and what
it does. The default itself is that of the class that uses the option (``ConvertOptions``, ``EngineOptions``,
``DeviceOptions``), where there is one. Every value may be a string, as onnxruntime's options are; the empty string
stands for the default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING
from importlib import import_module
from typing import Any, get_args

from ort_rknn.devices.settings import PRIORITIES, DeviceOptions
from ort_rknn.engine.lanes.schedule import parse_schedule, parse_tp_mode
from ort_rknn.engine.options import EngineOptions, Hint, Overflow
from ort_rknn.engine.sharing.board import Scope
from ort_rknn.errors import InvalidOption
from ort_rknn.options.parsers import (
    bits,
    choice,
    dim_map,
    flag,
    name_set,
    number,
    path_list,
    shape_lists,
    size,
    target_name,
    text,
    to_text,
    value_map,
    whole,
)
from ort_rknn.options.reading import read_values
from ort_rknn.options.rows import Option, option, unsaid, with_defaults
from ort_rknn_converters.util.frozen import frozen, rows_of

__all__ = ["OPTIONS", "Option", "RknnOptions", "make_provider_options"]

DEVICES = ("auto", "npu", "lite", "simulator", "toolkit", "cpu")


convert: Any = import_module("ort_rknn_converters.options")  # the table is read only where the NPU may be used
ConvertOptions = convert.ConvertOptions


@frozen
@with_defaults
class RknnOptions:
    """All provider options, read and checked. See each field's row in :data:`OPTIONS`."""

    device: str = option(
        "auto",
        choice(*DEVICES),
        "as other NPU runtimes do: the NPU where one works",
        "what executes the NPU parts; auto takes a working NPU, else the CPU",
        "ORT_RKNN_DEVICE",
    )
    target: str | None = option(
        DeviceOptions,
        target_name,
        "the board's own SoC, else rk3588 (most boards)",
        "SoC to compile for",
        "ORT_RKNN_TARGET",
    )
    precision: str = option(
        ConvertOptions,
        choice(*convert.PRECISIONS),
        "needs no calibration data",
        "how the NPU stores weights and activations",
    )
    calibration: str | None = option(
        ConvertOptions,
        text,
        "none: needed for int8 and w4a16",
        "folder of .npy, .npz or images, one such file, or a .txt that lists them",
    )
    calibration_limit: int = option(
        ConvertOptions, whole(1), "measured: ResNet-50 is no better with 50 than with 10", "calibration samples used"
    )
    preprocess: str = option(
        ConvertOptions,
        text,
        "the input's size, 0 to 1, RGB",
        "how calibration images become inputs: 224x224,mean=0,std=255,rgb,nchw",
    )
    quantized_algorithm: str = option(
        ConvertOptions,
        choice(*convert.ALGORITHMS, convert.KL),
        "the vendor's",
        "how ranges are found from the calibration",
    )
    quantized_method: str = option(
        ConvertOptions, text, "the vendor's", "weights that share a scale: channel, layer, or group (w4a16)"
    )
    max_loss: float | None = option(
        ConvertOptions,
        number(0),
        "none: whatever plain int8 gives",
        "error of int8 accepted; layers become fp16 until it holds",
    )
    metric: str = option(ConvertOptions, choice(*convert.METRICS), "the vendor's", "what max_loss means")
    shapes: Mapping[str, tuple[tuple[int, ...], ...]] = option(
        {},
        shape_lists,
        "the model's own",
        "shapes of inputs that the model leaves open; several of one input are compiled one by one",
    )
    dims: Mapping[str, int] = option(
        ConvertOptions, dim_map, "the model's own", "sizes of the model's symbolic dimensions"
    )
    values: Mapping[str, tuple[str, ...]] = option(
        {},
        value_map,
        "none",
        "values of inputs that are taken for constants: shapes and branches that hang on them become known; several of "
        "one input are compiled one by one; calls with other values run on the CPU",
    )
    disable_rules: frozenset[str] = option(
        ConvertOptions,
        name_set,
        "none",
        "graph rules of the toolkit that are switched off for the whole model, e.g. fuse_sigmoid_mul_to_exswish",
    )
    compile: str = option(
        "auto",
        choice("auto", "load", "background", "never"),
        "as onnxruntime, as far as no call has to wait",
        "what is not in the cache is compiled: load: when the session is made, or a new shape first comes; "
        "background: while the CPU answers; auto: background for open shapes, else load; never: not at all",
        "ORT_RKNN_COMPILE",
    )
    max_shapes: int = option(
        8,
        whole(1),
        "a guess: a job of seven pages feeds an OCR model 6 shapes (measured)",
        "shapes of one session that get NPU code; others run on the CPU",
    )
    min_gain: float = option(
        ConvertOptions,
        number(0),
        "the break-even",
        "estimated gain over the CPU a segment must have; 0 turns the cost rule off",
        "ORT_RKNN_MIN_GAIN",
    )
    strict_numbers: bool = option(
        False,
        flag,
        "a warning says by how much",
        "refuse a model that is off by more than the tolerance as a whole, numbers rounded as the NPU rounds them",
    )
    cache_dir: str | None = option(
        None, text, "ORT_RKNN_CACHE_DIR, else the user's cache directory", "folder of the compiled models"
    )
    cpu_ops: frozenset[str] = option(ConvertOptions, name_set, "none", "op types that stay on the CPU")
    cpu_nodes: frozenset[str] = option(ConvertOptions, name_set, "none", "names of nodes that stay on the CPU")
    optimization_level: int = option(ConvertOptions, whole(0), "the vendor's", "the toolkit's graph passes, 0 to 3")
    verify_feeds: int = option(
        ConvertOptions, whole(0), "a guess: one feed can be lucky", "random feeds every compiled segment is verified on"
    )
    max_memory: int = option(
        ConvertOptions, whole(0), "0: what the machine has free", "bytes of memory the compiler may take for a segment"
    )
    compile_timeout_s: float = option(
        ConvertOptions.timeout_s,
        number(1),
        "a guess: 5 s for 25 M weights on a PC",
        "seconds one segment's compilation may take",
    )
    jobs: int = option(
        ConvertOptions,
        whole(1),
        "each takes 8 times the weights in memory (measured)",
        "segments of one conversion to compile side by side",
    )
    schedule: tuple[int, ...] | None = option(
        EngineOptions,
        parse_schedule,
        "none: whatever core is free next",
        "core of each job in turn; doubles raise a core's share",
    )
    tp_mode: str | None = option(EngineOptions, parse_tp_mode, "none", "core mask all jobs run on together")
    threads_per_core: int | None = option(
        EngineOptions,
        whole(1),
        "1, as EZ RKNN Async; 2 with native lanes: measured",
        "contexts per core: with two, one transfers while the other computes",
    )
    max_queue_size: int = option(
        EngineOptions, whole(1), "as EZ RKNN Async", "jobs that may wait; the next submission blocks"
    )
    max_callback_queue_size: int = option(
        EngineOptions,
        whole(1),
        "as EZ RKNN Async, where it is fixed",
        "finished jobs that may wait for their callbacks",
    )
    submit_timeout_ms: int = option(EngineOptions, whole(0), "as EZ RKNN Async", "how long a submission waits for room")
    run_timeout_ms: int = option(
        EngineOptions, whole(0), "none: inference times differ by 1000", "how long an inference may take; 0 is for ever"
    )
    sequential_callbacks: bool = option(
        EngineOptions, flag, "as EZ RKNN Async", "deliver callbacks in submission order"
    )
    enable_pacing: bool = option(EngineOptions, flag, "as EZ RKNN Async", "space submissions evenly over the cores")
    disable_dup_context: bool = option(
        EngineOptions, flag, "as EZ RKNN Async", "load the weights once for each context"
    )
    overflow: str = option(
        EngineOptions,
        choice(*get_args(Overflow)),
        "as EZ RKNN Async, which always blocks",
        "what a submission does when the queue is full",
    )
    performance_hint: str = option(
        EngineOptions,
        choice(*get_args(Hint)),
        "as other NPU runtimes do",
        "latency: one context; throughput: all cores, two contexts each",
    )
    idle_unload_s: float = option(
        EngineOptions,
        number(0),
        "0: it stays",
        "seconds without a call after which NPU memory is given back until the next",
        "ORT_RKNN_IDLE_UNLOAD_S",
    )
    print_perf: bool | None = option(
        EngineOptions,
        flag,
        "as EZ RKNN Async: the environment variable ORT_RKNN_PRINT_PERF",
        "one line on stderr for each inference",
    )
    runtime_library: str | None = option(
        DeviceOptions, text, "the usual names and folders", "path of librknnrt", "ORT_RKNN_RUNTIME_LIBRARY"
    )
    priority: str = option(
        DeviceOptions,
        choice(*PRIORITIES),
        "all sessions are equal",
        "class among the sessions of this process: the highest that waits goes to the NPU first (medium: the vendor's "
        "word for normal). It is handed to the vendor's runtime, too, but the public driver never reads it",
    )
    reserve: int = option(
        EngineOptions,
        whole(0),
        "none: all cores for everybody",
        "cores kept free for sessions of priority high while this one is open; at most all but one",
    )
    arbiter: str = option(
        EngineOptions,
        choice(*get_args(Scope)),
        "no state outside the process",
        "whose sessions take turns: of this process, or of all programs of one IPC namespace that say machine",
        "ORT_RKNN_ARBITER",
    )
    sram: bool = option(DeviceOptions, flag, "the vendor's", "let the NPU keep internal tensors in the SoC's SRAM")
    share_sram: bool = option(
        DeviceOptions, flag, "the vendor's", "the same, with contexts using the same part of it one after the other"
    )
    collect_perf: bool = option(
        DeviceOptions,
        flag,
        "the vendor's",
        "have the runtime time every layer, for session.contexts(); slows inferences down",
    )
    init_flags: int = option(
        DeviceOptions,
        bits,
        "none",
        "more bits for rknn_init, by the vendor's header: for flags that have no option here",
    )
    share_weights: bool = option(
        DeviceOptions,
        flag,
        "sessions of one model load it once; not seen on a board",
        "take the weights from whatever session of this process has loaded the same compiled code; that one's context "
        "stays open as long as they are used; not with custom operators",
    )
    memory_budget: int | None = option(
        DeviceOptions,
        size,
        "the NPU's 4 GiB of addresses, or 80 % of the RAM (a guess) where that is less",
        "bytes of NPU memory that all sessions of this process may have (e.g. 2G; the least that one names): what is "
        "idle is closed before more is opened, and opens again at its next call",
        "ORT_RKNN_MEMORY_BUDGET",
    )
    custom_op_paths: tuple[str, ...] = option(
        DeviceOptions,
        path_list,
        "none",
        "libraries with custom operators for the NPU's runtime; weights are then not shared",
    )
    custom_op_default_path: bool = option(
        DeviceOptions, flag, "as EZ RKNN Async", "take the custom operators in /usr/lib/rknpu/op_plugins too"
    )
    half_inputs: bool = option(
        DeviceOptions,
        flag,
        "measured: half the bytes; not seen on a board",
        "hand float32 pictures to the NPU's runtime as the float16 it keeps, if it takes that",
    )
    layout: str = option(
        "original",
        choice("original", "nchw", "original_software", "nchw_software", "any"),
        "as EZ RKNN Async",
        "order of four-dimensional feeds: always the ONNX model's; the others are EZ RKNN Async's words for the same",
    )
    zero_copy_layout: str = option(
        "nhwc",
        choice("nhwc"),
        "as EZ RKNN Async",
        "order of four-dimensional inputs in memory that the NPU shares; an OrtValue's own layout= goes before it",
    )
    simulator_cores: int | None = option(
        DeviceOptions, whole(1), "the SoC's own number", "pretend cores of the simulator"
    )
    simulator_latency_ms: float = option(
        DeviceOptions, number(0), "none: as fast as it computes", "time one inference takes on a pretend core"
    )

    @classmethod
    def parse(cls, values: Mapping[Any, Any] | None = None) -> RknnOptions:
        """Read a user's options; what is not given comes from the environment, the configuration file, or the table.

        Args:
            values: Option name to value, a Python object or a string.

        Raises:
            InvalidOption: A name that does not exist (the known ones are listed), or a value that makes no sense, by
                itself or beside the others.
        """
        parsed = read_values(OPTIONS, values or {})
        options = cls(**parsed)
        options.engine_options()  # which knows what excludes what
        try:
            options.convert_options(**{} if options.target else {"target": convert.any_target(options.precision)})
        except RuntimeError as error:  # UnknownOption or CalibrationError of the converters
            raise InvalidOption(f"RKNNExecutionProvider options: {error}") from None
        return options

    def engine_options(self) -> EngineOptions:
        """The options of the engine.

        Raises:
            InvalidOption: Two of them exclude each other.
        """
        return EngineOptions(**self._values_of(EngineOptions))

    def device_options(self) -> DeviceOptions:
        """The options of the device."""
        return DeviceOptions(**self._values_of(DeviceOptions))

    def convert_options(self, **pinned: Any) -> Any:
        """The options of a conversion (:class:`ort_rknn_converters.options.ConvertOptions`), without shapes and values.

        Args:
            **pinned: What takes the place of a value of these options.
        """
        values = self._values_of(ConvertOptions)
        del values["shapes"], values["values"]  # several sets here, one there
        return ConvertOptions(**{**values, "timeout_s": self.compile_timeout_s, **pinned})

    def _values_of(self, user: Any) -> dict[str, Any]:
        return {name: getattr(self, name) for name in rows_of(user) if name in OPTIONS}

    def as_strings(self) -> dict[str, str]:
        """Every option as onnxruntime shows options; :meth:`parse` reads it back."""
        return {name: to_text(getattr(self, name)) for name in OPTIONS}


def _table() -> Iterator[Option]:
    for name, row in rows_of(RknnOptions).items():
        yield Option(name, default={} if row.default is MISSING else row.default, **row.metadata)


OPTIONS: dict[str, Option] = {row.name: row for row in _table()}


def make_provider_options(**options: Any) -> dict[str, str]:
    """Check provider options and return them as onnxruntime's string dictionary.

    Only what is given is returned, so that later defaults still apply.

    Example:
        >>> make_provider_options(schedule=[0, 1, 2], enable_pacing=True)
        {'schedule': '0,1,2', 'enable_pacing': '1'}

    Raises:
        InvalidOption: As :meth:`RknnOptions.parse`.
    """
    parsed = RknnOptions.parse(options)
    return {name: to_text(getattr(parsed, name)) for name in options if not unsaid(options[name])}
