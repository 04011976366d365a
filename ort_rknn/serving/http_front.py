"""The HTTP door: the protocol's REST calls with JSON or binary tensors, health for probes, and the metrics.

By the standard library: one thread a connection, a bounded number of them, a time limit on every read.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from ort_rknn.errors import InvalidOption
from ort_rknn.remote.failures import KIND_HEADER, Failure, Refusal, failure_of
from ort_rknn.serving.http_messages import Body, HttpRefusal, answer_parts, call_of_json
from ort_rknn.serving.metrics import CONTENT_TYPE_LATEST, Metrics
from ort_rknn.serving.security import Listen, Tokens
from ort_rknn.serving.service import EXTENSIONS, NAME, Service, model_statistics, server_version
from ort_rknn.serving.statistics import log_access

__all__ = ["HttpFront"]

_IDLE_S = 60.0  # a connection that says nothing is closed (a guess)
_SMALL = 64 << 10  # bytes of a request that is not an inference
_MORE_CONNECTIONS = 64  # beside one for each call under way (a guess)
_JSON_LENGTH = "Inference-Header-Content-Length"


class HttpFront:
    """An HTTP server over a service.

    Args:
        service: The logic.
        place: Where to listen.
        tokens: Who may call.
        most_bytes: Of one request.
        tls: Files of the certificate chain and the private key, or ``None``.

    Attributes:
        port: The port; of port 0, the one that was free.

    Raises:
        InvalidOption: The place or the certificate cannot be had.
    """

    def __init__(
        self,
        service: Service,
        place: Listen,
        tokens: Tokens,
        *,
        most_bytes: int,
        tls: tuple[str, str] | None = None,
    ) -> None:
        context = None
        try:
            if tls is not None:
                context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
                context.load_cert_chain(*tls)
            self._server = _Server(place, service, tokens, most_bytes, context)
        except OSError as error:
            raise InvalidOption(f"cannot listen at {place}: {error.strerror or error}") from error
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="ort_rknn http", daemon=True)

    def start(self) -> None:
        """Take calls."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more calls; those under way are waited for by the service."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self, place: Listen, service: Service, tokens: Tokens, most_bytes: int, context: ssl.SSLContext | None
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
        self.service, self.tokens, self.most_bytes = service, tokens, most_bytes
        self.metrics = Metrics(service)
        self.context = context
        self.connections = threading.Semaphore(service.pending + _MORE_CONNECTIONS)
        super().__init__((place.host, place.port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self.connections.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            request.close()  # a client tries again, on another server if it knows one

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.connections.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.context is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(_IDLE_S)
        with self.context.wrap_socket(request, server_side=True) as line:  # here, where it keeps nobody else waiting
            super().finish_request(line, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_S
    disable_nagle_algorithm = True
    server: _Server
    server_version = NAME
    sys_version = ""

    _body: Body | None = None

    def do_GET(self) -> None:
        self._answer("GET")

    def do_HEAD(self) -> None:
        """Answer a probe's question: the head of the answer to GET."""
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def handle_expect_100(self) -> bool:
        """Refuse what is too large before it is sent."""
        try:
            self._incoming().length()
        except Refusal as refusal:
            self._fail(refusal.failure, getattr(refusal, "status", refusal.failure.http))
            return False
        return super().handle_expect_100()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Say what the standard library found wrong, in the form of all other errors."""
        self.close_connection = True
        text = message or self.responses.get(code, (str(code),))[0]
        self._send(code, json.dumps({"error": text}).encode(), "application/json")

    def _incoming(self) -> Body:
        self._body = Body(self.headers, self.rfile, self.connection, self.server.most_bytes)
        return self._body

    def _content(self) -> Body:
        return self._incoming() if self._body is None else self._body

    def _answer(self, method: str) -> None:
        begun = time.monotonic()
        self._incoming()
        code, model, call = "OK", "", self.command
        try:
            parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
            model = parts[2] if len(parts) > 2 and parts[:2] == ["v2", "models"] else ""
            call = f"{self.command} {self.path[:200]}"
            self._route(method, parts)
        except (ConnectionError, TimeoutError) as error:
            code = type(error).__name__
            self.close_connection = True
        except Exception as error:
            failure = failure_of(error)
            code = failure.code
            self._fail(failure, getattr(error, "status", failure.http))
        finally:
            log_access("http", self.client_address[0], call, model, code, time.monotonic() - begun)

    def _route(self, method: str, parts: list[str]) -> None:
        service = self.server.service
        if parts[0] == "v2" and parts[1:2] == ["health"] and method == "GET" and len(parts) == 3:
            healthy = {"live": True, "ready": service.ready}.get(parts[2])
            if healthy is None:
                raise Refusal("NOT_FOUND", "there is /v2/health/live and /v2/health/ready")
            self._send(200 if healthy else 503, b"", "text/plain")
            return
        if not self.server.tokens.open_to(self.headers.get("Authorization")):
            raise Refusal("UNAUTHENTICATED", "no token, or a wrong one: send the header Authorization: Bearer TOKEN")
        match (method, *parts):
            case ("GET", "metrics"):
                self._send(200, self.server.metrics.page(), CONTENT_TYPE_LATEST)
            case ("GET", "v2"):
                self._json({"name": NAME, "version": server_version(), "extensions": EXTENSIONS})
            case ("GET", "v2", "models", "stats"):
                self._json({"model_stats": model_statistics(service.repository, "", "")})
            case (_, "v2", "models", model, "versions", version, *rest):
                self._model(method, model, version, rest)
            case (_, "v2", "models", model, *rest):
                self._model(method, model, "", rest)
            case ("POST", "v2", "repository", "index"):
                wanted = self._small_object().get("ready", False)
                rows = [
                    {"name": entry.name, "version": "1", "state": entry.state, "reason": entry.reason}
                    for entry in service.repository.index()
                    if entry.state == "READY" or not wanted
                ]
                self._json(rows)
            case ("POST", "v2", "repository", "models", model, "load"):
                if self._small_object().get("parameters"):
                    text = "models are files in the served folder: a load takes no config and no files"
                    raise Refusal("INVALID_ARGUMENT", text)
                service.repository.load(model, service.load_limit)
                self._json({})
            case ("POST", "v2", "repository", "models", model, "unload"):
                self._small_object()
                service.repository.unload(model)
                self._json({})
            case _:
                raise Refusal("NOT_FOUND", f"there is no {method} {'/'.join(parts)[:200]!r} here")

    def _model(self, method: str, model: str, version: str, rest: list[str]) -> None:
        repository = self.server.service.repository
        match (method, *rest):
            case ("POST", "infer"):
                self._infer(model, version)
            case ("GET",):
                with repository.use(model, version, self.server.service.load_limit) as opened:
                    self._json(opened.metadata())
            case ("GET", "config"):
                with repository.use(model, version, self.server.service.load_limit) as opened:
                    self._json(opened.config)
            case ("GET", "ready"):
                self._send(200 if repository.is_ready(model, version) else 503, b"", "text/plain")
            case ("GET", "stats"):
                self._json({"model_stats": model_statistics(repository, model, version)})
            case _:
                raise Refusal("NOT_FOUND", f"there is no {method} .../{'/'.join(rest)[:200]} of a model")

    def _infer(self, model: str, version: str) -> None:
        service = self.server.service
        service.repository.find(model, version)  # before a byte is read
        incoming = self._content()
        if incoming.length() is None and not incoming.chunked:
            incoming.unread = True  # nobody knows where the next request begins
            raise HttpRefusal("INVALID_ARGUMENT", "an inference has a Content-Length, or comes in chunks", 411)
        with service.let_in() as place:
            body = incoming.read(self.server.most_bytes)
            self.connection.settimeout(_IDLE_S)
            head_length = self.headers.get(_JSON_LENGTH, str(len(body)))
            if not head_length.isdecimal() or len(head_length) > 15 or int(head_length) > len(body):
                raise Refusal(
                    "INVALID_ARGUMENT", f"{_JSON_LENGTH} is {head_length[:20]!r} of a request of {len(body)} bytes"
                )
            head, binary = body[: int(head_length)], body[int(head_length) :]
            call, inputs, request = call_of_json(model, version, head, binary)
            text, parts = answer_parts(request, *service.infer(call, inputs, self))
            more = {_JSON_LENGTH: str(len(text))} if parts else {}
            kind = "application/octet-stream" if parts else "application/json"
            place.free()  # so that it is free when the client has its answer
            self._send(200, b"".join((text, *parts)), kind, more)

    # --- reading ------------------------------------------------------------------------------------------------------

    def _small_object(self) -> dict[str, Any]:
        content = bytes(self._content().read(_SMALL))
        self.connection.settimeout(_IDLE_S)
        try:
            found = json.loads(content or b"{}")
        except (ValueError, RecursionError) as error:
            raise Refusal("INVALID_ARGUMENT", f"the request is no JSON: {error}") from error
        if not isinstance(found, dict):
            raise Refusal("INVALID_ARGUMENT", "the request must be a JSON object")
        return found

    def time_left(self) -> float | None:
        """Seconds that the client waits, which HTTP has no header for."""
        return None

    def gone(self) -> bool:
        """Whether the client has closed its connection (not asked over TLS, which cannot be peeked into)."""
        if isinstance(self.connection, ssl.SSLSocket):
            return False
        try:
            return not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    # --- writing ------------------------------------------------------------------------------------------------------

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), "application/json")

    def _fail(self, failure: Failure, status: int) -> None:
        more = {KIND_HEADER: failure.kind} if failure.kind else {}
        if status in (429, 503):
            more["Retry-After"] = "1"
        if status == 401:
            more["WWW-Authenticate"] = "Bearer"
        self._send(status, json.dumps({"error": failure.text}).encode(), "application/json", more)

    def _send(self, status: int, content: bytes, kind: str, more: dict[str, str] | None = None) -> None:
        if (self._body is not None and self._body.unread) or self.server.service.draining:
            self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in (more or {}).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing: the access log does."""
