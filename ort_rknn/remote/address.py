"""Addresses of models on other machines: ``grpc://board:8001/model``.

grpc://a:8001,b:8001/model        several boards, by gRPC's own round robin
grpcs://, https://                the same over TLS
grpc+unix:/run/ort_rknn.sock/model    the last part is the model
...?timeout=30                    seconds a call may take, retries included
"""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ort_rknn.errors import InvalidOption
from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.own_files import read_given

__all__ = ["TIMEOUT_S", "Address", "is_address"]

TIMEOUT_S = 10.0
"""Seconds a call may take when nothing else is said (a guess: thousands of times an inference)."""

_SCHEMES = {"grpc": 8001, "grpcs": 8001, "grpc+unix": 0, "http": 8000, "https": 8000}
"""Scheme -> the port when none is given: Triton's."""

_MOST = 1 << 22  # bytes of a token or of certificates; a guess: a system's have 220 kB
_SETTINGS = ("timeout", "token_file", "ca_file", "priority")
_FORM = "grpc://board:8001/model (also grpcs://, http://, https://, grpc+unix:/run/ort_rknn.sock/model)"


def is_address(model: Any) -> bool:
    """Whether a session's model is an address and no file."""
    return isinstance(model, str) and ":" in model and model.partition(":")[0].lower() in _SCHEMES


@frozen
class Address:
    """Place of a model on one or several servers.

    Attributes:
        scheme: ``grpc`` or ``http``.
        hosts: ``host:port`` of each server; of a unix socket its path.
        model: The model's name there.
        tls: Whether to speak TLS.
        unix: Whether ``hosts`` is the path of a unix socket.
        timeout: Seconds a call may take, retries included; ``None`` when the address does not say.
        token_file: File with the token, or ``""``.
        ca_file: File with the certificates to trust (PEM), or ``""`` for the system's.
        priority: Class of the calls: ``high``, ``normal``, ``low``, or ``""``.
    """

    scheme: str
    hosts: tuple[str, ...]
    model: str
    tls: bool = False
    unix: bool = False
    timeout: float | None = None
    token_file: str = ""
    ca_file: str = ""
    priority: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Reads an address.

        Raises:
            InvalidOption: It is not of the form, or has a setting that is not known.
        """
        scheme, _, rest = text.partition(":")
        scheme = scheme.lower()
        if scheme == "grpc+unix":
            path, _, query = rest.partition("?")
            socket, _, model = re.sub(r"^//", "", path).rpartition("/")
            hosts: tuple[str, ...] = (unquote(socket),) if socket else ()
        else:
            parts = urlsplit(text)
            query, model = parts.query, parts.path.strip("/")
            hosts = tuple(_host(host, _SCHEMES[scheme], text) for host in parts.netloc.split(",") if host)
        model = unquote(model)
        if not hosts or not model or "/" in model:
            raise InvalidOption(f"{text!r} is no address of a model: it must be {_FORM}")
        given = dict(parse_qsl(query, keep_blank_values=True))
        if unknown := sorted(given.keys() - {*_SETTINGS}):
            raise InvalidOption(f"{text!r} has a setting {unknown[0]!r}; there are {', '.join(_SETTINGS)}")
        return cls(
            "http" if scheme.startswith("http") else "grpc",
            hosts,
            model,
            tls=scheme in ("grpcs", "https"),
            unix=scheme == "grpc+unix",
            timeout=_seconds(given["timeout"], text) if "timeout" in given else None,
            token_file=given.get("token_file", os.environ.get("ORT_RKNN_TOKEN_FILE", "")),
            ca_file=given.get("ca_file", os.environ.get("ORT_RKNN_CA_FILE", "")),
            priority=given.get("priority", ""),
        )

    @property
    def where(self) -> str:
        """The servers as an error names them."""
        return ", ".join(self.hosts)

    def token(self) -> str:
        """The token to show, from the environment variable ``ORT_RKNN_TOKEN`` or the file; ``""`` for none.

        Raises:
            InvalidOption: The file cannot be read.
        """
        if not self.token_file:
            return os.environ.get("ORT_RKNN_TOKEN", "")
        return _read(self.token_file, "token").decode().strip()

    def certificates(self) -> bytes | None:
        """The certificates to trust; ``None`` for the system's.

        Raises:
            InvalidOption: The file cannot be read.
        """
        return _read(self.ca_file, "certificates") if self.ca_file else None


def _host(text: str, port: int, address: str) -> str:
    if "@" in text:
        raise InvalidOption("an address has no place for a user or a secret: set ORT_RKNN_TOKEN or ORT_RKNN_TOKEN_FILE")
    match = re.fullmatch(r"(\[[0-9a-fA-F:.%\w]+\]|[^:\[\]\s]+)(?::(\d{1,5}))?", text)
    if match is None or not 0 < int(match.group(2) or port) < 65536:
        raise InvalidOption(f"{address!r}: {text!r} is no host:port")
    return f"{match.group(1)}:{match.group(2) or port}"


def _seconds(text: str, address: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise InvalidOption(f"{address!r}: timeout must be a number of seconds above 0, not {text!r}")
    return seconds


def _read(path: str, what: str) -> bytes:
    try:
        return read_given(path, _MOST)  # the user's own word: a shell's <(...) is a pipe
    except OSError as error:
        raise InvalidOption(f"the file with the {what}, {path}, cannot be read: {error.strerror}") from error
