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
from ort_rknn.opening.open_npu import SHOWN, settle, stub_options
from ort_rknn.ort_conventions import RKNN_PROVIDER, ort_error
from ort_rknn.ort_private.native import NativeBase, start_native
from ort_rknn.ort_types.adapters import has_adapters
from ort_rknn.ort_types.session_options import NO_CPU, clone, config_entry
from ort_rknn.remote.engine import address_of, remote_engine, remote_plan
from ort_rknn.remote.model import RemoteModel
from ort_rknn.remote.outside import stub_of
from ort_rknn.sessions.cpu_fallback import WholeModel, complete_feed
from ort_rknn.sessions.npu import NpuParts, NpuSession

if TYPE_CHECKING:
    from ort_rknn.engine.job import InferenceJob
    from ort_rknn.options.request import Request

__all__ = ["RemoteNative", "open_remote"]


class RemoteNative(NpuSession):
    """A native session of the stub, run by another machine. Made by :func:`open_remote` only."""

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

    def _checked(self, output_names: Any, feed: Mapping[str, Any], run_options: Any) -> Any:
        if run_options is not None and has_adapters(run_options):
            raise ort_error("NotImplemented", "LoRA adapters cannot be sent to another machine")
        return self._checker.check(output_names, feed, run_options, partial(NativeBase.run, self))

    def _numeric(self, values: Any, output_names: Sequence[str]) -> bool:
        return True  # strings travel as well; what cannot, the call refuses


def open_remote(text: str, options: Mapping[str, Any], user: Any, request: Request) -> RemoteNative:
    """Open a session of a model on another machine.

    Args:
        text: The address.
        options: The provider's options that were given, read.
        user: The session options, or ``None``.
        request: The other providers, which the stub is opened with.

    Raises:
        DeviceUnavailable: No server answers there.
        InferenceTimeout: A server does not answer in time.
        InvalidOption: The address or an option makes no sense.
        Exception: What onnxruntime raises for the model on the server.
    """
    begun = time.perf_counter()
    address, timeout = address_of(text, options)
    model = RemoteModel(address, timeout)
    try:
        return _open(model, options, user, request, begun)
    except BaseException:
        model.close()
        raise


def _open(model: RemoteModel, options: Mapping[str, Any], user: Any, request: Request, begun: float) -> RemoteNative:
    stub = stub_of(model.outside) if model.stub is None else model.stub
    own = clone(user)
    shown = {name: getattr(own, name) for name in SHOWN}
    profiled = own.enable_profiling
    settle(own, npu_only=config_entry(user, NO_CPU) == "1")
    request.warn_of_doubles(user)
    native: RemoteNative = start_native(
        request.providers, request.provider_options, RemoteNative, stub_options(own), stub, set()
    )
    profile = None
    if profiled:
        from ort_rknn.ort_types.profiling import Profile

        profile = Profile(own.profile_file_prefix)
        profile.session_event("model_loading_uri", begun)
        profile.session_event("session_initialization", begun)
        profile.end_with(native)
    engine = remote_engine(model, options, profile)
    native.attach(
        NpuParts(
            engine=engine,
            plan=remote_plan(model),
            provider_options={name: str(value) for name, value in options.items()},
            npu=RKNN_PROVIDER in model.outside.providers,
            shapes={},
            whole=WholeModel(None, "the model is on another machine"),
            shown=shown,
            profile=profile,
        )
    )
    return native
