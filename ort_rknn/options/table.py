"""The provider options: one table, used by sessions, commands and docs.

Each option is a field of :class:`RknnOptions`; its metadata holds how it is read, where its default comes from and what
it does. Every value may be a string, as onnxruntime's options are; the empty string stands for the default.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, field, fields
from typing import Any

from ort_rknn.errors import InvalidOption
from ort_rknn.options.config_file import read_config
from ort_rknn.options.parsers import (
    Parser,
    bits,
    choice,
    dim_map,
    flag,
    name_set,
    number,
    path_list,
    shape_lists,
    text,
    to_text,
    whole,
)
from ort_rknn_converters.util.frozen import frozen

__all__ = ["OPTIONS", "Option", "RknnOptions", "make_provider_options"]

DEVICES = ("auto", "npu", "lite", "simulator", "toolkit", "cpu")


@frozen
class Option:
    """One row of the table.

    Attributes:
        name: The option's key.
        parse: Reads a user's value.
        default: The value when nothing is said.
        source: Where the default comes from.
        doc: What it does, in one line.
        env: Environment variable that gives the default, or ``""``.
    """

    name: str
    parse: Parser
    default: Any
    source: str
    doc: str
    env: str = ""


def _option(default: Any, parse: Parser, source: str, doc: str, env: str = "") -> Any:
    meta = {"parse": parse, "source": source, "doc": doc, "env": env}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=meta)
    return field(default=default, metadata=meta)


def _target(value: Any) -> str:
    from ort_rknn_converters.targets import find_target

    return find_target(str(value)).name


def _schedule(value: Any) -> tuple[int, ...]:
    from ort_rknn.engine.lanes.schedule import parse_schedule

    return parse_schedule(value)


def _tp_mode(value: Any) -> str:
    from ort_rknn.engine.lanes.schedule import parse_tp_mode

    return parse_tp_mode(value)


@frozen
class RknnOptions:
    """All provider options, read and checked. See each field's row in :data:`OPTIONS`."""

    device: str = _option(
        "auto",
        choice(*DEVICES),
        "as other NPU runtimes do: the NPU where one works",
        "what executes the NPU parts; auto takes a working NPU, else the CPU",
        "ORT_RKNN_DEVICE",
    )
    target: str | None = _option(
        None,
        _target,
        "the board's own SoC, else rk3588 (most boards)",
        "SoC to compile for",
        "ORT_RKNN_TARGET",
    )
    precision: str = _option(
        "fp16",
        choice("fp16", "int8", "w4a16"),
        "needs no calibration data",
        "how the NPU stores weights and activations",
    )
    calibration: str | None = _option(
        None,
        text,
        "none: needed for int8 and w4a16",
        "folder of .npy, .npz or images, one such file, or a .txt that lists them",
    )
    preprocess: str = _option(
        "",
        text,
        "the input's size, 0 to 1, RGB",
        "how calibration images become inputs: 224x224,mean=0,std=255,rgb,nchw",
    )
    quantized_algorithm: str = _option(
        "normal",
        choice("normal", "mmse", "kl_divergence", "kl"),
        "the vendor's",
        "how ranges are found from the calibration",
    )
    quantized_method: str = _option(
        "channel", text, "the vendor's", "weights that share a scale: channel, layer, or group (w4a16)"
    )
    max_loss: float | None = _option(
        None, number(0), "none: whatever plain int8 gives", "error of int8 accepted; layers become fp16 until it holds"
    )
    metric: str = _option("cosine", choice("cosine", "rel-rms", "top1"), "the vendor's", "what max_loss means")
    shapes: Mapping[str, tuple[tuple[int, ...], ...]] = _option(
        {},
        shape_lists,
        "the model's own",
        "shapes of inputs that the model leaves open; several of one input are compiled one by one",
    )
    dims: Mapping[str, int] = _option({}, dim_map, "the model's own", "sizes of the model's symbolic dimensions")
    compile: str = _option(
        "auto",
        choice("auto", "load", "background", "never"),
        "as onnxruntime, as far as no call has to wait",
        "what is not in the cache is compiled: load: when the session is made, or a new shape first comes; "
        "background: while the CPU answers; auto: background for open shapes, else load; never: not at all",
        "ORT_RKNN_COMPILE",
    )
    max_shapes: int = _option(
        8,
        whole(1),
        "a guess: a job of seven pages feeds an OCR model 6 shapes (measured)",
        "shapes of one session that get NPU code; others run on the CPU",
    )
    min_gain: float = _option(
        1.0,
        number(0),
        "the break-even",
        "estimated gain over the CPU a segment must have; 0 turns the cost rule off",
        "ORT_RKNN_MIN_GAIN",
    )
    cache_dir: str | None = _option(
        None, text, "ORT_RKNN_CACHE_DIR, else the user's cache directory", "folder of the compiled models"
    )
    cpu_ops: frozenset[str] = _option(frozenset(), name_set, "none", "op types that stay on the CPU")
    cpu_nodes: frozenset[str] = _option(frozenset(), name_set, "none", "names of nodes that stay on the CPU")
    optimization_level: int = _option(3, whole(0), "the vendor's", "the toolkit's graph passes, 0 to 3")
    verify_feeds: int = _option(
        2, whole(0), "a guess: one feed can be lucky", "random feeds every compiled segment is verified on"
    )
    compile_timeout_s: float = _option(
        600.0, number(1), "a guess: 5 s for 25 M weights on a PC", "seconds one segment's compilation may take"
    )
    schedule: tuple[int, ...] | None = _option(
        None,
        _schedule,
        "none: whatever core is free next",
        "core of each job in turn; doubles raise a core's share",
    )
    tp_mode: str | None = _option(None, _tp_mode, "none", "core mask all jobs run on together")
    threads_per_core: int | None = _option(
        None,
        whole(1),
        "1, as EZ RKNN Async; 2 with native lanes: measured",
        "contexts per core: with two, one transfers while the other computes",
    )
    max_queue_size: int = _option(3, whole(1), "as EZ RKNN Async", "jobs that may wait; the next submission blocks")
    max_callback_queue_size: int = _option(
        8, whole(1), "as EZ RKNN Async, where it is fixed", "finished jobs that may wait for their callbacks"
    )
    submit_timeout_ms: int = _option(10_000, whole(0), "as EZ RKNN Async", "how long a submission waits for room")
    run_timeout_ms: int = _option(
        0, whole(0), "none: inference times differ by 1000", "how long an inference may take; 0 is for ever"
    )
    sequential_callbacks: bool = _option(True, flag, "as EZ RKNN Async", "deliver callbacks in submission order")
    enable_pacing: bool = _option(False, flag, "as EZ RKNN Async", "space submissions evenly over the cores")
    disable_dup_context: bool = _option(False, flag, "as EZ RKNN Async", "load the weights once for each context")
    overflow: str = _option(
        "block",
        choice("block", "raise", "drop_oldest"),
        "as EZ RKNN Async, which always blocks",
        "what a submission does when the queue is full",
    )
    performance_hint: str = _option(
        "none",
        choice("none", "latency", "throughput"),
        "as other NPU runtimes do",
        "latency: one context; throughput: all cores, two contexts each",
    )
    print_perf: bool | None = _option(
        None,
        flag,
        "as EZ RKNN Async: the environment variable ORT_RKNN_PRINT_PERF",
        "one line on stderr for each inference",
    )
    runtime_library: str | None = _option(
        None, text, "the usual names and folders", "path of librknnrt", "ORT_RKNN_RUNTIME_LIBRARY"
    )
    priority: str = _option(
        "high", choice("high", "medium", "low"), "the vendor's", "whose jobs the NPU's driver lets go first"
    )
    sram: bool = _option(False, flag, "the vendor's", "let the NPU keep internal tensors in the SoC's SRAM")
    share_sram: bool = _option(
        False, flag, "the vendor's", "the same, with contexts using the same part of it one after the other"
    )
    collect_perf: bool = _option(
        False, flag, "the vendor's", "have the runtime time every layer, for session.contexts(); slows inferences down"
    )
    init_flags: int = _option(
        0, bits, "none", "more bits for rknn_init, by the vendor's header: for flags that have no option here"
    )
    share_weights: bool = _option(
        False,
        flag,
        "the vendor's",
        "take the weights from whatever session of this process has loaded the same compiled code; that one's context "
        "stays open as long as they are used; not with custom operators",
    )
    custom_op_paths: tuple[str, ...] = _option(
        (), path_list, "none", "libraries with custom operators for the NPU's runtime; weights are then not shared"
    )
    custom_op_default_path: bool = _option(
        False, flag, "as EZ RKNN Async", "take the custom operators in /usr/lib/rknpu/op_plugins too"
    )
    half_inputs: bool = _option(
        True,
        flag,
        "measured: half the bytes; not seen on a board",
        "hand float32 pictures to the NPU's runtime as the float16 it keeps, if it takes that",
    )
    layout: str = _option(
        "original",
        choice("original", "nchw", "original_software", "nchw_software", "any"),
        "as EZ RKNN Async",
        "order of four-dimensional feeds: always the ONNX model's; the others are EZ RKNN Async's words for the same",
    )
    zero_copy_layout: str = _option(
        "nhwc",
        choice("nhwc"),
        "as EZ RKNN Async",
        "order of four-dimensional inputs in memory that the NPU shares; an OrtValue's own layout= goes before it",
    )
    simulator_cores: int | None = _option(None, whole(1), "the SoC's own number", "pretend cores of the simulator")
    simulator_latency_ms: float = _option(
        0.0, number(0), "none: as fast as it computes", "time one inference takes on a pretend core"
    )

    @classmethod
    def parse(cls, values: Mapping[Any, Any] | None = None) -> RknnOptions:
        """Read a user's options; what is not given comes from the environment, the configuration file, or the table.

        Args:
            values: Option name to value, a Python object or a string.

        Raises:
            InvalidOption: A name that does not exist (the known ones are listed), or a value that makes no sense.
            UnknownTarget: A SoC that is not in the table of targets.
        """
        given = {str(name): value for name, value in (values or {}).items()}
        _refuse_unknown(given, "")
        config, file = read_config()
        _refuse_unknown(config, f" in {file}")
        parsed = {}
        for option in OPTIONS.values():
            value, origin = given.get(option.name), f"RKNNExecutionProvider option {option.name!r}"
            if _unsaid(value) and option.env:
                value, origin = os.environ.get(option.env), f"environment variable {option.env}"
            if _unsaid(value) and not (option.name in _CORES and any(not _unsaid(given.get(name)) for name in _CORES)):
                value, origin = config.get(option.name), f"{option.name} in {file}"
            if _unsaid(value):
                continue
            try:
                parsed[option.name] = option.parse(value)
            except RuntimeError:  # UnknownTarget or InvalidOption, which say all by themselves
                raise
            except ValueError as reason:
                raise InvalidOption(f"{origin} must be {reason}, not {value!r}") from None
        if "schedule" in parsed and "tp_mode" in parsed:
            raise InvalidOption("schedule and tp_mode exclude each other: give one of them")
        if parsed.get("performance_hint", "none") != "none" and ("schedule" in parsed or "tp_mode" in parsed):
            raise InvalidOption("performance_hint chooses the cores itself: give it without schedule and tp_mode")
        if parsed.get("share_weights") and (parsed.get("custom_op_paths") or parsed.get("custom_op_default_path")):
            raise InvalidOption("share_weights does not go with custom operators: the runtime shares no weights then")
        if parsed.get("optimization_level", 0) > 3:
            raise InvalidOption(f"optimization_level must be 0, 1, 2 or 3, not {parsed['optimization_level']}")
        return cls(**parsed)

    def as_strings(self) -> dict[str, str]:
        """Every option as onnxruntime shows options; :meth:`parse` reads it back."""
        return {name: to_text(getattr(self, name)) for name in OPTIONS}


_CORES = ("schedule", "tp_mode", "performance_hint")
"""Options that exclude each other: a program that gives one does not get another from the configuration file."""


def _refuse_unknown(names: Iterable[str], where: str) -> None:
    unknown = [name for name in names if name not in OPTIONS]
    if unknown:
        raise InvalidOption(
            f"unknown RKNNExecutionProvider option {', '.join(map(repr, unknown))}{where}. "
            f"Known options: {', '.join(OPTIONS)}"
        )


def _unsaid(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _table() -> Iterator[Option]:
    for row in fields(RknnOptions):
        default = row.default if row.default is not MISSING else {}
        yield Option(row.name, default=default, **row.metadata)


OPTIONS: dict[str, Option] = {option.name: option for option in _table()}


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
    return {name: to_text(getattr(parsed, name)) for name in options if not _unsaid(options[name])}
