"""The session that an actor holds: one a board, all cores; ready when a run of it was right."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ort_rknn.ort_conventions import CPU_PROVIDER, RKNN_PROVIDER, numpy_dtype

__all__ = ["BoardSession"]


class BoardSession:
    """A session for a Ray actor, or for a deployment of Ray Serve.

    Args:
        model: The model's bytes, or its path on the board.
        options: Provider options.

    Raises:
        Exception: What onnxruntime raises for the model.
    """

    def __init__(self, model: bytes | str, options: Mapping[str, Any] | None = None) -> None:
        from ort_rknn.api.session import InferenceSession

        providers = [(RKNN_PROVIDER, dict(options or {})), CPU_PROVIDER]
        self.opened = InferenceSession(model, providers=providers, enable_fallback=0)
        self._verified = False

    def run(self, output_names: Sequence[str] | None, feed: Mapping[str, Any]) -> list[Any]:
        """One inference; several at once keep all cores busy."""
        results: list[Any] = self.opened.run(output_names, dict(feed))
        return results

    def ready(self) -> dict[str, Any]:
        """Runs once with random inputs, and gives host, process, providers, and the SoC whose code runs.

        Raises:
            RuntimeError: The outputs are not what the model declares, or are not numbers.
        """
        if not self._verified:
            self._verify()
            self._verified = True
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "providers": self.opened.get_providers(),
            "target": self.opened.plan.target,
        }

    def _verify(self) -> None:
        random = np.random.default_rng(0)
        feed = {}
        for argument in self.opened.get_inputs():
            dtype = numpy_dtype(argument.type)
            if dtype is None:
                return  # strings and sequences: no random ones make sense
            shape = [dim if isinstance(dim, int) else 1 for dim in argument.shape]
            feed[argument.name] = np.asarray(random.random(shape) if dtype.kind == "f" else np.ones(shape), dtype)
        results = self.opened.run(None, feed)
        for argument, result in zip(self.opened.get_outputs(), results, strict=True):
            array = np.asarray(result)
            fixed = [dim for dim in argument.shape if isinstance(dim, int)]
            if len(fixed) == len(argument.shape) and fixed and list(array.shape) != fixed:
                raise RuntimeError(f"output {argument.name} has shape {array.shape}, not {fixed}")
            if array.dtype.kind == "f" and np.isnan(array).any():
                raise RuntimeError(f"output {argument.name} of a random input is not a number")
