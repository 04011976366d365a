"""Makes a session's native side: ours where there is a compiled model and a device for it, else onnxruntime's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxruntime.capi import _pybind_state as C

from ort_rknn.errors import InvalidOption, RknnError
from ort_rknn.opening.resolution import Placement
from ort_rknn.opening.resolve import place
from ort_rknn.options.providers import without_rknn
from ort_rknn.ort_errors import ort_error
from ort_rknn.ort_types.session_options import CONTEXT_ENABLE, NO_CPU, clone, config_entry, replay_libraries
from ort_rknn.provider_names import CPU_PROVIDER
from ort_rknn_converters.util.log import logger

if TYPE_CHECKING:
    from ort_rknn.options.request import Request

__all__ = ["make"]

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
    npu_only = config_entry(user, NO_CPU) == "1" and not request.cpu_named
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
        session._rknn_refused = error  # raised by the session; what is raised in here, onnxruntime falls back from
        return
    session._sess_options = user  # a judgement has put its own copy there
    if (
        config_entry(user, CONTEXT_ENABLE) == "1"
        and placement.from_onnx
        and placement.compiled is not None
        and placement.compiled.npu_steps
    ):
        from ort_rknn.opening.epcontext_options import ContextWish

        ContextWish.of(user, session._model_path or "").write(placement.compiled)
    if (placement.moving is not None and not npu_only) or placement.bundle is not None:
        from ort_rknn.opening.open_dynamic import open_forms, open_moving
        from ort_rknn.opening.open_npu import check_cores

        _forget(opened)
        request.warn_of_doubles(user)
        make_native = open_forms if placement.bundle is not None else open_moving
        try:
            check_cores(request.options, placement)
            _fill(session, make_native(session, request, placement, disabled))
        except InvalidOption as error:
            session._rknn_refused = error
        return
    if placement.compiled is not None and placement.compiled.npu_steps:
        from ort_rknn.opening.open_npu import open_npu_session

        try:
            native = open_npu_session(session, request, placement, disabled, npu_only=npu_only, judged=opened)
            if not opened:
                request.warn_of_doubles(user)
        except InvalidOption as error:
            session._rknn_refused = error
            return
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


def _cpu_allowed(user: Any) -> Any:
    options = clone(user)
    options.add_session_config_entry(NO_CPU, "0")
    replay_libraries(user, options)
    return options


def _fill(session: Any, native: Any) -> None:
    session._sess = native
    for attribute, source in _FILLED_FROM.items():
        if hasattr(native, source):  # older releases have fewer
            setattr(session, attribute, getattr(native, source))
    session._providers = native.get_providers()
    session._provider_options = native.get_provider_options()
