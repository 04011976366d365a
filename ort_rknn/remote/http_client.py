"""The protocol over HTTP with binary tensors, by the standard library alone: a client that installs nothing.

Several servers are taken in turn. A call that found no server is tried on the next until its time is over.
"""

from __future__ import annotations

import http.client
import itertools
import json
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

from ort_rknn.errors import SessionClosed
from ort_rknn.remote.address import Address
from ort_rknn.remote.failures import HTTP_STATUS, KIND_HEADER, Failure, rebuilt
from ort_rknn.remote.tensors import decode, encode
from ort_rknn.remote.transport import Tensor
from ort_rknn_converters.util.plain_data import COUNT, TEXT, parse_json, record, rows

__all__ = ["HttpTransport"]

_JSON_LENGTH = "Inference-Header-Content-Length"
_ANSWER = record(
    {
        "outputs": rows(
            record(
                {
                    "name": TEXT,
                    "datatype": TEXT,
                    "shape": rows(COUNT),
                    "parameters": record({"binary_data_size": COUNT}, more=True),
                },
                more=True,
            )
        )
    },
    more=True,
)
_BLOCK = 1 << 20  # bytes read at a time
_BACKOFF_S = (0.05, 0.1, 0.2, 0.4, 0.8)  # as long as gRPC's five attempts
_AWAY_S = 2.0  # a server that did not answer is asked last for so long: gRPC's longest pause here
_CODES = {status: code for code, status in HTTP_STATUS.items()} | {413: "RESOURCE_EXHAUSTED", 405: "UNIMPLEMENTED"}


class HttpTransport:
    """One model over HTTP.

    Args:
        address: Where.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        token = address.token()
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._tls = None
        if address.tls:
            trusted = address.certificates()
            self._tls = ssl.create_default_context(cadata=None if trusted is None else trusted.decode())
        self._path = f"/v2/models/{quote(address.model, safe='')}"
        self._turn = itertools.count()
        self._idle: dict[str, list[http.client.HTTPConnection]] = {host: [] for host in address.hosts}
        self._away: dict[str, float] = {}  # host -> until when it is asked last
        self._lock = threading.Lock()
        self._closed = False

    def config(self, timeout: float) -> Mapping[str, Any]:
        """Triton's model config as JSON."""
        _, body = self._call("GET", f"{self._path}/config", b"", {}, timeout)
        config: Mapping[str, Any] = parse_json(body)
        return config

    def infer(
        self, inputs: Sequence[Tensor], outputs: Sequence[str], timeout: float
    ) -> Mapping[str, np.ndarray[Any, Any]]:
        """Run one inference."""
        raw = [encode(tensor.array, tensor.datatype) for tensor in inputs]
        head = {
            "inputs": [
                {
                    "name": tensor.name,
                    "datatype": tensor.datatype,
                    "shape": list(tensor.array.shape),
                    "parameters": {"binary_data_size": len(content)},
                }
                for tensor, content in zip(inputs, raw, strict=True)
            ],
            "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in outputs],
            "parameters": {
                "timeout": int(timeout * 1e6),
                **({"priority": self._address.priority} if self._address.priority else {}),
            },
        }
        text = json.dumps(head).encode()
        headers = {_JSON_LENGTH: str(len(text)), "Content-Type": "application/octet-stream"}
        length, body = self._call("POST", f"{self._path}/infer", b"".join((text, *raw)), headers, timeout)
        answer, at = parse_json(body[:length], _ANSWER), length
        found = {}
        for row in answer["outputs"]:
            end = at + int(row["parameters"]["binary_data_size"])
            found[row["name"]] = decode(row["name"], row["datatype"], row["shape"], body[at:end]).copy()
            at = end
        return found

    def _call(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], timeout: float
    ) -> tuple[int, bytes]:
        """The length of the answer's JSON, and the answer."""
        deadline = time.monotonic() + timeout
        waits = iter(_BACKOFF_S)
        hosts = self._in_turn()
        tried = 0
        while True:
            host = hosts[tried % len(hosts)]
            try:
                return self._once(host, method, path, body, headers, deadline)
            except (OSError, http.client.HTTPException) as error:
                failure = self._no_answer(error)
                self._away[host] = time.monotonic() + _AWAY_S
            except _Refused as refused:
                failure = refused.failure
            tried += 1
            # the other servers are tried at once, and then all of them with pauses
            pause = 0.0 if tried < len(hosts) else next(waits, None)
            if failure.code != "UNAVAILABLE" or pause is None or time.monotonic() + pause >= deadline:
                raise rebuilt(failure, self._address.where, timeout)
            time.sleep(pause)

    def _in_turn(self) -> list[str]:
        """The servers, one further each call; those that did not answer of late come last."""
        hosts = self._address.hosts
        first = next(self._turn) % len(hosts)
        now = time.monotonic()
        return sorted(hosts[first:] + hosts[:first], key=lambda host: self._away.get(host, 0.0) > now)

    def _no_answer(self, error: Exception) -> Failure:
        if self._closed:
            raise SessionClosed("the session was closed while the call was under way")
        if isinstance(error, TimeoutError):
            return Failure("DEADLINE_EXCEEDED", "", "the time is over")
        return Failure("UNAVAILABLE", "", str(error) or type(error).__name__)

    def _once(
        self, host: str, method: str, path: str, body: bytes, headers: Mapping[str, str], deadline: float
    ) -> tuple[int, bytes]:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection = self._connection(host, left)
        try:
            connection.request(method, path, body, {**self._headers, **headers})
            answer = connection.getresponse()  # no limit: the socket has one
            content = _content(answer, connection, deadline)
        except BaseException:
            connection.close()
            self._forget(host)  # the others of a server that was restarted are as dead
            raise
        with self._lock:
            if self._closed or answer.will_close:
                connection.close()
            else:
                self._idle[host].append(connection)
        if answer.status != 200:
            raise _Refused(_failure(answer, content))
        return int(answer.headers.get(_JSON_LENGTH, len(content))), content

    def _connection(self, host: str, timeout: float) -> http.client.HTTPConnection:
        with self._lock:
            if self._closed:
                raise SessionClosed("the session was closed; make a new one")
            kept = self._idle[host].pop() if self._idle[host] else None
        if kept is not None and kept.sock is not None:
            kept.sock.settimeout(timeout)
            return kept
        name, _, port = host.rpartition(":")
        if self._tls is not None:
            return http.client.HTTPSConnection(name.strip("[]"), int(port), timeout=timeout, context=self._tls)
        return http.client.HTTPConnection(name.strip("[]"), int(port), timeout=timeout)

    def _forget(self, host: str) -> None:
        with self._lock:
            idle, self._idle[host] = self._idle[host], []
        for connection in idle:
            connection.close()

    def close(self) -> None:
        """Give the connections back. May be called twice."""
        self._closed = True
        for host in self._address.hosts:
            self._forget(host)


class _Refused(Exception):
    """An answer that is an error."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


def _content(answer: http.client.HTTPResponse, connection: http.client.HTTPConnection, deadline: float) -> bytes:
    """Reads an answer in time: the socket's own limit begins anew with every byte, and a server may send one a second.

    Raises:
        TimeoutError: It did not come in time.
        http.client.IncompleteRead: The server ended in the middle.
    """
    parts = []
    while part := answer.read1(_BLOCK):
        parts.append(part)
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if connection.sock is not None:
            connection.sock.settimeout(left)
    missing, content = answer.length, b"".join(parts)
    answer.close()
    if missing:
        raise http.client.IncompleteRead(content, missing)
    return content


def _failure(answer: http.client.HTTPResponse, content: bytes) -> Failure:
    try:
        text = str(parse_json(content)["error"])
    except (ValueError, KeyError, TypeError):
        text = content[:200].decode(errors="replace")
    return Failure(_CODES.get(answer.status, "INTERNAL"), answer.headers.get(KIND_HEADER, ""), text)
