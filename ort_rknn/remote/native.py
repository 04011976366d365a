"""The native side of a session on another machine: a stub here, an engine whose one step is the call there.

All that judges feeds, binds memory, queues and delivers is that of a session with an NPU part.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any

from ort_rknn.engine.submission import Submission
from ort_rknn.errors import InvalidOption
from ort_rknn.opening.open_npu import SHOWN, pinned, settle, stub_options
from ort_rknn.ort_conventions import RKNN_PROVIDER, ort_error
from ort_rknn.ort_private.arguments import check_providers
from ort_rknn.ort_private.native import NativeBase, start_native
from ort_rknn.ort_private.own import public
from ort_rknn.ort_types.adapters import has_adapters
from ort_rknn.ort_types.session_options import NO_CPU, clone, config_entry
from ort_rknn.remote.engine import address_of, remote_engine, remote_plan
from ort_rknn.remote.model import RemoteModel
from ort_rknn.sessions.cpu_fallback import WholeModel, complete_feed
from ort_rknn.sessions.npu import NpuParts, NpuSession
from ort_rknn_converters.util.frozen import frozen

if TYPE_CHECKING:
    from ort_rknn.engine.job import InferenceJob

__all__ = ["Connection", "RemoteNative", "connect_to", "open_stub"]


class RemoteNative(NpuSession):
    """A native session of the stub, run by another machine. Made by :func:`open_stub` only."""

    def run(self, output_names: Any, input_feed: Mapping[str, Any], run_options: Any = None) -> list[Any]:
        """Mirrors onnxruntime's native ``run``."""
        from ort_rknn.sessions.batch_dispatch import read_options

        if run_options is not None and read_options(run_options)[0]:
            return super().run(output_names, input_feed, run_options)
        checked = self._checked(output_names, input_feed, run_options)
        results = self._parts.engine.run(complete_feed(self, checked.feed), checked.outputs, run_options)
        return results if len(set(checked.outputs)) == len(results) else [deepcopy(value) for value in results]

    def job(self, submission: Submission) -> InferenceJob:
        """Queue one call."""
        checked = self._checked(submission.output_names, submission.feed, submission.run_options)
        feed = complete_feed(self, checked.feed)
        return self._parts.engine.accept(submission.with_feed(checked.outputs, feed))

    def start_common(self, output_names: Any, input_feed: Any, callback: Any, user_data: Any) -> bool:
        """Leaves every call to :meth:`run_async`: the server wants the inputs that were left out, too."""
        return False

    def _checked(self, output_names: Any, feed: Mapping[str, Any], run_options: Any) -> Any:
        checked = self._checker.check(output_names, feed, run_options, partial(NativeBase.run, self))
        if run_options is not None and has_adapters(run_options):
            raise ort_error("NotImplemented", "LoRA adapters cannot be sent to another machine")
        return checked

    def _numeric(self, values: Any, output_names: Sequence[str]) -> bool:
        return True  # strings travel as well; what cannot, the call refuses


@frozen
class Connection:
    """A model that answered, and what its session is opened with.

    Attributes:
        model: The model there.
        options: The provider's options that were given, read.
        user: The session options, or ``None``.
        begun: When the opening began, on the performance counter.
    """

    model: RemoteModel
    options: Mapping[str, Any]
    user: Any
    begun: float


def connect_to(text: str, options: Mapping[str, Any], user: Any) -> Connection:
    """Ask a server for its model.

    Args:
        text: The address.
        options: The provider's options that were given, read.
        user: The session options, or ``None``.

    Raises:
        DeviceUnavailable: No server answers there.
        InferenceTimeout: A server does not answer in time.
        InvalidOption: The address or an option makes no sense.
        Exception: What onnxruntime raises for the model on the server.
    """
    begun = time.perf_counter()
    if getattr(user, "_rknn_replaced_weights", ()) or getattr(user, "optimized_model_filepath", ""):
        raise InvalidOption(
            "the model is on another machine: session options here can neither replace its weights nor have its "
            "optimized form written"
        )
    address, timeout = address_of(text, options)
    return Connection(RemoteModel(address, timeout), options, user, begun)


def open_stub(there: Connection, providers: Any, provider_options: Any) -> RemoteNative:
    """Open the native session of a model that answered.

    Args:
        there: The model.
        providers: Of onnxruntime's own, as given to the session: the stub is opened with them.
        provider_options: Likewise.

    Raises:
        Exception: What onnxruntime raises for these providers.
    """
    try:
        return _open(there, providers, provider_options)
    except BaseException:
        there.model.close()
        raise


def _open(there: Connection, providers: Any, provider_options: Any) -> RemoteNative:
    model, user = there.model, there.user
    names, given = check_providers(providers or [], provider_options, public("get_available_providers")())
    stub = model.made_stub() if model.stub is None else model.stub
    if dims := getattr(user, "_rknn_dims", {}):
        stub = pinned(stub, dims)
    own = clone(user)
    shown = {name: getattr(own, name) for name in SHOWN}
    profiled = own.enable_profiling
    settle(own, npu_only=config_entry(user, NO_CPU) == "1")
    native: RemoteNative = start_native(names, given, RemoteNative, stub_options(own), stub, set())
    profile = None
    if profiled:
        from ort_rknn.ort_types.profiling import Profile

        profile = Profile(own.profile_file_prefix)
        profile.session_event("model_loading_uri", there.begun)
        profile.session_event("session_initialization", there.begun)
        profile.end_with(native)
    native.attach(
        NpuParts(
            engine=remote_engine(model, there.options, profile),
            plan=remote_plan(model),
            provider_options={name: str(value) for name, value in there.options.items()},
            npu=RKNN_PROVIDER in model.outside.providers,
            shapes={},
            whole=WholeModel(None, "the model is on another machine"),
            shown=shown,
            profile=profile,
        )
    )
    return native
