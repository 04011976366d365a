"""The native side of a session with several variants: onnxruntime's own session, with the compiled ones beside it.

Each call goes by the shapes of its feed, and the values of pinned inputs: to the variant that was compiled for them,
else to onnxruntime, whose inputs, outputs, metadata, checks and errors are the session's own all the time.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_rknn.engine.engine import Engine
from ort_rknn.ort_conventions import ort_error
from ort_rknn.sessions.base import NativeSession
from ort_rknn.sessions.cpu_fallback import complete_feed, listed_names
from ort_rknn.sessions.feed import InputSpec
from ort_rknn.sessions.pending_callbacks import KeepAliveCallback
from ort_rknn.sessions.pinned_values import PinnedValues
from ort_rknn.sessions.shape_variants import ShapeState, Variants
from ort_rknn.sessions.value_calls import run_copied
from ort_rknn_converters.util.frozen import frozen

if TYPE_CHECKING:
    from ort_rknn.engine.job import InferenceJob
    from ort_rknn.engine.submission import Submission
    from ort_rknn.sessions.npu import NpuSession
    from ort_rknn.sessions.zero_copy_policy import MemoryUse
    from ort_rknn.variant_keys import VariantKey
    from ort_rknn_converters.partition.plan import Plan

__all__ = ["DynamicParts", "DynamicSession", "WithoutVariants"]


@frozen
class DynamicParts:
    """Parts of a session with several variants.

    Attributes:
        variants: The compiled variants.
        keys: Names of the inputs whose shapes decide.
        values: Sets of input values that have variants of their own; empty where values decide nothing.
        plan: What is known of the whole model.
        provider_options: The provider's options as strings.
        npu: Whether a device other than onnxruntime runs the variants.
        refusal: What to say to shapes and values without a variant where the session is a stub that computes nothing.
    """

    variants: Variants
    keys: tuple[str, ...]
    values: tuple[Mapping[str, str], ...]
    plan: Plan
    provider_options: Mapping[str, str]
    npu: bool
    refusal: str = ""


class DynamicSession(NativeSession):
    """A native session of the whole model. Made by :mod:`ort_rknn.opening.open_dynamic` only."""

    _parts: DynamicParts
    rknn_kind = "dynamic"
    reads_bindings = True

    def attach(self, parts: DynamicParts) -> None:
        """Give the opened session its variants."""
        self._parts = parts
        self._variants = parts.variants
        self._profiling = bool(self.session_options.enable_profiling)
        self._folder = Path.cwd()  # where onnxruntime has opened the profile
        specs = {argument.name: InputSpec.of(argument) for argument in self.inputs_meta}
        self._specs = tuple((name, specs[name]) for name in sorted(parts.keys))
        self._values = PinnedValues(parts.values, self._dtypes(), warn=not parts.refusal)
        self._defaults = tuple(argument.name for argument in self.overridable_initializers)

    # --- running ------------------------------------------------------------------------------------------------------

    def run(self, output_names: Any, input_feed: Mapping[str, Any], run_options: Any = None) -> Any:
        """Mirrors onnxruntime's native ``run``."""
        key, variant = self._choose(input_feed)
        if variant is not None:
            return variant.run(output_names, input_feed, run_options)
        results = super().run(output_names, input_feed, run_options)
        self._want(key)
        return results

    def job(self, engine: Callable[[], Engine], submission: Submission) -> InferenceJob:
        """Queue one inference; see :meth:`ort_rknn.api.session.InferenceSession.submit`.

        Args:
            engine: Gives the engine over :class:`WithoutVariants`, for what onnxruntime answers.
            submission: The call.
        """
        key, variant = self._choose(submission.feed)
        if variant is not None:
            return variant.job(submission)
        names = listed_names(super().run, submission.output_names or (), submission.feed, submission.run_options)
        whole = submission.with_feed(names, complete_feed(self, submission.feed))
        job = engine().accept(whole)
        if key is not None:
            job.add_done_callback(partial(_want_after, weakref.ref(self), key))
        return job

    def run_async(
        self,
        output_names: Any,
        input_feed: Mapping[str, Any],
        callback: Callable[..., object],
        user_data: Any,
        run_options: Any = None,
    ) -> None:
        """Mirrors onnxruntime's native ``run_async``."""
        key, variant = self._choose(input_feed)
        if variant is not None:
            told = KeepAliveCallback(callback, self) if callable(callback) else callback
            variant.run_async(output_names, input_feed, told, user_data, run_options)
            return
        super().run_async(output_names, input_feed, callback, user_data, run_options)
        self._want(key)

    def run_with_ort_values(
        self, input_dict: Mapping[str, Any], output_names: Sequence[str], run_options: Any = None
    ) -> Any:
        """Mirrors onnxruntime's native call."""
        key, variant = self._choose(input_dict)
        if variant is not None:
            return variant.run_with_ort_values(input_dict, output_names, run_options)
        results = super().run_with_ort_values(input_dict, output_names, run_options)
        self._want(key)
        return results

    def run_with_ortvaluevector(
        self,
        run_options: Any,
        feed_names: Sequence[str],
        feeds: Any,
        fetch_names: Sequence[str],
        fetches: Any,
        fetch_devices: Any,
    ) -> None:
        """Mirrors onnxruntime's native call."""
        key, variant = self._choose(dict(zip(feed_names, feeds, strict=False)))
        run = super().run_with_ortvaluevector if variant is None else variant.run_with_ortvaluevector
        run(run_options, feed_names, feeds, fetch_names, fetches, fetch_devices)
        self._want(key)

    def run_with_iobinding(self, binding: Any, run_options: Any = None) -> None:
        """Mirrors onnxruntime's native call."""
        record = getattr(binding, "rknn_record", None)
        key, variant = (None, None) if record is None else self._choose(record.feed(self._dtypes()))
        if variant is not None:
            variant.run_with_iobinding(binding, run_options)
            return
        if record is not None and record.on_npu:  # onnxruntime would read and write the stand-ins
            run_copied(self, self._dtypes(), binding, run_options)
            return
        super().run_with_iobinding(binding, run_options)
        self._want(key)

    # --- questions ----------------------------------------------------------------------------------------------------

    @property
    def plan(self) -> Plan:
        """The placement in the first variant that is ready, and the state of every shape in the notes."""
        notes = self._variants.notes()
        ready = self._variants.sessions()
        if not ready:
            return self._parts.plan.with_notes(*notes)
        table = ready[0].plan
        first = next(state for state in self._variants.states() if state.state == "ready")
        which = (f"the table is that of {first.name}",) if self._specs or self._values else ()
        return table.with_notes(*self._parts.plan.notes, *which, *notes)

    @property
    def shape_states(self) -> tuple[ShapeState, ...]:
        """State of each shape."""
        return self._variants.states()

    def wait_compiled(self, timeout: float | None = None) -> bool:
        """Waits as :meth:`ort_rknn.api.session.InferenceSession.wait_compiled`."""
        return self._variants.wait(timeout)

    def stop_compiling(self) -> None:
        """End what is compiled in the background."""
        self._variants.close()

    @property
    def memory_uses(self) -> tuple[MemoryUse, ...]:
        """Use that the variants made of bindings with NPU memory."""
        uses = (session.memory_use for session in self._variants.sessions())
        return tuple(use for use in uses if use is not None)

    def engines(self) -> tuple[Engine, ...]:
        """Engines of the variants."""
        return tuple(session.engine for session in self._variants.sessions())

    def end_profiling(self) -> str:
        """Mirrors onnxruntime's; what the NPU did stands in the same file."""
        name: str = super().end_profiling()
        profiles = [session.profile for session in self._variants.sessions() if session.profile is not None]
        if name and profiles:
            from ort_rknn.ort_types.profiling import add_to

            add_to(self._folder / name, self.get_profiling_start_time_ns, profiles)
        self._profiling = False
        return name

    def finish(self) -> None:
        """Write the profile if nobody did."""
        if self._profiling:
            self.end_profiling()

    def __del__(self) -> None:
        if getattr(self, "_profiling", False):
            self.end_profiling()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _choose(self, feed: Mapping[str, Any]) -> tuple[VariantKey | None, NpuSession | None]:
        key = self._key(feed)
        variant = None if key is None else self._variants.find(key)
        if variant is None and self._parts.refusal:
            if key is None:
                super().run(
                    [argument.name for argument in self.outputs_meta], feed, None
                )  # onnxruntime says what is wrong
            raise ort_error("InvalidArgument", self._parts.refusal)
        return key, variant

    def _want(self, key: VariantKey | None) -> None:
        """The feed was found good: its shapes are worth compiling."""
        if key is not None:
            self._variants.want(key)

    def _key(self, feed: Mapping[str, Any]) -> VariantKey | None:
        """The shapes and values that decide; ``None`` for what only onnxruntime can judge or run."""
        found: list[tuple[str, tuple[int, ...] | str]] = []
        for name, spec in self._specs:
            value = feed.get(name)
            shape = _shape(value)
            if shape is None or 0 in shape or not spec.fits(shape):
                return None
            if isinstance(value, np.ndarray) and not spec.takes(value):
                return None
            found.append((name, shape))
        if any(name in feed for name in self._defaults):
            return None
        if not self._values:
            return tuple(found)
        chosen = self._values.choose(feed)
        return None if chosen is None else (*found, *sorted(chosen.items()))

    def _dtypes(self) -> dict[str, np.dtype[Any] | None]:
        return {argument.name: InputSpec.of(argument).dtype for argument in self.inputs_meta}


def _shape(value: Any) -> tuple[int, ...] | None:
    if isinstance(value, np.ndarray):
        return tuple(value.shape)
    shape = getattr(value, "shape", None)  # a method of onnxruntime's OrtValue objects
    try:
        return tuple(map(int, shape() if callable(shape) else np.shape(value)))
    except (TypeError, ValueError, RuntimeError):
        return None


def _want_after(native: weakref.ref[DynamicSession], key: VariantKey, job: InferenceJob) -> None:
    session = native()
    # no limit: called when the job has ended
    if session is not None and not job.cancelled() and job.exception() is None:
        session._want(key)


class WithoutVariants:
    """The model of a session with dynamic shapes on onnxruntime alone: what its variants fall back to.

    Args:
        native: The session; a weak reference where the session itself holds this.
    """

    def __init__(self, native: DynamicSession | weakref.ref[DynamicSession]) -> None:
        self._native = native

    def __getattr__(self, name: str) -> Any:
        holder = self._native
        native = holder() if isinstance(holder, weakref.ref) else holder
        if native is None:
            raise RuntimeError("the session was dropped while jobs of it were under way")
        return getattr(super(NativeSession, native), name)  # the class's own: the session's goes to the variants
