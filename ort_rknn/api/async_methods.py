"""The asynchronous verbs of a session, all over ``submit``: ``arun``, ``map``, ``run_pipeline``, ``close`` ..."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ort_rknn.errors import ClosedSession

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from ort_rknn.api.streams import Pipeline
    from ort_rknn.engine.engine import Engine
    from ort_rknn.engine.job import InferenceJob
    from ort_rknn.engine.submission import Submission
    from ort_rknn.sessions.pending_callbacks import PendingCallbacks

__all__ = ["AsyncMethods"]


class AsyncMethods:
    """Mixed into :class:`ort_rknn.api.session.InferenceSession`."""

    _rknn_native: Any
    _pipeline: Pipeline | None = None
    _pending_callbacks: PendingCallbacks | None = None

    submit: Callable[..., InferenceJob]

    def _job(self, submission: Submission) -> InferenceJob:
        raise NotImplementedError

    def _engine(self) -> Engine:
        raise NotImplementedError

    def _existing_engine(self) -> Engine | None:
        raise NotImplementedError

    async def arun(self, output_names: Any, input_feed: Mapping[str, Any], run_options: Any = None) -> list[Any]:
        """:meth:`run` for coroutines. Never blocks the event loop, not even for room in the queue.

        Cancelling the task cancels a job that still waits; one that runs goes on and its result is dropped. Where the
        queue is full, the option ``overflow`` decides as for :meth:`submit`: ``block`` lets the coroutine wait,
        ``raise`` refuses it, ``drop_oldest`` ends the oldest that still waits with ``asyncio.CancelledError``.

        Raises:
            SubmitTimeout: The queue is full, and ``overflow`` is ``raise``.
        """
        from ort_rknn.engine.submission import Submission

        return await self._job(Submission(output_names, input_feed, run_options, parked=True, awaited=True))

    def map(
        self,
        output_names: Any,
        feeds: Iterable[Mapping[str, Any]],
        *,
        depth: int | None = None,
        ordered: bool = True,
        run_options: Any = None,
    ) -> Iterator[list[Any]]:
        """Run many feeds and give the results as they come, keeping all cores busy.

        Reads ``feeds`` only as far as ``depth`` jobs are under way. Leaving the iterator early cancels what waits.

        Args:
            output_names: As :meth:`run`.
            feeds: Any iterable of feeds, endless ones too.
            depth: Jobs under way at once; by default what the queue and the cores hold.
            ordered: Give the results in the order of the feeds; else as they are finished.
            run_options: As :meth:`run`.

        Raises:
            Exception: The first error of a job, when its turn comes.
        """
        from ort_rknn.api.streams import map_feeds

        def submit(feed: Mapping[str, Any]) -> InferenceJob:
            return self.submit(output_names, feed, run_options)

        return map_feeds(submit, feeds, depth=self._engine().width if depth is None else depth, ordered=ordered)

    def run_pipeline(self, input_feed: Mapping[str, Any], depth: int = 3, reset: bool = False) -> list[Any] | None:
        """Submit a feed and return the result of the call ``depth`` calls ago.

        Args:
            input_feed: As :meth:`run`; all outputs are computed.
            depth: Jobs under way. The first ``depth`` calls return ``None``.
            reset: Throw away what is pending first.
        """
        if self._pipeline is None:
            from ort_rknn.api.streams import Pipeline

            this = weakref.proxy(self)  # or the session would keep itself alive
            self._pipeline = Pipeline(lambda feed: this.submit(None, feed))
        return self._pipeline.push(input_feed, depth, reset)

    def drain(self) -> list[list[Any]]:
        """The results that :meth:`run_pipeline` still owes, in order."""
        return [] if self._pipeline is None else self._pipeline.drain()

    def create_ortvalue_from_shape_and_type(
        self, shape: Sequence[int], element_type: Any, device_type: str, device_id: int = 0, *rest: Any, **named: Any
    ) -> Any:
        """Makes a value as onnxruntime does, with ``device_type="npu"`` too (:class:`ort_rknn.OrtValue`)."""
        from ort_rknn.ort_types.ortvalue import NPU_NAMES, OrtValue, says_more

        more = says_more(*rest, *named.values())
        if device_type in NPU_NAMES and self._existing_engine() is not None and not more:
            return OrtValue.ortvalue_from_shape_and_type(shape, element_type, device_type, device_id)
        return super().create_ortvalue_from_shape_and_type(  # type: ignore[misc]
            shape, element_type, device_type, device_id, *rest, **named
        )

    def wait_all(self, timeout: float | None = None) -> bool:
        """Wait until every accepted job has ended and its callback has returned.

        Args:
            timeout: Seconds; ``None`` waits for ever.

        Returns:
            Whether they have.
        """
        calls, engine = self._pending_callbacks, self._existing_engine()
        if calls is not None:
            if calls.here:
                raise RuntimeError("wait_all() in a callback would wait for that callback")
            begun = time.monotonic()
            if not calls.wait(timeout):
                return False
            timeout = None if timeout is None else max(0.0, timeout - (time.monotonic() - begun))
        return engine is None or engine.wait_all(timeout)

    def stats(self) -> Any:
        """Counts and times of the jobs so far (an empty record before the first asynchronous one on the CPU)."""
        stats = self._engine().stats()
        uses = getattr(self._rknn_native, "memory_uses", ())
        if uses:
            from ort_rknn_converters.util.frozen import replace

            copied = {name: why for use in uses for name, why in use.copied.items()}
            opened = [use.memory() for use in uses]
            stats = replace(
                stats,
                bound_runs=sum(use.runs for use in uses),
                copied=copied,
                npu_bytes=stats.npu_bytes + sum(size for size, _ in opened),
                open_contexts=stats.open_contexts + sum(count for _, count in opened),
            )
        return stats

    def contexts(self) -> list[Mapping[str, Any]]:
        """Describes each context that is open for this session, as its device does. Not in onnxruntime.

        On the NPU that is the core mask, the versions of runtime and driver, the bytes of memory (``memory``), the
        seconds the NPU took for the last inference (``run_s``) and, with the option ``collect_perf``, the runtime's own
        table of what each layer took (``layers``). Empty for a model on onnxruntime alone. Waits for what is under way.
        """
        engine = self._existing_engine()
        return [] if engine is None else engine.contexts()

    def close(self, *, wait: bool = True, cancel_jobs: bool = False) -> None:
        """Give everything back. May be called twice; afterwards every run raises ``SessionClosed``.

        Args:
            wait: Return only when all accepted jobs have ended.
            cancel_jobs: Cancel the jobs that still wait instead of running them.
        """
        engine = self._existing_engine()
        if engine is not None:
            engine.close(wait=wait, cancel_jobs=cancel_jobs)
        calls = self._pending_callbacks
        if calls is not None and wait and not calls.here:
            calls.wait()  # no limit: the user's own callbacks; ``wait=False`` does not wait for them
        if hasattr(type(self._rknn_native), "finish"):
            self._rknn_native.finish()
        self.__class__ = getattr(type(self), "_rknn_long", type(self))
        self._rknn_native = ClosedSession()

    async def aclose(self) -> None:
        """:meth:`close` without blocking the event loop."""
        import asyncio

        await asyncio.get_running_loop().run_in_executor(None, self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
