"""The gRPC door: the calls of the Open Inference Protocol and those of Triton's that clients use.

Inferences are read and written by :mod:`ort_rknn.remote.wire`, all else by the published protocol buffers.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from ort_rknn.errors import InvalidOption
from ort_rknn.remote.failures import KIND_KEY, Refusal, failure_of
from ort_rknn.serving.grpc_stream import MOST_STREAMS, GrpcClient, Stream
from ort_rknn.serving.protobufs import Answers, Asked, Requests, inputs_of
from ort_rknn.serving.security import Listen, Tokens
from ort_rknn.serving.service import EXTENSIONS, NAME, Service, model_statistics, server_version
from ort_rknn.serving.statistics import log_access, logs_access
from ort_rknn.serving.workers import Workers

__all__ = ["GrpcFront"]

_MORE_THREADS = 8  # beside those of the inferences: health, metadata, refusals (a guess)
_QUEUE = 64  # calls without a thread yet, of which nothing has been read; more are refused by gRPC (a guess)
_AHEAD = 4 << 20  # bytes of a request that come in before anybody asks for them: a picture at once (measured)
_LEAST_FRAME = 16 << 10  # the standard's
_SERVICE = "inference.GRPCInferenceService"
_OPEN_TO_ALL = ("/inference.GRPCInferenceService/ServerLive", "/inference.GRPCInferenceService/ServerReady")
"""Calls that probes make, which have no token; they tell nothing else."""

messages: Any = service_pb2


class _NotAPage(logging.Filter):
    """Keeps bytes that are no message from writing a traceback each into the log; their client gets the status."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Exception deserializing")


logging.getLogger("grpc._common").addFilter(_NotAPage())


class GrpcFront:
    """A gRPC server over a service.

    Args:
        service: The logic.
        places: Where to listen.
        tokens: Who may call.
        most_bytes: Of one request.
        tls: Private key and certificate chain in PEM, or ``None``.

    Attributes:
        ports: The port of each place; of port 0, the one that was free.

    Raises:
        InvalidOption: A place cannot be had.
    """

    def __init__(
        self,
        service: Service,
        places: list[Listen],
        tokens: Tokens,
        *,
        most_bytes: int,
        tls: tuple[bytes, bytes] | None = None,
    ) -> None:
        threads = service.pending + _MORE_THREADS + MOST_STREAMS
        self._pool = Workers(threads, "ort_rknn grpc")
        self._server: Any = grpc.server(
            self._pool,
            interceptors=[_Door(tokens)] if tokens.wanted else [],
            maximum_concurrent_rpcs=threads + _QUEUE,
            options=[
                ("grpc.max_receive_message_length", most_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_metadata_size", 16 << 10),
                # with windows of 64 kB that its probes let grow, and frames of 16 kB, 1.2 MB cost twice (measured)
                ("grpc.http2.bdp_probe", 0),
                ("grpc.http2.lookahead_bytes", max(_LEAST_FRAME, min(most_bytes, _AHEAD))),
                ("grpc.http2.max_frame_size", max(_LEAST_FRAME, min(most_bytes, _AHEAD))),
                ("grpc.so_reuseport", 0),  # or a second server would take half of the calls without a word
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),  # clients of ours ask every 10 s
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.keepalive_time_ms", 60_000),  # clients whose cable was cut are forgotten
                ("grpc.keepalive_timeout_ms", 20_000),
            ],
        )
        self._calls = _Calls(service)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self._calls, _Registrar(self._server, self._calls))
        credentials = grpc.ssl_server_credentials([tls]) if tls is not None else None
        self.ports = [self._listen(place, credentials) for place in places]

    def _listen(self, place: Listen, credentials: Any) -> int:
        if place.unix and _answers(place.unix):
            raise InvalidOption(f"cannot listen at {place}: another server does")
        try:
            if credentials is not None and not place.unix:
                return int(self._server.add_secure_port(str(place), credentials))
            return int(self._server.add_insecure_port(str(place)))
        except RuntimeError as error:
            raise InvalidOption(f"cannot listen at {place}: {_why_not(place)}") from error

    def start(self) -> None:
        """Take calls."""
        self._server.start()

    def stop(self, grace: float) -> None:
        """Take no more calls, let those under way end, at most ``grace`` seconds."""
        self._server.stop(grace).wait(grace + 5)
        self._pool.shutdown()
        self._calls.close()


def _answers(path: str) -> bool:
    """Whether somebody listens at a unix socket: gRPC would take its file away without a word."""
    with socket.socket(socket.AF_UNIX) as tried:
        tried.settimeout(1)
        try:
            tried.connect(path)
        except OSError:  # nothing is there, or what a server that was killed has left
            return False
    return True


def _why_not(place: Listen) -> str:
    """Finds the reason that a place cannot be had, in the system's words: gRPC's error has none."""
    try:
        if place.unix:
            Path(place.unix).parent.stat()
            return "it is in use, no socket, or in a folder that cannot be written"
        family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
        with socket.socket(family) as tried:
            tried.bind((place.host, place.port))
    except OSError as error:
        return str(error.strerror or error)
    return "it is taken, or not of this machine"


class _Registrar:
    """Stands for the server while the published code registers its calls: inferences are read and written our way.

    Args:
        server: The server.
        calls: The calls.
    """

    def __init__(self, server: Any, calls: _Calls) -> None:
        self._server = server
        requests = Requests(messages)
        stream = grpc.stream_stream_rpc_method_handler(calls.ModelStreamInfer, requests.read_or_say, bytes)
        self._own = {
            "ModelInfer": grpc.unary_unary_rpc_method_handler(calls.ModelInfer, requests.read, bytes),
            "ModelStreamInfer": stream,
        }

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        own = grpc.method_handlers_generic_handler(_SERVICE, self._own)
        self._server.add_generic_rpc_handlers((own, *handlers))  # the first that knows a call has it

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        self._server.add_registered_method_handlers(service, {**handlers, **self._own})


class _Door(grpc.ServerInterceptor):  # type: ignore[misc]
    """Refuses who shows no token, before the request is read."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._refusal = grpc.stream_stream_rpc_method_handler(_refuse)  # reads nothing

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        shown = next((value for key, value in details.invocation_metadata if key == "authorization"), None)
        if self._tokens.open_to(shown) or details.method in _OPEN_TO_ALL:
            return continuation(details)
        return self._refusal


def _refuse(_: Any, context: Any) -> Any:
    context.abort(
        grpc.StatusCode.UNAUTHENTICATED, "no token, or a wrong one: send the metadata authorization: Bearer TOKEN"
    )


def _handled(function: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    """A call whose exceptions become statuses, and which is entered in the access log."""

    def handle(self: Any, request: Any, context: Any) -> Any:
        begun = time.monotonic()
        code = "OK"
        try:
            return function(self, request, context)
        except Exception as error:
            failure = failure_of(error)
            code = failure.code
            if failure.kind:
                context.set_trailing_metadata(((KIND_KEY, failure.kind),))
            context.abort(getattr(grpc.StatusCode, code), failure.text)
        finally:
            if logs_access():
                if isinstance(request, Asked):
                    model = request.head.call.model
                else:
                    model = getattr(request, "model_name", "") or getattr(request, "name", "")
                log_access("grpc", context.peer(), function.__name__, model, code, time.monotonic() - begun)

    return handle


class _Calls(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """The calls; what is not here is UNIMPLEMENTED, by gRPC."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._answers = Answers(messages)
        self._streams = threading.BoundedSemaphore(MOST_STREAMS)
        self._streamed = ThreadPoolExecutor(service.pending, thread_name_prefix="ort_rknn stream")

    def close(self) -> None:
        """Give the threads of the streams back."""
        self._streamed.shutdown(wait=False, cancel_futures=True)

    @_handled
    def ServerLive(self, request: Any, context: Any) -> Any:
        return messages.ServerLiveResponse(live=True)

    @_handled
    def ServerReady(self, request: Any, context: Any) -> Any:
        return messages.ServerReadyResponse(ready=self._service.ready)

    @_handled
    def ServerMetadata(self, request: Any, context: Any) -> Any:
        return messages.ServerMetadataResponse(name=NAME, version=server_version(), extensions=EXTENSIONS)

    @_handled
    def ModelReady(self, request: Any, context: Any) -> Any:
        return messages.ModelReadyResponse(ready=self._service.repository.is_ready(request.name, request.version))

    @_handled
    def ModelMetadata(self, request: Any, context: Any) -> Any:
        with self._service.repository.use(request.name, request.version, self._wait(context)) as model:
            return ParseDict(model.metadata(), messages.ModelMetadataResponse())

    @_handled
    def ModelConfig(self, request: Any, context: Any) -> Any:
        with self._service.repository.use(request.name, request.version, self._wait(context)) as model:
            config = ParseDict(model.config, model_config_pb2.ModelConfig())
            return messages.ModelConfigResponse(config=config)

    @_handled
    def ModelInfer(self, request: Any, context: Any) -> Any:
        service, head = self._service, request.head
        service.enter()
        try:
            outputs, arrays = service.infer(head.call, inputs_of(request), GrpcClient(context))
            return b"".join(self._answers.pieces(head.id, outputs, arrays))
        finally:
            service.leave()

    def ModelStreamInfer(self, requests: Any, context: Any) -> Any:
        if not self._streams.acquire(blocking=False):
            text = f"{MOST_STREAMS} streams are open, which is all this server takes: try again, or call ModelInfer"
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        try:
            stream = Stream(self._service, self._answers, self._streamed, context)
            yield from stream.answers(requests)
        finally:
            self._streams.release()

    @_handled
    def ModelStatistics(self, request: Any, context: Any) -> Any:
        rows = model_statistics(self._service.repository, request.name, request.version)
        return ParseDict({"model_stats": rows}, messages.ModelStatisticsResponse())

    @_handled
    def RepositoryIndex(self, request: Any, context: Any) -> Any:
        answer = messages.RepositoryIndexResponse()
        for entry in self._service.repository.index():
            if entry.state == "READY" or not request.ready:
                answer.models.add(name=entry.name, version="1", state=entry.state, reason=entry.reason)
        return answer

    @_handled
    def RepositoryModelLoad(self, request: Any, context: Any) -> Any:
        if request.parameters:
            raise Refusal(
                "INVALID_ARGUMENT", "models are files in the served folder: a load takes no config and no files"
            )
        self._service.repository.load(request.model_name, self._wait(context))
        return messages.RepositoryModelLoadResponse()

    @_handled
    def RepositoryModelUnload(self, request: Any, context: Any) -> Any:
        self._service.repository.unload(request.model_name)
        return messages.RepositoryModelUnloadResponse()

    def _wait(self, context: Any) -> float:
        left = GrpcClient(context).time_left() or self._service.load_limit
        return min(0.95 * left, self._service.load_limit)  # that it is still being opened is to be said in time
