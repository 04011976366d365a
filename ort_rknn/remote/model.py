"""A model on another machine: what it looks like, and a call of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ort_rknn.errors import DeviceError
from ort_rknn.ort_conventions import numpy_dtype
from ort_rknn.remote.address import Address
from ort_rknn.remote.outside import OUTSIDE, OUTSIDE_KEY, PLACES_KEY, STUB_KEY, Outside, stub_of, unpack
from ort_rknn.remote.tensors import STRING_TYPE, TensorError, datatype_of, datatype_of_array
from ort_rknn.remote.transport import Tensor, Transport
from ort_rknn.remote.without import error_class
from ort_rknn_converters.util.foreign_text import shown
from ort_rknn_converters.util.plain_data import TEXT, Misshapen, check, parse_json

__all__ = ["RemoteModel", "connect"]


def connect(address: Address) -> Transport:
    """A transport to an address; connections are made by the first call.

    Raises:
        InvalidOption: The address cannot be used here; the message says what is missing.
    """
    if address.scheme == "http":
        from ort_rknn.remote.http_client import HttpTransport

        return HttpTransport(address)
    from ort_rknn.remote.grpc_client import GrpcTransport

    return GrpcTransport(address)


class RemoteModel:
    """A model behind a transport: what it looks like, and how it is run.

    Args:
        address: Where it is.
        timeout: Seconds a call may take, retries included.

    Attributes:
        outside: Inputs, outputs and metadata.
        stub: The ONNX model that stands for it here; ``None`` when the server is not one of ours.
        places: Calls that the server lets in at once; ``None`` when it does not say.

    Raises:
        Exception: The server does not answer, or has no such model.
    """

    def __init__(self, address: Address, timeout: float) -> None:
        self.address = address
        self.timeout = timeout
        self._transport = connect(address)
        try:
            self._ask(timeout)
        except BaseException:
            self._transport.close()
            raise
        outside = self.outside
        arguments = (*outside.outputs, *outside.inputs, *outside.overridable)
        self._types = {argument.name: argument.type for argument in arguments}

    def _ask(self, timeout: float) -> None:
        """Ask the server what the model looks like."""
        try:
            config = self._transport.config(timeout)
        except Misshapen as error:
            raise self._no_description(error) from error
        try:
            self._read(config)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise self._no_description(error) from error

    def made_stub(self) -> bytes:
        """A stub of what the server said, where it sent none.

        Raises:
            DeviceError: There are no such types or shapes.
        """
        try:
            return stub_of(self.outside)
        except (ValueError, TypeError, OverflowError) as error:
            raise self._no_description(error) from error

    def _no_description(self, error: Exception) -> DeviceError:
        return DeviceError(
            f"{self.address.where} describes the model in a way that cannot be read ({shown(repr(error))}): is it a"
            " server of the Open Inference Protocol?",
            call="ModelConfig",
        )

    def _read(self, config: Mapping[str, Any]) -> None:
        parameters = {key: entry["string_value"] for key, entry in config.get("parameters", {}).items()}
        self.stub = unpack(parameters[STUB_KEY]) if STUB_KEY in parameters else None
        self.places = int(parameters[PLACES_KEY]) if PLACES_KEY in parameters else None
        self.outside = (
            Outside.from_dict(parse_json(parameters[OUTSIDE_KEY], OUTSIDE))
            if OUTSIDE_KEY in parameters
            else Outside.of_config(_rows(config["input"]), _rows(config["output"]))
        )

    def run(self, output_names: Sequence[str], feed: Mapping[str, Any]) -> list[Any]:
        """One inference; inputs that are ``None`` are not fed.

        Raises:
            NotImplemented: onnxruntime's class: a value is no tensor, which the protocol cannot carry.
            Exception: What the server raised, class and text; or that there was no answer in time.
        """
        inputs = [self._tensor(name, value) for name, value in feed.items() if value is not None]
        for name in output_names:
            _refuse_other_kinds(name, self._types.get(name, ""))
        wanted = list(dict.fromkeys(output_names))
        try:
            answer = self._transport.infer(inputs, wanted, self.timeout)
        except (TensorError, Misshapen) as error:
            where = self.address.where
            raise DeviceError(
                f"{where} gave an answer that cannot be read ({shown(error)})", call="ModelInfer"
            ) from error
        for name in wanted:
            if name not in answer and not self._types.get(name, "").startswith("optional"):
                raise DeviceError(f"{self.address.where} answered without the output {name!r}", call="ModelInfer")
        return [answer.get(name) for name in output_names]

    def _tensor(self, name: str, value: Any) -> Tensor:
        """An input as it is: whether its type is right, the server says, in onnxruntime's words."""
        kind = self._types.get(name, "")
        _refuse_other_kinds(name, kind)
        if not isinstance(value, np.ndarray):
            dtype = object if kind == STRING_TYPE else numpy_dtype(kind.removeprefix("optional(").removesuffix(")"))
            value = np.asarray(value, dtype)
        array = np.ascontiguousarray(value).reshape(value.shape)  # which makes scalars vectors
        return Tensor(name, datatype_of_array(name, array), array)

    def close(self) -> None:
        """Give the connections back. May be called twice."""
        self._transport.close()


def _refuse_other_kinds(name: str, ort_type: str) -> None:
    if ort_type and datatype_of(ort_type) is None:
        text = f"{name} is a {ort_type}: only tensors of numbers and strings can be sent to another machine"
        raise error_class("NotImplemented")(f"[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : {text}")


def _rows(values: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, list[int]]]:
    """Name, datatype and shape from a model config."""
    kinds = (str(value["data_type"]).replace("TYPE_STRING", "BYTES").removeprefix("TYPE_") for value in values)
    return [(check(value["name"], TEXT), kind, value["dims"]) for value, kind in zip(values, kinds, strict=True)]
