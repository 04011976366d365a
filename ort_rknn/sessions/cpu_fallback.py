"""The model on onnxruntime alone: for what no NPU code was made for, and for the jobs of plain sessions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ort_rknn.devices.program import BoundCpuStep, Program
from ort_rknn.engine.engine import Engine
from ort_rknn.engine.options import EngineOptions
from ort_rknn.ort_conventions import ort_error
from ort_rknn_converters.util.frozen import replace

__all__ = ["WholeModel", "complete_feed", "listed_names", "plain_engine", "refuse_unknown"]


class WholeModel:
    """A native onnxruntime session of a whole model, opened when it is first needed.

    Args:
        make: Opens it; ``None`` when there is compiled code only.
        why_not: What to say then.
    """

    def __init__(self, make: Callable[[], Any] | None, why_not: str = "") -> None:
        self._make = make
        self._why_not = why_not
        self._lock = threading.Lock()
        self._native: Any = None
        self._engine: Engine | None = None

    @property
    def native(self) -> Any:
        """The native session.

        Raises:
            InvalidArgument: onnxruntime's; there is compiled code only.
        """
        with self._lock:
            if self._native is None:
                if self._make is None:
                    raise ort_error("InvalidArgument", self._why_not)
                self._native = self._make()
            return self._native

    def run(self, feed: Mapping[str, Any], output_names: Sequence[str], run_options: Any = None) -> list[Any]:
        """Run once; values that are ``None`` count as not fed."""
        given = {name: value for name, value in feed.items() if value is not None}
        results: list[Any] = self.native.run(list(output_names), given, run_options)
        return results

    def engine(self) -> Engine:
        """An engine over it, for jobs."""
        native = self.native
        with self._lock:
            if self._engine is None:
                self._engine = plain_engine(native)
            return self._engine

    def close(self, *, wait: bool, cancel_jobs: bool) -> None:
        """End its jobs."""
        if self._engine is not None:
            self._engine.close(wait=wait, cancel_jobs=cancel_jobs)


class _OnnxruntimeStep:
    """A native session as a program's CPU step: what was not fed is not passed on."""

    def __init__(self, native: Any) -> None:
        self._native = native

    def run(self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], run_options: Any = None) -> Any:
        feed = {name: value for name, value in input_feed.items() if value is not None}
        return self._native.run(list(output_names or ()), feed, run_options)


def plain_engine(native: Any, options: EngineOptions | None = None) -> Engine:
    """An engine over a native onnxruntime session: the whole model is one CPU step.

    Args:
        native: The session.
        options: The engine's settings, of which those of cores say nothing here; its defaults when ``None``.
    """
    if options is not None:
        options = replace(
            options, schedule=None, tp_mode=None, threads_per_core=None, performance_hint="none", cores=None
        )
    outputs = tuple(argument.name for argument in native.outputs_meta)
    part = BoundCpuStep("onnxruntime", _input_names(native), outputs, _OnnxruntimeStep(native))
    return Engine(Program.from_steps([part], None, outputs=outputs), options or EngineOptions())


def complete_feed(native: Any, feed: Mapping[str, Any]) -> dict[str, Any]:
    """The feed with ``None`` for every input that is not fed: a program's step names all of them."""
    return dict.fromkeys(_input_names(native)) | dict(feed)


def refuse_unknown(native: Any, output_names: Sequence[str], feed: Mapping[str, Any], run_options: Any = None) -> None:
    """Raise what onnxruntime raises for names that the model does not have: a program would pass them over.

    Raises:
        InvalidArgument: onnxruntime's; there are such names.
    """
    outputs = {argument.name for argument in native.outputs_meta}
    if not outputs.issuperset(output_names) or not set(_input_names(native)).issuperset(feed):
        native.run(output_names, feed, run_options)


def listed_names(
    run: Callable[..., Any], output_names: Any, feed: Mapping[str, Any], run_options: Any = None
) -> list[str]:
    """Lists the outputs' names of one call; a string is refused as onnxruntime does, and is no list of its letters.

    Args:
        run: onnxruntime's native ``run``, which refuses such names before it runs anything.
        output_names: As given to ``run``.
        feed: As given to ``run``.
        run_options: As given to ``run``.

    Raises:
        TypeError: onnxruntime's; it is a string, or nothing that has items.
    """
    if isinstance(output_names, (str, bytes, bytearray)) or not isinstance(output_names, Iterable):
        run(output_names, feed, run_options)
    return list(output_names)


def _input_names(native: Any) -> tuple[str, ...]:
    return tuple(argument.name for argument in (*native.inputs_meta, *native.overridable_initializers))
