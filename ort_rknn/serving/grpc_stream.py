"""A stream of inferences over gRPC: answers in the order of the requests, errors among them as texts.

A stream that is ahead of the server is not refused but read more slowly, as gRPC's own flow control has it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, wait
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from ort_rknn.remote.failures import Refusal, failure_of
from ort_rknn.remote.tensors import TensorError
from ort_rknn.remote.wire import field_number, wrapped
from ort_rknn.serving.protobufs import Answers, Asked, inputs_of
from ort_rknn.serving.service import LetIn, Service
from ort_rknn.serving.statistics import log_access

__all__ = ["MOST_STREAMS", "GrpcClient", "Stream"]

MOST_STREAMS = 8
"""Streams open at once; each keeps two threads (a guess)."""

_NO_DEADLINE_S = 1e7  # no client waits for months
_LOOK_S = 0.2  # how long a stream that waits may not notice that the server is going down (a guess)
_FINAL = "triton_enable_empty_final_response", "triton_final_response"  # Triton's: who asks is told which is the last

messages: Any = service_pb2


class GrpcClient:
    """The client of a call.

    Args:
        context: gRPC's, of the call.
    """

    __slots__ = ("_context",)

    def __init__(self, context: Any) -> None:
        self._context = context

    def time_left(self) -> float | None:
        """Seconds until its deadline; ``None`` without one, which gRPC gives as one in the year 292 billion."""
        left = self._context.time_remaining()
        return None if left is None or left > _NO_DEADLINE_S else float(left)

    def gone(self) -> bool:
        """Whether it has cancelled the call, or its connection ended."""
        return not self._context.is_active()


class Stream:
    """One stream, from its first request to its last answer.

    Args:
        service: The logic.
        answers: Writes them.
        threads: As many as the service lets calls in.
        context: gRPC's, of the stream.
    """

    def __init__(
        self,
        service: Service,
        answers: Answers,
        threads: Executor,
        context: Any,
    ) -> None:
        self._service = service
        self._writer = answers
        self._threads = threads
        self._context = context
        self._client = GrpcClient(context)
        self._answers: queue.SimpleQueue[Future[bytes] | None] = queue.SimpleQueue()
        self._places: deque[LetIn | None] = deque()  # one for each answer that is owed; None for a refusal
        self._written = threading.Event()
        self._broken: Exception | None = None

    def answers(self, requests: Iterator[Asked | TensorError]) -> Iterator[bytes]:
        """The answers, as they are to be sent."""
        if not self._context.add_callback(self._gone):
            return
        threading.Thread(target=self._read, args=(requests,), name="ort_rknn stream reader", daemon=True).start()
        while (answer := self._next()) is not None:
            while not wait([answer], timeout=_LOOK_S).done:
                if not self._context.is_active():
                    return
            yield answer.result(0)
            self._leave()  # only now, so that a client that does not read fills nothing but its own places
        if self._broken is not None:
            raise self._broken
        if self._service.draining:
            self._context.abort(grpc.StatusCode.UNAVAILABLE, "the server is going down")

    def _next(self) -> Future[bytes] | None:
        while True:
            try:
                return self._answers.get(timeout=_LOOK_S)
            except queue.Empty:
                if self._service.draining and not self._places:
                    return None

    # --- requests -----------------------------------------------------------------------------------------------------

    def _read(self, requests: Iterator[Asked | TensorError]) -> None:
        try:
            for request in requests:
                if self._service.draining:
                    break
                self._accept(request)
        except Exception as error:  # gRPC's own, when the client has gone
            self._broken = error
        finally:
            self._answers.put_nowait(None)

    def _accept(self, request: Asked | TensorError) -> None:
        answer: Future[bytes] = Future()
        try:
            if isinstance(request, TensorError):
                raise request
            place = self._place()
        except (Refusal, TensorError) as refusal:
            self._places.append(None)
            answer.set_result(_error(request, refusal))
        else:
            self._places.append(place)
            answer = self._threads.submit(self._infer, request)
        self._answers.put_nowait(answer)
        if not self._context.is_active():  # it went while this was entered: nobody else gives the place back
            self._gone()

    def _place(self) -> LetIn:
        """A place among the calls under way; while this stream holds others, one of them is waited for.

        Raises:
            Refusal: All places are held by others.
        """
        while True:
            self._written.clear()
            try:
                return self._service.let_in()
            except Refusal:
                if self._service.draining or not any(self._places) or not self._context.is_active():
                    raise
            self._written.wait(_LOOK_S)

    def _infer(self, request: Asked) -> bytes:
        begun, code = time.monotonic(), "OK"
        try:
            call = request.head.call
            pieces = self._writer.pieces(request.head.id, *self._service.infer(call, inputs_of(request), self._client))
            if call.parameters.get(_FINAL[0]):
                last = messages.ModelInferResponse()
                last.parameters[_FINAL[1]].bool_param = True
                pieces.append(last.SerializeToString())  # messages of one kind, one behind the other, are merged
            return wrapped(field_number(messages.ModelStreamInferResponse, "infer_response"), pieces)
        except Exception as error:
            code = failure_of(error).code
            return _error(request, error)
        finally:
            model = request.head.call.model
            log_access("grpc", self._context.peer(), "ModelStreamInfer", model, code, time.monotonic() - begun)

    # --- places -------------------------------------------------------------------------------------------------------

    def _leave(self) -> None:
        try:
            place = self._places.popleft()
        except IndexError:  # the stream has ended, and all places were given back
            return
        if place is not None:
            with place:
                pass
        self._written.set()

    def _gone(self) -> None:
        """Gives all places back when the stream has ended; calls under way notice by themselves."""
        while self._places:
            self._leave()
        self._answers.put_nowait(None)


def _error(request: Asked | TensorError, error: Exception) -> bytes:
    answer = messages.ModelStreamInferResponse(error_message=failure_of(error).text)
    if isinstance(request, Asked):
        answer.infer_response.id, answer.infer_response.model_name = request.head.id, request.head.call.model
    text: bytes = answer.SerializeToString()
    return text
