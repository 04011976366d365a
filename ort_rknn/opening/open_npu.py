"""Opens a compiled model on its device: the stub and the CPU steps on onnxruntime, the segments on an engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ort_rknn.ort_conventions import ort_error
from ort_rknn.ort_private.native import start_native
from ort_rknn.ort_private.own import public
from ort_rknn.ort_types.session_options import (
    CONTEXT_ENABLE,
    NO_CPU,
    WEIGHTS_FOLDER,
    clone,
    config_entry,
    replay_libraries,
    set_entry,
)

if TYPE_CHECKING:
    from ort_rknn.opening.resolution import Resolution
    from ort_rknn.options.request import Request
    from ort_rknn.options.table import RknnOptions
    from ort_rknn.ort_types.profiling import Profile
    from ort_rknn.sessions.cpu_fallback import WholeModel
    from ort_rknn.sessions.npu import NpuSession
    from ort_rknn_converters.compiled.model import CompiledModel
    from ort_rknn_converters.partition.plan import Plan

__all__ = ["SHOWN", "check_cores", "nodes_on_cpu", "open_npu_session", "pinned", "settle", "stub_options"]

_NODES_ON_CPU = (
    "This session contains graph nodes that are assigned to the default CPU EP, "
    "but fallback to CPU EP has been explicitly disabled by the user."
)
_COMPILED_NODES = (
    "Unable to serialize model as it contains compiled nodes. "
    "Please disable any execution providers which generate compiled nodes."
)
_NAMED = 3
"""Nodes named for each reason. A guess: ``print(session.plan)`` has all."""

SHOWN = (
    "enable_profiling",
    "graph_optimization_level",
    "intra_op_num_threads",
    "log_severity_level",
    "log_verbosity_level",
)
"""What the user's session options say, and the stub's own otherwise."""


def open_npu_session(
    session: Any,
    request: Request,
    resolution: Resolution,
    disabled: Any,
    *,
    npu_only: bool = False,
    whole: WholeModel | None = None,
    on_closed: Callable[[], object] | None = None,
    validated: Sequence[Any] = (),
) -> NpuSession:
    """Open a compiled model on its device.

    Args:
        session: The session under construction; of it the model, the options and the device given count.
        request: What is asked of the NPU.
        resolution: The compiled model and its device.
        disabled: onnxruntime's optimizers that are to be left out.
        npu_only: Anything on the CPU is an error.
        whole: The model on onnxruntime, for one of several variants of it; opened here when ``None``.
        on_closed: Called when a variant's engine is closed, in place of closing the device.
        validated: The session onnxruntime made of the whole model, if it was made.

    Raises:
        RknnError: The device refuses.
        Exception: What onnxruntime raises.
    """
    from ort_rknn.devices.program import Program
    from ort_rknn.engine.engine import Engine
    from ort_rknn.sessions.npu import NpuParts, NpuSession
    from ort_rknn_converters.onnx_file.proofs import proofs_refused, settle_proofs

    compiled, refused = resolution.compiled, proofs_refused()
    assert compiled is not None
    user = session._rknn_sess_options
    if user is not None and user.optimized_model_filepath and whole is None:
        raise ort_error("Fail", _COMPILED_NODES)
    if npu_only and compiled.cpu_steps:
        raise ort_error("Fail", _NODES_ON_CPU + nodes_on_cpu(compiled.plan))
    if compiled.plan.whole is not None and compiled.plan.whole.warning and resolution.device is not None:
        _say_numbers(compiled.plan.whole, resolution.device, strict=request.options.strict_numbers)
    start = partial(start_native, list(request.providers), list(request.provider_options))
    optimizers = set(disabled or ())

    # A judgement was made with options that allow the CPU: to change the user's once more would be warned of twice.
    options = clone(validated[0].session_options if validated and npu_only else user)
    shown = {name: getattr(options, name) for name in SHOWN}
    profiled = options.enable_profiling
    variant = whole is not None  # its profile is written with the others' into that of the session
    settle(options, npu_only)
    replay_libraries(user, options)

    of_the_stub = stub_options(options)

    device = resolution.device
    assert device is not None
    profile = None
    if profiled:
        from ort_rknn.ort_types.profiling import Profile

        profile = Profile(options.profile_file_prefix, npu=device.name != "cpu")
    begun = time.perf_counter()
    native: NpuSession = start(NpuSession, of_the_stub, compiled.stub.path or compiled.stub.read(), set())
    pins = _pins(user, native, validated)
    dims = (dim for argument in (*native.inputs_meta, *native.outputs_meta) for dim in argument.shape)
    if pins and not all(isinstance(dim, int) for dim in dims):
        native = start(NpuSession, of_the_stub, pinned(compiled.stub.read(), pins), set())

    def open_cpu_step(blob: Any) -> Any:
        model, folder = blob.source()
        own = options
        if folder:
            own = clone(options)
            replay_libraries(user, own)
            set_entry(own, WEIGHTS_FOLDER, folder)
        if profile is None:
            return start(None, own, model, optimizers)
        if own is options:
            own = clone(options)
            replay_libraries(user, own)
        profile.options_of_a_step(own)
        part = start(None, own, model, optimizers)
        profile.add_step(part)
        return part

    opened = time.perf_counter()
    program = Program(
        compiled,
        device,
        open_cpu_step,
        outputs=[argument.name for argument in native.outputs_meta],
        target=resolution.target if resolution.target in compiled.targets else None,
    )
    if whole is None:
        on_closed = None if device is session._rknn_device else device.close
        from ort_rknn.sessions.cpu_fallback import WholeModel

        model = session._rknn_model
        whole = WholeModel(
            partial(start, None, options, model, optimizers) if resolution.from_onnx else None,
            "a compiled model runs at the shapes and with the weights and pinned values it was compiled with; "
            "open its ONNX model for others",
        )
    at_close: list[Callable[[], object]] = []
    engine = Engine(
        program,
        request.options.engine_options(),
        fallback=whole.run if resolution.from_onnx else None,
        on_closed=partial(_close, at_close, on_closed, None if variant else profile),
        observer=profile,
        about={
            "model": _name(session._rknn_model, resolution),
            "device": device.name,
            "target": resolution.target,
            "class": request.options.priority,
        },
    )
    try:
        settle_proofs(refused)
    except Exception:
        engine.close()
        raise
    if profile is not None and not variant:
        loading = "model_loading_uri" if isinstance(session._rknn_model, str) else "model_loading_array"
        profile.session_event(loading, begun, opened)
        profile.session_event("session_initialization", opened)
        profile.end_with(native)
    native.attach(
        NpuParts(
            engine=engine,
            plan=_plan(compiled, resolution),
            provider_options=request.options.as_strings(),
            npu=device.name != "cpu",
            shapes=_open_shapes(native, resolution),
            whole=whole,
            shown=shown,
            profile=profile,
            at_close=at_close,
        )
    )
    return native


def _name(model: str | bytes, resolution: Resolution) -> str:
    """Returns the model's name for lists, with the shapes where it is one of several forms."""
    name = model if isinstance(model, str) else "(bytes)"
    shapes = " ".join(f"{one}:{'x'.join(map(str, shape))}" for one, shape in resolution.shapes.items())
    return f"{name} {shapes}".strip()


def nodes_on_cpu(plan: Plan | None, why: str = "") -> str:
    """Sentence that names the nodes on the CPU, a few for each reason, for the end of onnxruntime's own message.

    Args:
        plan: Of the model, if there is one.
        why: Reason for which all of it stays on the CPU, if there is one.
    """
    said = [why] if why else []
    for reason, placed in plan.cpu_reasons().items() if plan is not None else ():
        named = ", ".join(f"{node.op_type} {node.name}".rstrip() for node in placed[:_NAMED])
        more = f" and {len(placed) - _NAMED} more" if len(placed) > _NAMED else ""
        said.append(f"{named}{more} ({reason})")
    return f" On the CPU: {'; '.join(said)}." if said else ""


def _say_numbers(whole: Any, device: Any, *, strict: bool) -> None:
    """Warn of numbers that are off, or refuse them; on the CPU they are right."""
    from ort_rknn_converters.errors import WrongNumbers
    from ort_rknn_converters.numerics.output_errors import say_numbers

    try:
        if device.name != "cpu":
            say_numbers(whole, strict=strict)
    except WrongNumbers as error:
        raise ort_error("Fail", str(error)) from error


def check_cores(options: RknnOptions, resolution: Resolution) -> None:
    """Refuse options that name cores the device does not have, before anything is opened on it.

    Raises:
        InvalidOption: They do.
    """
    from ort_rknn.engine.lanes.schedule import plan_lanes

    if resolution.device is not None:
        plan_lanes(options.engine_options(), resolution.device.cores)


def stub_options(settled: Any) -> Any:
    """Options of the stub's session, from those of a session that runs a part only."""
    options = clone(settled)
    options.graph_optimization_level = public("GraphOptimizationLevel").ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # the stub only judges feeds: what it says of its outputs is of no interest
    return options


def settle(options: Any, npu_only: bool) -> None:
    """Turn a copy of the user's options into those of a session that runs a part only."""
    options.enable_profiling = False  # the engine sees what runs
    options.optimized_model_filepath = ""
    if npu_only:
        set_entry(options, NO_CPU, "0")  # the stub itself is all on the CPU
    if config_entry(options, CONTEXT_ENABLE) == "1":
        set_entry(options, CONTEXT_ENABLE, "0")  # the parts are not to be written as well


def _close(
    at_close: list[Callable[[], object]], on_closed: Callable[[], object] | None, profile: Profile | None
) -> None:
    try:
        for close in at_close:
            close()
        if on_closed is not None:
            on_closed()
    finally:
        if profile is not None:
            profile.end()


def _pins(user: Any, stub: Any, validated: Sequence[Any]) -> dict[str, int]:
    """The dimensions that session options pin; onnxruntime's own options do not say them, but a session shows them.

    The stub shows them since onnxruntime 1.23; earlier releases pin only what they optimize.
    """
    pins = dict(getattr(user, "_rknn_dims", {}))
    for native in validated:
        for free, pinned in zip(stub.inputs_meta, native.inputs_meta, strict=True):
            for name, size in zip(free.shape, pinned.shape, strict=False):
                if isinstance(name, str) and isinstance(size, int):
                    pins[name] = size
    return pins


def pinned(stub: bytes, pins: Mapping[str, int]) -> bytes:
    """The stub with pinned dimensions written as numbers."""
    from ort_rknn_converters.compiled.stub_model import pin
    from ort_rknn_converters.onnx_file.schema import onnx

    model = onnx.ModelProto.FromString(stub)
    pin(model, pins)
    content: bytes = model.SerializeToString()
    return content


def _open_shapes(native: Any, resolution: Resolution) -> dict[str, tuple[int, ...]]:
    """The compiled shapes of those inputs whose declaration does not say all of it."""
    assert resolution.compiled is not None
    compiled = {tensor.name: tensor.shape for step in resolution.compiled.npu_steps for tensor in step.inputs}
    fixed: dict[str, tuple[int, ...]] = {}
    for argument in native.inputs_meta:
        name, declared = argument.name, argument.shape
        if declared and all(isinstance(dim, int) for dim in declared):
            continue
        if name in compiled or name in resolution.shapes:
            fixed[name] = tuple(int(dim or 0) for dim in compiled.get(name, resolution.shapes.get(name, ())))
        elif declared:
            pinned = [resolution.dims.get(dim, dim) if isinstance(dim, str) else dim for dim in declared]
            if all(isinstance(dim, int) for dim in pinned):
                fixed[name] = tuple(map(int, pinned))
    return fixed


def _plan(compiled: CompiledModel, resolution: Resolution) -> Plan:
    """Plan for this machine: a compiled model without an NPU runs on the CPU, whatever it was compiled for."""
    on_cpu = resolution.device is not None and resolution.device.name == "cpu" and resolution.reason
    plan = compiled.plan.on_cpu(resolution.reason) if on_cpu else compiled.plan
    return plan.with_notes(*resolution.notes)
