"""The native side of a session with an NPU part.

onnxruntime's Python ``InferenceSession`` does everything through its native side. Ours is a native session of the
model's stub (so metadata, I/O binding and option objects are onnxruntime's own), whose ways to run go to the engine
instead. Nothing of this is in the path of a session without an NPU part.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_rknn.engine.submission import Job, Submission
from ort_rknn.ort_conventions import numpy_dtype, status_text
from ort_rknn.sessions.base import NativeSession
from ort_rknn.sessions.cpu_fallback import WholeModel, complete_feed
from ort_rknn.sessions.feed import Checked, FeedChecker
from ort_rknn.sessions.pinned_values import PinnedValues
from ort_rknn_converters.util.frozen import frozen

if TYPE_CHECKING:
    from ort_rknn.engine.engine import Engine
    from ort_rknn.engine.job import InferenceJob
    from ort_rknn.ort_types.iobinding import SessionIOBinding
    from ort_rknn.ort_types.profiling import Profile
    from ort_rknn.sessions.zero_copy_policy import MemoryUse
    from ort_rknn_converters.partition.plan import Plan

__all__ = ["NpuParts", "NpuSession"]


@frozen
class NpuParts:
    """Parts of a session with an NPU part.

    Attributes:
        engine: Runs the jobs.
        plan: Which node runs where.
        provider_options: The provider's options as strings.
        npu: Whether a device other than onnxruntime runs the segments.
        shapes: Input name to the shape that was compiled, for inputs whose declared shape leaves it open.
        whole: The model on onnxruntime alone, for feeds the compiled code was not made for.
        shown: What the user's session options say where the stub's own differ, by field name.
        profile: Watches the engine, when profiling was asked for.
        at_close: Called when the engine is closed; what a session opens later is entered here.
    """

    engine: Engine
    plan: Plan
    provider_options: Mapping[str, str]
    npu: bool
    shapes: Mapping[str, tuple[int, ...]]
    whole: WholeModel
    shown: Mapping[str, Any]
    profile: Profile | None = None
    at_close: list[Callable[[], object]] = field(default_factory=list)


class NpuSession(NativeSession):
    """A native session of the stub, run by the engine. Made by :mod:`ort_rknn.api.session` only."""

    _parts: NpuParts
    rknn_kind = "npu"
    reads_bindings = True

    def attach(self, parts: NpuParts) -> None:
        """Give the opened session its engine."""
        self._parts = parts
        self._fixed_shapes = dict(parts.shapes)
        self._fixed_values = PinnedValues((parts.plan.values,), self.input_dtypes)
        self._engine_run = parts.engine.run_checked
        self._picky = bool(self._fixed_shapes or self._fixed_values)
        self._all_outputs = [argument.name for argument in self.outputs_meta]
        self.output_dtypes = {argument.name: numpy_dtype(argument.type) for argument in self.outputs_meta}
        self._opening = threading.Lock()
        self._memory_use: MemoryUse | None = None
        self._checker = FeedChecker(self.inputs_meta, self.outputs_meta, self.overridable_initializers)

    # --- running ------------------------------------------------------------------------------------------------------

    def run(self, output_names: Any, input_feed: Mapping[str, Any], run_options: Any = None) -> list[Any]:
        """Mirrors onnxruntime's native ``run``; with batch dispatch the samples run on all cores."""
        if run_options is not None:
            from ort_rknn.sessions.batch_dispatch import read_options, submit_batch

            batch, run_options = read_options(run_options)
            if batch:

                def submit(feed: Mapping[str, Any]) -> InferenceJob:
                    return self.job(Submission(output_names, feed, run_options, parked=True))

                # no limit: run() has none but run_timeout_ms, which ends the jobs
                return submit_batch(submit, submit, input_feed).result()
        checked = self._checker.check(output_names, input_feed, run_options, super().run)
        if not self._fits(checked, run_options):
            return self._parts.whole.run(checked.feed, checked.outputs, run_options)
        results = self._parts.engine.run(checked.feed, checked.outputs, run_options)
        return results if len(set(checked.outputs)) == len(results) else [deepcopy(value) for value in results]

    def run_common(self, output_names: Any, input_feed: Any) -> list[Any] | None:
        """Run a feed of plain arrays of the right types and shapes; ``None`` where it is anything else."""
        names = output_names or self._all_outputs
        feed = self._checker.common(names, input_feed)
        if feed is None or (self._picky and not self._fits(Checked(feed, names), None)):
            return None
        results = self._engine_run(feed, names)
        if len(names) > 1 and len(set(names)) < len(names):
            return [deepcopy(value) for value in results]
        return results

    def job(self, submission: Submission) -> InferenceJob:
        """Queue one inference; see :meth:`ort_rknn.api.session.InferenceSession.submit`."""
        run_options = submission.run_options
        checked = self._checker.check(submission.output_names, submission.feed, run_options, super().run)
        fits = self._fits(checked, run_options)
        engine = self._parts.engine if fits else self._parts.whole.engine()
        feed = checked.feed if fits else complete_feed(self._parts.whole.native, checked.feed)
        return engine.accept(submission.with_feed(checked.outputs, feed))

    def run_async(
        self,
        output_names: Any,
        input_feed: Mapping[str, Any],
        callback: Callable[..., object],
        user_data: Any,
        run_options: Any = None,
    ) -> None:
        """Mirrors onnxruntime's native ``run_async``: what the call itself finds wrong goes to the callback."""
        if run_options is not None:
            from ort_rknn.ort_types.adapters import without_adapters
            from ort_rknn.sessions.batch_dispatch import read_options

            _, run_options = read_options(run_options, callback)
            run_options = without_adapters(run_options, "run_async")
        if not callable(callback):
            raise TypeError(f"run_async() takes a function as callback, not {type(callback).__name__}")
        from ort_rknn.sessions.pending_callbacks import KeepAliveCallback

        deliver = KeepAliveCallback(callback, self)
        try:
            self.job(Submission(output_names, input_feed, run_options, callback=deliver, user_data=user_data))
        except Exception as error:
            if status_text(error) is None and isinstance(error, TypeError):
                # of a call of run(); said of this one, it reads like that:
                super().run_async(output_names, input_feed, callback, user_data, run_options)
            self._tell(error, callback, user_data)

    def start_common(self, output_names: Any, input_feed: Any, callback: Callable[..., object], user_data: Any) -> bool:
        """Do as :meth:`run_async` with a feed of plain arrays of the right types and shapes.

        Returns:
            ``False`` where anything is unusual: nothing has happened.
        """
        names = output_names or self._all_outputs
        feed = self._checker.common(names, input_feed)
        if feed is None or not callable(callback) or (self._picky and not self._fits(Checked(feed, names), None)):
            return False
        try:
            self._parts.engine.start(Job(callback, user_data, None, self), names, feed)
        except Exception as error:
            self._tell(error, callback, user_data)
        return True

    def _tell(self, error: Exception, callback: Callable[..., object], user_data: Any) -> None:
        """Give an error of a call to its callback, where onnxruntime would; raise any other."""
        text = status_text(error)
        if text is None:
            raise error
        from ort_rknn.sessions.pending_callbacks import KeepAliveCallback

        self._parts.engine.later(partial(KeepAliveCallback(callback, self), [], user_data, text))

    def run_with_ort_values(
        self, input_dict: Mapping[str, Any], output_names: Sequence[str], run_options: Any = None
    ) -> Any:
        """Mirrors onnxruntime's native call: ``OrtValue`` objects in, an ``OrtValueVector`` out."""
        from ort_rknn.sessions.value_calls import run_by_name

        super().run_with_ort_values(input_dict, output_names, run_options)
        return run_by_name(self, input_dict, output_names, run_options)

    def run_with_ortvaluevector(
        self,
        run_options: Any,
        feed_names: Sequence[str],
        feeds: Any,
        fetch_names: Sequence[str],
        fetches: Any,
        fetch_devices: Any,
    ) -> None:
        """Mirrors onnxruntime's native call: the results are put into ``fetches``."""
        from ort_rknn.sessions.value_calls import run_vectors

        super().run_with_ortvaluevector(run_options, feed_names, feeds, fetch_names, type(fetches)(), fetch_devices)
        run_vectors(self, run_options, feed_names, feeds, fetch_names, fetches, fetch_devices)

    def run_with_iobinding(self, binding: Any, run_options: Any = None) -> None:
        """Mirrors onnxruntime's native call."""
        from ort_rknn.sessions.value_calls import run_bound

        run_bound(self, super().run_with_iobinding, binding, run_options)

    def share(self, binding: SessionIOBinding, run_options: Any) -> bool:
        """Run on the binding's memory if this session can; says in :attr:`memory_use` why not."""
        from ort_rknn.sessions.zero_copy_policy import MemoryUse

        if self._fixed_values:
            return False  # each call's values are compared
        with self._opening:
            if self._memory_use is None:
                self._memory_use = MemoryUse.of(self._parts.engine, self._parts.at_close, self._parts.profile)
        return self._memory_use.run(binding, run_options)

    @property
    def memory_use(self) -> MemoryUse | None:
        """Use made of bindings with NPU memory; ``None`` before the first."""
        return self._memory_use

    @property
    def memory_uses(self) -> tuple[MemoryUse, ...]:
        """The session's ``memory_use`` as a tuple; empty before the first binding with NPU memory."""
        return () if self._memory_use is None else (self._memory_use,)

    # --- questions ----------------------------------------------------------------------------------------------------

    def get_provider_graph_assignment_info(self) -> list[Any]:
        """Records which node went to which provider, when the session was told to."""
        super().get_provider_graph_assignment_info()  # raises unless it was
        from ort_rknn.ort_types.assignment import assignment

        return assignment(self._parts.plan)

    def end_profiling(self) -> str:
        """Write the profile; gives its name, ``""`` the second time and without profiling."""
        profile = self._parts.profile
        return "" if profile is None else profile.end()

    @property
    def profile(self) -> Profile | None:
        """Profile that watches the engine, when profiling was asked for."""
        return self._parts.profile

    @property
    def get_profiling_start_time_ns(self) -> int:
        """Time at which profiling began, in nanoseconds of the wall clock (as onnxruntime has it); 0 without."""
        profile = self._parts.profile
        return 0 if profile is None else profile.start_time_ns

    @property
    def session_options(self) -> Any:
        """A copy of the options the session was made with."""
        options = super().session_options
        for name, value in self._parts.shown.items():
            setattr(options, name, value)
        return options

    @property
    def input_dtypes(self) -> dict[str, np.dtype[Any] | None]:
        """Numpy's dtype of each input, ``None`` where there is none."""
        return {argument.name: numpy_dtype(argument.type) for argument in self.inputs_meta}

    @property
    def whole_native(self) -> Any:
        """Native session of the whole model, opened when it is asked for."""
        return self._parts.whole.native

    @property
    def engine(self) -> Engine:
        """The engine that runs the jobs."""
        return self._parts.engine

    @property
    def plan(self) -> Plan:
        """Plan of the session."""
        return self._parts.plan

    # --- inside -------------------------------------------------------------------------------------------------------

    def _fits(self, checked: Checked, run_options: Any) -> bool:
        if checked.only_whole:
            return False
        if run_options is not None:
            from ort_rknn.ort_types.adapters import has_adapters

            if has_adapters(run_options):
                return False
        if self._fixed_values and self._fixed_values.choose(checked.feed) is None:
            return False
        fixed = self._fixed_shapes
        return not fixed or all(np.shape(checked.feed[name]) == fixed[name] for name in fixed if name in checked.feed)
