"""``InferenceSession``: onnxruntime's own class, made by way of the NPU where there is one.

Only the making is ours, and the asynchronous verbs. onnxruntime's Python code does all else through its native side
(:mod:`ort_rknn.ort_private.hooked`), which is either onnxruntime's native session (nothing on the NPU: no code of ours
is in the way of ``run``) or an :class:`~ort_rknn.sessions.npu.NpuSession`.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ort_rknn import devices
from ort_rknn.api.async_methods import AsyncMethods
from ort_rknn.errors import ClosedSession, InvalidOption
from ort_rknn.options import providers as provider_lists
from ort_rknn.ort_conventions import CPU_PROVIDER, has_providers
from ort_rknn.ort_private.own import public
from ort_rknn.ort_private.session_base import SessionBase
from ort_rknn.signatures import shown_as_theirs

if TYPE_CHECKING:
    from ort_rknn.engine.engine import Engine
    from ort_rknn.engine.job import InferenceJob
    from ort_rknn.engine.options import EngineOptions
    from ort_rknn.engine.submission import Submission
    from ort_rknn.sessions.dynamic import DynamicSession
    from ort_rknn.sessions.npu import NpuSession
    from ort_rknn.sessions.shape_variants import ShapeState
    from ort_rknn_converters.partition.plan import Plan

__all__ = ["InferenceSession"]

_making_an_engine = threading.Lock()
_WANT_ONNXRUNTIME = ("ort_rknn_converters.", f"{devices.__name__}.")
"""Packages of ours, the converters and the devices, whose code wants onnxruntime itself, also after ``install()``."""


@shown_as_theirs
class InferenceSession(AsyncMethods, SessionBase):  # type: ignore[misc]
    """onnxruntime's ``InferenceSession`` that runs on the NPU what the NPU can run.

    Args:
        path_or_bytes: An ONNX model, or a compiled model made by ``ort-rknn convert``: path or content; or the address
            of one on another machine, ``grpc://board:8001/model`` (:mod:`ort_rknn.remote.address`).
        sess_options: onnxruntime's session options; they also hold for the parts on the CPU.
        providers: As onnxruntime's; ``"RKNNExecutionProvider"`` asks for the NPU, alone or as ``(name, options)``.
            When not given: the NPU where one works, then the CPU.
        provider_options: As onnxruntime's.
        **kwargs: As onnxruntime's; and ``device``: a device name (``"simulator"`` ...), a
            :class:`~ort_rknn.devices.base.Device`, or a function that makes one.

    Raises:
        InvalidOption: A provider option that does not exist or makes no sense.
        Exception: What onnxruntime raises for bad models and arguments.
    """

    # onnxruntime 1.32 also makes sessions without ``__init__`` (``ModelPackageComponentContext.create_session``).
    _rknn_device: Any = None
    _rknn_device_asks = False
    _rknn_untouched = False
    _rknn_reason = "the session was made by onnxruntime"
    _rknn_refused: Exception | None = None
    _rknn_failed = ""
    _rknn_notes: tuple[str, ...] = ()
    _rknn_plan: Plan | None = None
    _rknn_async_engine: Engine | None = None
    _rknn_checked: provider_lists.CheckedOptions | None = None
    _rknn_engine_options: EngineOptions | None = None

    def __init__(
        self,
        path_or_bytes: Any,
        sess_options: Any = None,
        providers: Any = None,
        provider_options: Any = None,
        **kwargs: Any,
    ) -> None:
        device = kwargs.pop("device", None)
        self._rknn_device = device
        self._rknn_device_asks = device is not None
        self._rknn_model = os.fspath(path_or_bytes) if isinstance(path_or_bytes, os.PathLike) else path_or_bytes
        self._rknn_sess_options = sess_options
        self._rknn_untouched = sys._getframe(1).f_globals.get("__name__", "").startswith(_WANT_ONNXRUNTIME)
        if not self._rknn_untouched:
            self._rknn_checked = provider_lists.check_options(
                providers, provider_options, sess_options, device_given=device is not None
            )
            if device is not None:
                self._rknn_device = _checked_device(device)
        super().__init__(path_or_bytes, sess_options, providers, provider_options, **kwargs)
        self._raise_refused()

    def set_providers(self, providers: Any = None, provider_options: Any = None) -> None:
        """Makes the session anew with other providers, as onnxruntime does."""
        self._rknn_checked = provider_lists.check_options(providers, provider_options, None)
        super().set_providers(providers, provider_options)
        self._raise_refused()

    def _raise_refused(self) -> None:
        """Raise what only showed when the device was known; inside the making onnxruntime would fall back from it."""
        if self._rknn_refused is not None:
            raise self._rknn_refused

    def _rknn_make(self, providers: Any, provider_options: Any, disabled: Any) -> None:
        """Make the native side: when the session is made, by ``set_providers``, and where onnxruntime falls back.

        A bad option is kept for :meth:`_raise_refused`: from a ``ValueError`` onnxruntime would fall back to the CPU.
        """
        failed, self._rknn_failed = self._rknn_failed, ""
        try:
            self._rknn_make_native(providers, provider_options, disabled, failed)
        except InvalidOption as error:
            self._rknn_refused = error
        except (ValueError, RuntimeError) as error:
            self._rknn_failed = str(error) or type(error).__name__
            raise

    def _rknn_make_native(self, providers: Any, provider_options: Any, disabled: Any, failed: str) -> None:
        """Make the native side; ``failed`` is the error that onnxruntime now falls back from, if it does."""
        self._rknn_falls_back_to([CPU_PROVIDER])  # onnxruntime looks at it whatever fails from here on
        self._rknn_reason = ""
        self._rknn_refused = None
        self._rknn_notes = ()
        self._rknn_plan = None
        self._rknn_async_engine = None
        self._rknn_engine_options = None
        self.__class__ = getattr(type(self), "_rknn_long", type(self))
        request = None
        model = self._rknn_model
        if (
            isinstance(model, str)
            and ":" in model
            and self._rknn_opened_remotely(model, providers, provider_options, disabled)
        ):
            return
        if not self._rknn_untouched:
            # The keyword asks for the NPU when the session is made, not in a fallback or in set_providers.
            asks, self._rknn_device_asks = self._rknn_device_asks, False
            checked, self._rknn_checked = self._rknn_checked, None  # a fallback's providers are others
            request = provider_lists.read(
                providers, provider_options, self._rknn_sess_options, device_given=asks, checked=checked
            )
        if request is None:
            self._rknn_reason = (
                f"onnxruntime fell back to it from an error: {failed}"
                if failed
                else provider_lists.why_not_asked(providers)
            )
            rest, rest_options = provider_lists.without_rknn(providers, provider_options)
            self._rknn_create(self._rknn_sess_options, rest, rest_options, disabled)
            return
        from ort_rknn.opening.create import make

        self._rknn_engine_options = request.options.engine_options()
        make(self, request, providers, provider_options, disabled)

    def _rknn_opened_remotely(self, model: str, providers: Any, provider_options: Any, disabled: Any) -> bool:
        """Whether the model is on another machine: then the session is of that, or what failed is kept."""
        from ort_rknn.remote.address import is_address

        if not is_address(model):
            return False
        from ort_rknn.remote.native import connect_to, open_stub

        user = self._rknn_sess_options
        rest, rest_options = provider_lists.without_rknn(providers, provider_options)
        known_options = user is None or isinstance(user, public("SessionOptions"))
        if not known_options or not isinstance(providers, Sequence | None):
            self._rknn_create(user, rest, rest_options, disabled)  # which says what it thinks of them
            return True
        try:
            if self._rknn_device is not None:
                raise InvalidOption("device= is for models on this machine; the server has its own: `ort-rknn serve`")
            given = provider_lists.given_options(providers, provider_options, user)
            there = connect_to(model, given, user)
        except Exception as error:
            self._rknn_refused = error  # in here, onnxruntime would take the address for a file and fall back
            return True
        self._rknn_attach(open_stub(there, rest, rest_options))
        if providers and has_providers(user):
            from ort_rknn.options.request import warn_of_doubles

            warn_of_doubles()
        return True

    @property
    def plan(self) -> Plan:
        """Plan: which node runs where and why; for a model on onnxruntime alone, why the NPU is not used."""
        if _kind(self._rknn_native):
            plan: Plan = self._rknn_native.plan
            return plan
        from ort_rknn_converters.partition.plan import Plan

        why = (f"all on onnxruntime's CPU provider: {self._rknn_reason}", *self._rknn_notes)
        return Plan("", "", notes=why) if self._rknn_plan is None else self._rknn_plan.with_notes(*why)

    def io_binding(self) -> Any:
        """Return an :class:`~ort_rknn.ort_types.iobinding.IOBinding`, which is an ``onnxruntime.IOBinding``."""
        from ort_rknn.ort_types.iobinding import IOBinding

        return IOBinding(self)

    def run_async(
        self,
        output_names: Any,
        input_feed: Mapping[str, Any],
        callback: Callable[[list[Any], Any, str], object],
        user_data: Any = None,
        run_options: Any = None,
    ) -> None:
        """Runs asynchronously as onnxruntime does, whose ``user_data`` has no default.

        With an NPU part callbacks come in the order of submission; onnxruntime alone calls them in any order.
        """
        native = self._rknn_native
        start = getattr(type(native), "start_common", None) if run_options is None else None
        if start is not None and start(native, output_names, input_feed, callback, user_data):
            return  # neither onnxruntime's checks nor a future: 30 us of the caller's thread for 42 (measured)
        if _kind(native) == "npu" or not callable(callback):
            super().run_async(output_names, input_feed, callback, user_data, run_options)
            return
        from ort_rknn.sessions.pending_callbacks import PendingCallbacks

        calls = self._pending_callbacks = self._pending_callbacks or PendingCallbacks()
        watched = calls.watch(callback)
        try:
            super().run_async(output_names, input_feed, watched, user_data, run_options)
        except BaseException:
            calls.ended()
            raise

    def submit(
        self,
        output_names: Any,
        input_feed: Mapping[str, Any],
        run_options: Any = None,
        *,
        timeout: float | None = None,
        callback: Callable[[list[Any], Any, str], object] | None = None,
        user_data: Any = None,
    ) -> InferenceJob:
        """Queue one inference and return at once; blocks only while the queue is full.

        Args:
            output_names: As :meth:`run`.
            input_feed: As :meth:`run`. The arrays may be reused as soon as this returns.
            run_options: As :meth:`run`; with the entry ``ort_rknn.dispatch_batch`` every input holds many samples along
                axis 0, which run on all cores; the outputs are joined.
            timeout: Seconds to wait for room; the option ``submit_timeout_ms`` when ``None``, 0 refuses at once.
            callback: Called as ``callback(results, user_data, error_text)`` on the delivery thread, in submission
                order unless the option ``sequential_callbacks`` is off.
            user_data: Handed to the callback.

        Returns:
            A :class:`concurrent.futures.Future` that can also be polled (``wait``) and awaited.

        Raises:
            SubmitTimeout: The queue stayed full.
            SessionClosed: The session was closed.
            Exception: What :meth:`run` raises for a bad feed.
        """
        from ort_rknn.engine.submission import Submission

        if run_options is not None:
            from ort_rknn.sessions.batch_dispatch import read_options, submit_batch

            batch, run_options = read_options(run_options, callback)
            if batch:
                return submit_batch(
                    lambda feed: self._job(Submission(output_names, feed, run_options, timeout)),
                    lambda feed: self._job(Submission(output_names, feed, run_options, parked=True)),
                    input_feed,
                )
        return self._job(Submission(output_names, input_feed, run_options, timeout, callback, user_data))

    def _job(self, submission: Submission) -> InferenceJob:
        if isinstance(self._rknn_native, ClosedSession):
            self._rknn_native.refuse()
        self._rknn_validate(list(submission.feed.keys()))
        submission.output_names = submission.output_names or [output.name for output in self.get_outputs()]
        kind = _kind(self._rknn_native)
        if kind == "dynamic":
            dynamic: DynamicSession = self._rknn_native
            return dynamic.job(self._plain_engine, submission)
        if kind:
            native: NpuSession = self._rknn_native
            return native.job(submission)
        from ort_rknn.sessions.cpu_fallback import complete_feed, listed_names, refuse_unknown

        run_options = submission.run_options
        names = listed_names(self._rknn_native.run, submission.output_names, submission.feed, run_options)
        refuse_unknown(self._rknn_native, names, submission.feed, run_options)
        feed = complete_feed(self._rknn_native, submission.feed)
        job: InferenceJob = self._engine().accept(submission.with_feed(names, feed))
        return job

    @property
    def shape_states(self) -> tuple[ShapeState, ...]:
        """State of each input shape met so far; empty for a model whose shapes are fixed. Not in onnxruntime."""
        return self._rknn_native.shape_states if _kind(self._rknn_native) == "dynamic" else ()

    def wait_compiled(self, timeout: float | None = None) -> bool:
        """Wait until no input shape met so far is waiting or compiling. Not in onnxruntime.

        Args:
            timeout: Seconds; ``None`` waits for ever.

        Returns:
            Whether that came to be; ``shape_states`` and ``plan`` say what became of each shape.
        """
        return _kind(self._rknn_native) != "dynamic" or bool(self._rknn_native.wait_compiled(timeout))

    def _engine(self) -> Any:
        """Engine behind the asynchronous methods; made on first use where onnxruntime alone runs the model."""
        engine = self._existing_engine()
        return self._plain_engine() if engine is None else engine

    def _plain_engine(self) -> Engine:
        """The engine over onnxruntime; made on first use."""
        engine = self._rknn_async_engine
        if engine is None:
            from ort_rknn.sessions.cpu_fallback import plain_engine

            native = self._rknn_native
            if _kind(native) == "dynamic":
                from ort_rknn.sessions.dynamic import WithoutVariants

                native = WithoutVariants(native)
            with _making_an_engine:
                engine = self._rknn_async_engine
                if engine is None:
                    engine = self._rknn_async_engine = plain_engine(native, self._rknn_engine_options)
        return engine

    def _existing_engine(self) -> Any:
        if _kind(self._rknn_native) == "dynamic":
            from ort_rknn.sessions.engine_group import EngineGroup

            own = () if self._rknn_async_engine is None else (self._rknn_async_engine,)
            return EngineGroup((*self._rknn_native.engines(), *own), self._rknn_native.stop_compiling)
        return self._rknn_native.engine if _kind(self._rknn_native) else self._rknn_async_engine


def _checked_device(device: Any) -> Any:
    """The keyword ``device``: the name of one, a device, or a function that makes one.

    Raises:
        InvalidOption: It is none of these.
    """
    from ort_rknn.devices.base import Device

    if isinstance(device, str):
        from ort_rknn.options.table import RknnOptions

        return RknnOptions.parse({"device": device}).device
    if callable(device) or isinstance(device, Device):
        return device
    raise InvalidOption(f"device must be a device's name, a Device, or a function that makes one, not {device!r}")


def _kind(native: Any) -> str:
    """Kind of a native session of ours (:attr:`ort_rknn.sessions.base.NativeSession.rknn_kind`); else ``""``."""
    return getattr(type(native), "rknn_kind", "")
