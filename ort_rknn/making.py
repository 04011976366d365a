"""Makes a session's native side: ours where there is a compiled model and a device for it, else onnxruntime's."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxruntime.capi import _pybind_state as C

from ort_rknn.errors import InvalidOption, RknnError
from ort_rknn.ort_errors import ort_error
from ort_rknn.placement import Placement, place
from ort_rknn.provider_names import CPU_PROVIDER
from ort_rknn.providers import without_rknn
from ort_rknn.session_options import CONTEXT_ENABLE, clone, config_entry, replay_libraries
from ort_rknn_converters.log import logger

if TYPE_CHECKING:
    from ort_rknn.engine.options import EngineOptions
    from ort_rknn.npu_session import NpuSession
    from ort_rknn.options import RknnOptions
    from ort_rknn.plain import WholeModel
    from ort_rknn.profiling import Profile
    from ort_rknn.request import Request
    from ort_rknn_converters.compiled import CompiledModel
    from ort_rknn_converters.plan import Plan

__all__ = ["make", "open_npu_session"]

_NO_CPU = "session.disable_cpu_ep_fallback"
_NODES_ON_CPU = (
    "This session contains graph nodes that are assigned to the default CPU EP, "
    "but fallback to CPU EP has been explicitly disabled by the user."
)
_COMPILED_NODES = (
    "Unable to serialize model as it contains compiled nodes. "
    "Please disable any execution providers which generate compiled nodes."
)

# onnxruntime's attribute of a session -> the native property it is filled from.
_FILLED_FROM = {
    "_sess_options": "session_options",
    "_inputs_meta": "inputs_meta",
    "_outputs_meta": "outputs_meta",
    "_overridable_initializers": "overridable_initializers",
    "_input_meminfos": "input_meminfos",
    "_output_meminfos": "output_meminfos",
    "_input_epdevices": "input_epdevices",
    "_model_meta": "model_meta",
    "_profiling_start_time_ns": "get_profiling_start_time_ns",
}


def make(session: Any, request: Request, create: Callable[..., None], arguments: tuple[Any, Any, Any]) -> None:
    """Give ``session`` its ``_sess`` and all that onnxruntime keeps beside it.

    Args:
        session: The session under construction; its model and options are set.
        request: What is asked of the NPU.
        create: onnxruntime's own way to do this, with three arguments.
        arguments: The providers, their options and the disabled optimizers, as onnxruntime's ``create`` takes them.

    Raises:
        Exception: What onnxruntime raises for this model and these arguments.
    """
    providers, provider_options, disabled = arguments
    rest, rest_options = without_rknn(providers, provider_options)
    user = session._sess_options
    if user is not None and not isinstance(user, C.SessionOptions):
        create(rest, rest_options, disabled)  # which says what it thinks of them
        return
    npu_only = config_entry(user, _NO_CPU) == "1" and not request.cpu_named
    if npu_only:
        rest, rest_options = None, None  # naming the CPU here would be a conflict of its own
    session._fallback_providers = [CPU_PROVIDER]  # onnxruntime looks at it when the making fails
    opened: list[Any] = []

    def judge() -> Any:
        if not opened:
            session._sess_options = _cpu_allowed(user) if npu_only else user
            create(rest, rest_options, disabled)
            opened.append(session._sess)
        return opened[0]

    model = session._model_path or session._model_bytes
    placement = Placement()
    try:
        if model:
            placement = place(model, request.options, user, device=session._rknn_device, judge=judge)
    except InvalidOption as error:
        session._rknn_refused = error
    session._sess_options = user  # a judgement has put its own copy there
    if (
        config_entry(user, CONTEXT_ENABLE) == "1"
        and placement.from_onnx
        and placement.compiled is not None
        and placement.compiled.npu_steps
    ):
        from ort_rknn.context_file import ContextWish

        ContextWish.of(user, session._model_path or "").write(placement.compiled)
    if (placement.moving is not None and not npu_only) or placement.bundle is not None:
        from ort_rknn.moving import open_forms, open_moving

        _forget(opened)
        request.warn_of_doubles(user)
        make_native = open_forms if placement.bundle is not None else open_moving
        _fill(session, make_native(session, request, placement, disabled))
        return
    if placement.compiled is not None and placement.compiled.npu_steps:
        try:
            native = open_npu_session(session, request, placement, disabled, npu_only=npu_only, judged=opened)
            if not opened:
                request.warn_of_doubles(user)
        except InvalidOption as error:
            session._rknn_refused = error
        except RknnError as error:
            if not placement.from_onnx:  # onnxruntime cannot run what was compiled before
                raise ort_error("Fail", f"the device cannot run this compiled model: {error}") from error
            logger().warning("the model runs on the CPU: %s", error)
            placement = Placement(target=placement.target, reason=str(error), notes=placement.notes)
        else:
            _forget(opened)
            _fill(session, native)
            return
    if npu_only:
        create(rest, rest_options, disabled)  # onnxruntime refuses: the model would be on the CPU
    session._sess_options = judge().session_options
    session._rknn_reason = placement.reason
    session._rknn_plan = None if placement.compiled is None else placement.compiled.plan
    session._rknn_notes = placement.notes


def _forget(opened: list[Any]) -> None:
    """Drop the session that only judged the model, and the profile it would leave behind."""
    for native in opened:
        if native.session_options.enable_profiling:
            Path(native.end_profiling()).unlink(missing_ok=True)
    opened.clear()


def open_npu_session(
    session: Any,
    request: Request,
    placement: Placement,
    disabled: Any,
    *,
    npu_only: bool = False,
    whole: WholeModel | None = None,
    on_closed: Callable[[], object] | None = None,
    judged: Sequence[Any] = (),
) -> NpuSession:
    """Open a compiled model on its device.

    Args:
        session: The session under construction; of it the model, the options and the device given count.
        request: What is asked of the NPU.
        placement: The compiled model and its device.
        disabled: onnxruntime's optimizers that are to be left out.
        npu_only: Anything on the CPU is an error.
        whole: The model on onnxruntime, for one of several variants of it; opened here when ``None``.
        on_closed: Called when a variant's engine is closed, in place of closing the device.
        judged: The session onnxruntime made of the whole model, if it was made.

    Raises:
        RknnError: The device refuses.
        Exception: What onnxruntime raises.
    """
    from ort_rknn.engine.engine import Engine
    from ort_rknn.npu_session import NpuParts, NpuSession
    from ort_rknn.program import Program

    compiled = placement.compiled
    assert compiled is not None
    user = session._sess_options
    if user is not None and user.optimized_model_filepath and whole is None:
        raise ort_error("Fail", _COMPILED_NODES)
    if npu_only and compiled.cpu_steps:
        raise ort_error("Fail", _NODES_ON_CPU)
    names, given = list(request.providers), list(request.provider_options)
    optimizers = set(disabled or ())

    options = clone(user)
    shown = {
        name: getattr(options, name)
        for name in (
            "enable_profiling",
            "graph_optimization_level",
            "intra_op_num_threads",
            "log_severity_level",
            "log_verbosity_level",
        )
    }
    profiled = options.enable_profiling
    variant = whole is not None  # its profile is written with the others' into that of the session
    _settle(options, npu_only)
    replay_libraries(user, options)

    def open_cpu_step(blob: Any) -> Any:
        native = C.InferenceSession(options, blob.path or blob.read(), blob.path is not None, False)
        native.initialize_session(names, given, optimizers)
        return native

    shell_options = clone(user)
    _settle(shell_options, npu_only)
    shell_options.graph_optimization_level = C.GraphOptimizationLevel.ORT_DISABLE_ALL
    shell_options.intra_op_num_threads = 1
    shell_options.log_severity_level = 4  # the shell only judges feeds: what it says of its outputs is of no interest

    def open_shell(model: str | bytes) -> NpuSession:
        native = NpuSession(shell_options, model, isinstance(model, str), False)
        native.initialize_session(names, given, set())
        return native

    device = placement.device
    assert device is not None
    begun = time.perf_counter()
    profile = None
    if profiled:
        from ort_rknn.profiling import Profile

        profile = Profile(options.profile_file_prefix, npu=device.name != "cpu")
    native = open_shell(compiled.shell.path or compiled.shell.read())
    pins = _pins(user, native, judged)
    dims = (dim for argument in (*native.inputs_meta, *native.outputs_meta) for dim in argument.shape)
    if pins and not all(isinstance(dim, int) for dim in dims):
        native = open_shell(_pinned(compiled.shell.read(), pins))

    program = Program(
        compiled,
        placement.device,
        open_cpu_step,
        outputs=[argument.name for argument in native.outputs_meta],
        target=placement.target if placement.target in compiled.targets else None,
    )
    if whole is None:
        on_closed = None if device is session._rknn_device else device.close
        from ort_rknn.plain import WholeModel

        whole = WholeModel(
            _plain_maker(session, options, names, given, optimizers) if placement.from_onnx else None,
            "a compiled model runs at the shapes and with the weights it was compiled with; "
            "open its ONNX model for others",
        )
    at_close: list[Callable[[], object]] = []
    engine = Engine(
        program,
        _engine_options(request.options),
        fallback=whole.run if placement.from_onnx else None,
        on_closed=partial(_close, at_close, on_closed, None if variant else profile),
        observer=profile,
    )
    if profile is not None and not variant:
        profile.session_event("session_initialization", begun)
        profile.end_with(native)
    native.attach(
        NpuParts(
            engine=engine,
            plan=_plan(compiled, placement),
            provider_options=request.options.as_strings(),
            npu=device.name != "cpu",
            shapes=_open_shapes(native, placement),
            whole=whole,
            shown=shown,
            profile=profile,
            at_close=at_close,
        )
    )
    return native


def _settle(options: Any, npu_only: bool) -> None:
    """Turn a copy of the user's options into those of a session that runs a part only."""
    options.enable_profiling = False  # the engine sees what runs
    options.optimized_model_filepath = ""
    if npu_only:
        options.add_session_config_entry(_NO_CPU, "0")  # the shell itself is all on the CPU
    if config_entry(options, CONTEXT_ENABLE) == "1":
        options.add_session_config_entry(CONTEXT_ENABLE, "0")  # the parts are not to be written as well


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


def _cpu_allowed(user: Any) -> Any:
    options = clone(user)
    options.add_session_config_entry(_NO_CPU, "0")
    replay_libraries(user, options)
    return options


def _pins(user: Any, shell: Any, judged: Sequence[Any]) -> dict[str, int]:
    """The dimensions that session options pin; onnxruntime's own options do not say them, but a session shows them.

    The shell shows them since onnxruntime 1.23; earlier releases pin only what they optimize.
    """
    pins = dict(getattr(user, "_rknn_dims", {}))
    for native in judged:
        for free, pinned in zip(shell.inputs_meta, native.inputs_meta, strict=True):
            for name, size in zip(free.shape, pinned.shape, strict=False):
                if isinstance(name, str) and isinstance(size, int):
                    pins[name] = size
    return pins


def _pinned(shell: bytes, pins: Mapping[str, int]) -> bytes:
    """The shell with pinned dimensions written as numbers."""
    import onnx

    from ort_rknn_converters.shell import pin

    model = onnx.ModelProto.FromString(shell)
    pin(model, pins)
    content: bytes = model.SerializeToString()
    return content


def _plain_maker(
    session: Any, options: Any, names: list[str], given: list[dict[str, str]], optimizers: set[str]
) -> Callable[[], Any]:
    """How to open the whole model with onnxruntime."""
    path, content = session._model_path, session._model_bytes

    def make_plain() -> Any:
        native = C.InferenceSession(options, path or content, bool(path), False)
        native.initialize_session(names, given, optimizers)
        return native

    return make_plain


def _open_shapes(native: Any, placement: Placement) -> dict[str, tuple[int, ...]]:
    """The compiled shapes of those inputs whose declaration does not say all of it."""
    assert placement.compiled is not None
    compiled = {tensor.name: tensor.shape for step in placement.compiled.npu_steps for tensor in step.inputs}
    fixed: dict[str, tuple[int, ...]] = {}
    for argument in native.inputs_meta:
        name, declared = argument.name, argument.shape
        if declared and all(isinstance(dim, int) for dim in declared):
            continue
        if name in compiled or name in placement.shapes:
            fixed[name] = tuple(int(dim or 0) for dim in compiled.get(name, placement.shapes.get(name, ())))
        elif declared:
            pinned = [placement.dims.get(dim, dim) if isinstance(dim, str) else dim for dim in declared]
            if all(isinstance(dim, int) for dim in pinned):
                fixed[name] = tuple(map(int, pinned))
    return fixed


def _engine_options(options: RknnOptions) -> EngineOptions:
    from ort_rknn.engine.options import EngineOptions

    names = {row.name for row in fields(EngineOptions)}
    return EngineOptions(**{row.name: getattr(options, row.name) for row in fields(options) if row.name in names})


def _fill(session: Any, native: Any) -> None:
    session._sess = native
    for attribute, source in _FILLED_FROM.items():
        if hasattr(native, source):  # older releases have fewer
            setattr(session, attribute, getattr(native, source))
    session._providers = native.get_providers()
    session._provider_options = native.get_provider_options()


def _plan(compiled: CompiledModel, placement: Placement) -> Plan:
    """What runs where here: a compiled model without an NPU runs on the CPU, whatever it was compiled for."""
    on_cpu = placement.device is not None and placement.device.name == "cpu" and placement.reason
    plan = compiled.plan.on_cpu(placement.reason) if on_cpu else compiled.plan
    return plan.with_notes(*placement.notes)
