"""A model on a server: the simulator behind gRPC on this machine, or whatever an address runs it on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ort_rknn_conformance.flows import Flow
from ort_rknn_conformance.flows.simulator import XFAILS

__all__ = ["FLOW", "flow_at"]

_NO_TENSORS = "the protocol carries tensors of numbers and strings, not sequences, maps and optional values of them"
_OTHERS = (
    "*sequence*",
    "*optional*",
    "*_map_*",
    "*zipmap*",
    "*BFLOAT16*",
    "*FLOAT8*",
    "*FLOAT4*",
    "*INT4*",
    "*INT2*",
    "*bfloat16*",
)


class _HereFlow(Flow):
    """Serves each model of its own."""

    @contextmanager
    def session(self, model: str | bytes, target: str, options: Mapping[str, Any]) -> Iterator[Any]:
        """A session of the model on a server in this process, which ends with it."""
        from ort_rknn.api.session import InferenceSession
        from ort_rknn.serving.security import Listen
        from ort_rknn.serving.server import Server, ServeSettings

        with tempfile.TemporaryDirectory(prefix="ort-rknn-served-") as folder:
            if isinstance(model, str):
                (Path(folder) / "model.onnx").symlink_to(Path(model).resolve())
            else:
                (Path(folder) / "model.onnx").write_bytes(model)
            settings = ServeSettings(
                Path(folder), (Listen("127.0.0.1", 0),), options={**options, "device": self.device}
            )
            server = Server(settings)
            server.start()
            try:
                address = f"grpc://127.0.0.1:{server.grpc_ports[0]}/model?timeout=600"
                with InferenceSession(address, enable_fallback=0) as opened:
                    yield opened
            finally:
                server.stop()


class _ThereFlow(Flow):
    """Opens an address, whatever the model."""

    @contextmanager
    def session(self, model: str | bytes, target: str, options: Mapping[str, Any]) -> Iterator[Any]:
        """A session of the server's model; its options are the server's."""
        from ort_rknn.api.session import InferenceSession

        with InferenceSession(self.wish(target), enable_fallback=0) as opened:
            yield opened


FLOW = _HereFlow(
    name="remote",
    device="simulator",
    about="simulated, and through gRPC on this machine: our own arithmetic, no board",
    skips=dict.fromkeys(_OTHERS, _NO_TENSORS),
    xfails=XFAILS,
)


def flow_at(address: str) -> Flow:
    """The flow of a model that a server has."""
    return _ThereFlow(name="remote", device=address, about=f"what {address} runs it on")
