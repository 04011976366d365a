"""The protocol over gRPC: balancing, retries and reconnecting are gRPC's own, set here.

Only UNAVAILABLE is tried again, and only within the call's limit. Messages of the published protocol buffers
(``tritonclient[grpc]``).
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ort_rknn.errors import DeviceUnavailable, InvalidOption, SessionClosed
from ort_rknn.remote.address import Address
from ort_rknn.remote.failures import KIND_KEY, Failure, rebuilt
from ort_rknn.remote.tensors import decode
from ort_rknn.remote.transport import Tensor
from ort_rknn.remote.wire import field_number, fields, raw_bytes, read_parted

__all__ = ["GrpcTransport"]

_MISSING = "grpc:// needs the packages grpcio and tritonclient: pip install 'ort-rknn[remote]'"
_INFER = "/inference.GRPCInferenceService/ModelInfer"
_MOST_BYTES = 2**31 - 1  # gRPC's own limit of a message
_SERVICE = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{"service": "inference.GRPCInferenceService"}],
            "retryPolicy": {  # five attempts are gRPC's most; together they wait 1.5 s at most
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}
_OPTIONS = [
    ("grpc.service_config", json.dumps(_SERVICE)),
    ("grpc.enable_retries", 1),
    ("grpc.per_rpc_retry_buffer_size", _MOST_BYTES),  # gRPC's 256 kB would leave every picture without a retry
    ("grpc.max_send_message_length", _MOST_BYTES),
    ("grpc.max_receive_message_length", _MOST_BYTES),
    ("grpc.max_metadata_size", 64 << 10),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 4 << 20),  # as the server for requests: large answers in one go
    ("grpc.http2.max_frame_size", 4 << 20),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),  # gRPC's two minutes would keep a restarted board idle
    ("grpc.keepalive_time_ms", 10_000),  # a board whose cable was cut is left after 15 s, not at the TCP's limit
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.use_local_subchannel_pool", 1),  # or one session's close and open would share a backoff with others
]


class GrpcTransport:
    """One model over gRPC.

    Args:
        address: Where.

    Raises:
        InvalidOption: gRPC is not installed, or the address is not for it.
    """

    def __init__(self, address: Address) -> None:
        try:
            import grpc
            from tritonclient.grpc import service_pb2, service_pb2_grpc
        except (ImportError, RuntimeError) as error:  # tritonclient says it by a RuntimeError
            raise InvalidOption(_MISSING) from error
        self._grpc = grpc
        self._messages: Any = service_pb2
        self._address = address
        target = _target(address)
        token = address.token()
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        if address.tls:
            credentials = grpc.ssl_channel_credentials(root_certificates=address.certificates())
            self._channel: Any = grpc.secure_channel(target, credentials, _OPTIONS + _authority(address))
        else:
            self._channel = grpc.insecure_channel(target, _OPTIONS)
        self._stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._infer = self._channel.unary_unary(
            _INFER,
            response_deserializer=partial(read_parted, service_pb2.ModelInferResponse, "raw_output_contents"),
        )
        self._last_head: tuple[Any, bytes] = ((), b"")
        self._closed = False

    def config(self, timeout: float) -> Mapping[str, Any]:
        """Triton's model config as JSON."""
        from google.protobuf.json_format import MessageToDict

        request = self._messages.ModelConfigRequest(name=self._address.model)
        answer = MessageToDict(self._call(self._stub.ModelConfig, request, timeout), preserving_proto_field_name=True)
        config: Mapping[str, Any] = answer["config"]
        return config

    def infer(
        self, inputs: Sequence[Tensor], outputs: Sequence[str], timeout: float
    ) -> Mapping[str, np.ndarray[Any, Any]]:
        """Run one inference."""
        number = field_number(self._messages.ModelInferRequest, "raw_input_contents")
        raw = (raw_bytes(tensor.array, tensor.datatype) for tensor in inputs)
        request = b"".join((self._head(inputs, outputs), *fields(number, raw)))
        parted = self._call(self._infer, request, timeout)
        answer = parted.message
        if len(answer.outputs) != len(parted.raw):
            raise DeviceUnavailable(f"{self._address.where} answered without raw contents: it is no server for this")
        pairs = zip(answer.outputs, parted.raw, strict=True)
        return {one.name: _own(decode(one.name, one.datatype, tuple(one.shape), raw)) for one, raw in pairs}

    def _head(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> bytes:
        """The serialized request without its bytes: that of the last call when nothing has changed."""
        key = (*((one.name, one.datatype, one.array.shape) for one in inputs), *outputs)
        known, head = self._last_head
        if known != key:
            request = self._messages.ModelInferRequest(model_name=self._address.model)
            for tensor in inputs:
                request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.array.shape)
            for name in outputs:
                request.outputs.add(name=name)
            if self._address.priority:
                request.parameters["priority"].string_param = self._address.priority
            head = request.SerializeToString()
            self._last_head = key, head
        return head

    def _call(self, method: Any, request: Any, timeout: float) -> Any:
        if self._closed:
            raise SessionClosed("the session was closed; make a new one")
        try:
            return method(request, timeout=timeout, metadata=self._metadata)
        except self._grpc.RpcError as error:
            raise self._error(error, timeout) from None
        except ValueError as error:  # the channel was closed meanwhile
            if self._closed:
                raise SessionClosed("the session was closed; make a new one") from error
            raise

    def _error(self, error: Any, timeout: float) -> Exception:
        kind = dict(error.trailing_metadata() or ()).get(KIND_KEY, "")
        if self._closed and not kind:
            return SessionClosed("the session was closed while the call was under way")
        failure = Failure(error.code().name, str(kind), error.details() or "")
        return rebuilt(failure, self._address.where, timeout)

    def close(self) -> None:
        """Give the connection back. May be called twice."""
        self._closed = True
        self._channel.close()


def _own(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """An array that its receiver may write."""
    return array if array.flags.writeable else array.copy()


def _target(address: Address) -> str:
    """GRPC's name of the servers: a list of addresses for several, so that its round robin sees all."""
    if address.unix:
        return f"unix:{address.hosts[0]}"
    if len(address.hosts) == 1:
        return f"dns:///{address.hosts[0]}"
    found: list[tuple[int, str]] = []
    for host in address.hosts:
        name, _, port = host.rpartition(":")
        try:
            rows = socket.getaddrinfo(name.strip("[]"), int(port), type=socket.SOCK_STREAM)
        except OSError as error:
            raise InvalidOption(f"the host {name!r} of the address is not known here: {error.strerror}") from error
        family, _, _, _, where = min(rows, key=lambda row: row[0] != socket.AF_INET)
        found.append((family, f"{where[0]}:{port}" if family == socket.AF_INET else f"[{where[0]}]:{port}"))
    if len({family for family, _ in found}) > 1:
        raise InvalidOption(f"{address.where}: gRPC takes a list of IPv4 or of IPv6 addresses, not of both")
    scheme = "ipv4" if found[0][0] == socket.AF_INET else "ipv6"
    return f"{scheme}:{','.join(text for _, text in found)}"


def _authority(address: Address) -> list[tuple[str, Any]]:
    """The name that certificates of several boards are for: the first one's."""
    if len(address.hosts) == 1:
        return []
    return [("grpc.ssl_target_name_override", address.hosts[0].rpartition(":")[0])]
