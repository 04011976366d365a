"""Makes a session's native side: ours where there is a compiled model and a device for it, else onnxruntime's."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ort_rknn.errors import InvalidOption, RknnError
from ort_rknn.opening.resolution import Resolution
from ort_rknn.opening.resolve import resolve
from ort_rknn.options.providers import without_rknn
from ort_rknn.ort_conventions import ort_error
from ort_rknn.ort_private.errors import error_class
from ort_rknn.ort_private.own import public
from ort_rknn.ort_types.session_options import CONTEXT_ENABLE, NO_CPU, clone, config_entry, replay_libraries, set_entry
from ort_rknn_converters.util.log import logger

if TYPE_CHECKING:
    from ort_rknn.options.request import Request

__all__ = ["make"]


def make(session: Any, request: Request, providers: Any, provider_options: Any, disabled: Any) -> None:
    """Give ``session`` its native side and all that onnxruntime keeps beside it.

    Args:
        session: The session under construction; its model and options are set.
        request: What is asked of the NPU.
        providers: As given to the session.
        provider_options: As given to the session.
        disabled: onnxruntime's optimizers that are to be left out.

    Raises:
        Exception: What onnxruntime raises for this model and these arguments.
    """
    rest, rest_options = without_rknn(providers, provider_options)
    user = session._rknn_sess_options
    if user is not None and not isinstance(user, public("SessionOptions")):
        session._rknn_create(user, rest, rest_options, disabled)  # which says what it thinks of them
        return
    npu_only = config_entry(user, NO_CPU) == "1" and not request.cpu_named
    if npu_only:
        rest, rest_options = None, None  # naming the CPU here would be a conflict of its own
    opened: list[Any] = []

    def open_with_onnxruntime() -> Any:
        if not opened:
            options = _cpu_allowed(user) if npu_only else user
            opened.append(session._rknn_create(options, rest, rest_options, disabled))
        return opened[0]

    model = session._rknn_model
    resolution = Resolution()
    if asked := _asked_of_the_cpu(request, user):
        logger().warning("the model runs on the CPU: %s", asked)
        resolution, model = Resolution(reason=asked), b""

    def resolved() -> Resolution:
        return resolve(
            model, request.options, user, device=session._rknn_device, open_with_onnxruntime=open_with_onnxruntime
        )

    try:
        if model:
            resolution = resolved()
    except InvalidOption as error:
        session._rknn_refused = error  # raised by the session; what is raised in here, onnxruntime falls back from
        return
    if (
        config_entry(user, CONTEXT_ENABLE) == "1"
        and resolution.from_onnx
        and resolution.compiled is not None
        and resolution.compiled.npu_steps
    ):
        from ort_rknn.opening.epcontext_options import EpContextOptions

        EpContextOptions.of(user, model if isinstance(model, str) else "").write(resolution.compiled)
    if (resolution.dynamic is not None and not npu_only) or resolution.bundle is not None:
        from ort_rknn.opening.open_dynamic import open_dynamic_session, open_forms
        from ort_rknn.opening.open_npu import check_cores

        _forget(opened)
        request.warn_of_doubles(user)
        make_native = open_forms if resolution.bundle is not None else open_dynamic_session
        try:
            check_cores(request.options, resolution)
            session._rknn_attach(make_native(session, request, resolution, disabled))
        except InvalidOption as error:
            session._rknn_refused = error
        return
    again = resolution.from_onnx
    while resolution.compiled is not None and resolution.compiled.npu_steps:
        from ort_rknn.opening.open_npu import open_npu_session
        from ort_rknn_converters.errors import CompiledModelError

        try:
            native = open_npu_session(session, request, resolution, disabled, npu_only=npu_only, validated=opened)
            if not opened:
                request.warn_of_doubles(user)
        except InvalidOption as error:
            session._rknn_refused = error
            return
        except CompiledModelError as error:  # found when it was opened: the cache has given the entry up
            if not resolution.from_onnx:
                raise ort_error("InvalidGraph", str(error)) from error
            logger().warning("%s", error)
            resolution = resolved() if again else Resolution(target=resolution.target, reason=str(error))
            again = False
        except RknnError as error:
            if not resolution.from_onnx:  # onnxruntime cannot run what was compiled before
                raise ort_error("Fail", f"the device cannot run this compiled model: {error}") from error
            logger().warning("the model runs on the CPU: %s", error)
            resolution = Resolution(target=resolution.target, reason=str(error), notes=resolution.notes)
        else:
            _forget(opened)
            session._rknn_attach(native)
            kind: Any = type(session)
            session.__class__ = _with_short_run(kind)
            return
    if npu_only:
        plan = None if resolution.compiled is None else resolution.compiled.plan
        try:
            session._rknn_create(user, rest, rest_options, disabled)
        except error_class("Fail") as error:  # onnxruntime refuses: the model would be on the CPU
            from ort_rknn.opening.open_npu import nodes_on_cpu

            raise type(error)(f"{error}{nodes_on_cpu(plan, resolution.reason)}") from None
    open_with_onnxruntime()
    session._rknn_reason = resolution.reason
    session._rknn_plan = None if resolution.compiled is None else resolution.compiled.plan
    session._rknn_notes = resolution.notes


@lru_cache(maxsize=64)
def _with_short_run(kind: Any) -> Any:
    """Returns the class of sessions with an NPU part, whose ``run`` leaves out onnxruntime's checks of common feeds.

    The class a program names keeps onnxruntime's ``run``, for sessions without an NPU part. This saves a quarter of a
    call (measured: 6 of 24 us). A class of a program's own that has its own ``run`` stays as it is.
    """
    if kind.run is not public("InferenceSession").run:
        return kind

    def run(self: Any, output_names: Any, input_feed: Any, run_options: Any = None) -> Any:
        results = self._rknn_native.run_common(output_names, input_feed) if run_options is None else None
        return kind.run(self, output_names, input_feed, run_options) if results is None else results

    def reduced(self: Any, protocol: Any) -> Any:
        self.__class__ = kind  # copies and pickles are of the class the program knows
        return self.__reduce_ex__(protocol)

    run.__doc__ = kind.run.__doc__
    names = ("__module__", "__qualname__", "__doc__")
    content = {
        "run": run,
        "__reduce_ex__": reduced,
        "_rknn_long": kind,
        **{name: getattr(kind, name) for name in names},
    }
    try:
        return type(kind)(kind.__name__, (kind,), content)
    except TypeError:  # a class that wants to be told more about its heirs
        return kind


def _asked_of_the_cpu(request: Request, user: Any) -> str:
    """Finds what a program that did not name the NPU asks for and no NPU part can give; empty for nothing."""
    if request.named or not getattr(user, "optimized_model_filepath", ""):
        return ""
    return (
        f"its program has onnxruntime write the optimized model ({user.optimized_model_filepath}), and a model with"
        " compiled parts cannot be written that way"
    )


def _forget(opened: list[Any]) -> None:
    """Drop the session that only validated the model, and the profile it would leave behind."""
    for native in opened:
        if native.session_options.enable_profiling:
            Path(native.end_profiling()).unlink(missing_ok=True)
    opened.clear()


def _cpu_allowed(user: Any) -> Any:
    options = clone(user)
    set_entry(options, NO_CPU, "0")
    replay_libraries(user, options)
    return options
