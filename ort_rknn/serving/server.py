"""The server: its settings, its start, and its end in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from ort_rknn.errors import InvalidOption
from ort_rknn.remote.failures import Refusal
from ort_rknn.serving.repository import Repository
from ort_rknn.serving.security import Listen, Tokens, check_exposed
from ort_rknn.serving.service import Service
from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.log import logger
from ort_rknn_converters.util.own_files import read_given

__all__ = ["MEMORY", "ServeSettings", "Server"]

MEMORY = 512 << 20
"""Bytes that requests under way may take when ``pending`` is not said (a guess: an eighth of 4 GB)."""

_LEAST_MESSAGE, _OPEN_MESSAGE = 4 << 20, 32 << 20  # gRPC's own limit; and for models with open shapes (a guess)
_SLACK = 1.25, 64 << 10  # of what the shapes say: JSON heads, names, parameters
_LEAST_PENDING, _MOST_PENDING = 4, 128
_IDLE_CHECK_S = 1.0
_MOST_PEM = 1 << 20  # bytes of a certificate with its chain; a guess
_CLOSE_S = 10.0  # for sessions to close after the last answer (a guess)


@frozen
class ServeSettings:
    """Settings of a server.

    Attributes:
        folder: The models.
        listen: Where gRPC listens.
        http: Where HTTP listens, or ``None``.
        token_file: File of the tokens, or ``""``.
        insecure: Let other machines in without a token.
        tls_certificate: File of the certificate chain (PEM), or ``""``.
        tls_key: File of its private key, or ``""``.
        load: Models to open before the server is ready.
        keep: Models that stay open.
        idle: Seconds without a call after which the others are closed; 0 keeps all.
        pending: Calls under way at once; ``None``: as many as :data:`MEMORY` holds, 4 to 128.
        most_bytes: Of one request; ``None``: by the models' own shapes.
        grace: Seconds that calls under way get at the end.
        limit: Seconds a call may take when its client does not say.
        options: Provider options of the sessions.
    """

    folder: Path
    listen: tuple[Listen, ...] = (Listen("127.0.0.1", 8001),)
    http: Listen | None = None
    token_file: str = ""
    insecure: bool = False
    tls_certificate: str = ""
    tls_key: str = ""
    load: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    idle: float = 300.0
    pending: int | None = None
    most_bytes: int | None = None
    grace: float = 30.0
    limit: float = 60.0
    options: Mapping[str, Any] = field(default_factory=dict)


class Server:
    """A server over a folder.

    Args:
        settings: Everything about it.

    Attributes:
        service: The logic.
        grpc_ports: Where gRPC listens.
        http_port: Where HTTP listens, or ``None``.

    Raises:
        InvalidOption: The settings make no sense, or other machines could call unasked.
    """

    def __init__(self, settings: ServeSettings) -> None:
        if settings.folder.is_file():
            parent = settings.folder.parent
            raise InvalidOption(f"{settings.folder} is a file: models are served by folders, `ort-rknn serve {parent}`")
        if not settings.folder.is_dir():
            raise InvalidOption(f"there is no folder {settings.folder}")
        places = [*settings.listen, *([settings.http] if settings.http is not None else [])]
        check_exposed(places, token=bool(settings.token_file), insecure=settings.insecure)
        if bool(settings.tls_certificate) != bool(settings.tls_key):
            raise InvalidOption("TLS takes both: --tls-certificate and --tls-key")
        tokens = Tokens.read(settings.token_file) if settings.token_file else Tokens()
        self._settings = settings
        self.repository = Repository(
            settings.folder, _opener(settings.options, self._places), idle=settings.idle, keep=frozenset(settings.keep)
        )
        for name in (*settings.load, *settings.keep):
            self._check_name(name)
        most_bytes = settings.most_bytes or largest_request(self.repository)
        pending = settings.pending or max(_LEAST_PENDING, min(_MOST_PENDING, MEMORY // most_bytes))
        self.repository.places = pending
        own = str(settings.options.get("priority", "normal"))
        self.service = Service(self.repository, pending=pending, limit=settings.limit, priority=own)
        from ort_rknn.serving.grpc_front import GrpcFront

        tls = _read_tls(settings)
        self._grpc = GrpcFront(self.service, list(settings.listen), tokens, most_bytes=most_bytes, tls=tls)
        self.grpc_ports = self._grpc.ports
        self._http = None
        if settings.http is not None:
            from ort_rknn.serving.http_front import HttpFront

            files = (settings.tls_certificate, settings.tls_key) if tls is not None else None
            try:
                self._http = HttpFront(self.service, settings.http, tokens, most_bytes=most_bytes, tls=files)
            except InvalidOption:
                self._grpc.stop(0)
                raise
        self.http_port = self._http.port if self._http is not None else None
        self._ended = threading.Event()
        self._most_bytes = most_bytes

    def _places(self) -> int:
        return self.service.pending

    def _check_name(self, name: str) -> None:
        try:
            self.repository.find(name)
        except Refusal as refusal:
            raise InvalidOption(str(refusal)) from refusal

    def start(self) -> None:
        """Take calls; open what is to be loaded, and be ready then."""
        logger().info("requests of up to %.1f MB, %d at once", self._most_bytes / 1e6, self.service.pending)
        self._grpc.start()
        if self._http is not None:
            self._http.start()
        threading.Thread(target=self._load_first, name="ort_rknn first", daemon=True).start()
        threading.Thread(target=self._close_idle, name="ort_rknn idle", daemon=True).start()

    def _load_first(self) -> None:
        for name in dict.fromkeys((*self._settings.load, *self._settings.keep)):
            try:
                with self.repository.use(name, "", self.service.load_limit):
                    pass
            except Refusal as refusal:
                logger().error("not ready, and will not be: model %s was to be loaded first: %s", name, refusal)
                return  # a server that cannot do what it was told to is not ready
        self.service.all_loaded()
        logger().info("ready")

    def _close_idle(self) -> None:
        while not self._ended.wait(_IDLE_CHECK_S):
            try:
                self.repository.close_idle()
            except Exception:  # such as a folder that is away for a moment
                logger().exception("the models could not be looked through")

    def stop(self) -> bool:
        """Be ready no more, finish what was accepted, and close; whether all of it ended in time."""
        self._ended.set()
        drained: list[bool] = []
        waiter = threading.Thread(target=lambda: drained.append(self.service.drain(self._settings.grace)), daemon=True)
        waiter.start()  # which says first that it is not ready
        if self._http is not None:
            self._http.stop()
        self._grpc.stop(self._settings.grace)
        waiter.join(self._settings.grace + 1)
        closer = threading.Thread(target=self.repository.close, daemon=True)
        closer.start()
        closer.join(_CLOSE_S)  # an inference that hangs does not keep the process
        return drained == [True] and not closer.is_alive()


def largest_request(repository: Repository) -> int:
    """Bytes of the largest request that the models' declared shapes allow; 32 MB for a model that leaves its open."""
    most = _LEAST_MESSAGE
    for path in repository.files().values():
        size = _declared_bytes(path)
        most = max(most, _OPEN_MESSAGE if size is None else int(size * _SLACK[0]) + _SLACK[1])
    return most


def _declared_bytes(path: Path) -> int | None:
    """Bytes of a file's inputs; ``None`` where it does not say, or is no ONNX."""
    import math

    from ort_rknn_converters.onnx_file.signature import declared_inputs

    try:
        inputs = declared_inputs(path)
    except Exception:  # a damaged file: that is said when it is called
        return 0
    if path.suffix != ".onnx" or any(value.is_open for value in inputs):
        return None
    return sum(8 * math.prod(int(dim or 0) for dim in value.dims or ()) for value in inputs)  # 8: the widest type


def _opener(options: Mapping[str, Any], places: Callable[[], int]) -> Callable[[Path, str], Any]:
    """Opens sessions whose queues hold all calls that are let in: a core never waits for Python to fill its own."""

    def open_session(path: Path, priority: str) -> Any:
        from ort_rknn.api.session import InferenceSession
        from ort_rknn.ort_conventions import CPU_PROVIDER, RKNN_PROVIDER

        more = {"priority": priority} if priority else {}
        queue = {"max_queue_size": places()}
        providers = [(RKNN_PROVIDER, {**queue, **options, **more}), CPU_PROVIDER]
        return InferenceSession(str(path), providers=providers, enable_fallback=0)  # what is wrong is said, once

    return open_session


def _read_tls(settings: ServeSettings) -> tuple[bytes, bytes] | None:
    if not settings.tls_key:
        return None
    try:
        return read_given(settings.tls_key, _MOST_PEM), read_given(settings.tls_certificate, _MOST_PEM)
    except OSError as error:
        raise InvalidOption(f"the certificate or its key cannot be read: {error}") from error
