"""An open model of the repository: its sessions, one for each class of calls, and what is said of it."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ort_rknn.engine.cpu_workers import CPU_WORKERS
from ort_rknn.engine.engine import Engine
from ort_rknn.remote.failures import Refusal
from ort_rknn.remote.outside import OUTSIDE_KEY, PLACES_KEY, STUB_KEY, Argument, Outside, pack, stub_of
from ort_rknn.remote.tensors import ITEM_SIZES, STRINGS, datatype_of
from ort_rknn.serving.statistics import Statistics
from ort_rknn_converters.util.frozen import frozen

__all__ = ["VERSION", "OpenModel", "Outputs", "datatype_shown", "dims_shown"]

_MOST_CHOICES = 64  # orders of outputs that are remembered of a model (a guess)

VERSION = "1"
"""The one version a model has: its file."""

OpenSession = Callable[[str], Any]
"""Opens a session of the model for a class of calls (``""``: as the server's options say)."""


@frozen
class Outputs:
    """The outputs of a call, in the order asked for.

    Attributes:
        model: The model's own name.
        names: Theirs.
        datatypes: The protocol's name of each one's type.
        listed: The names as sessions take them.
        optional: Whether one may be left out by the model.
    """

    model: str
    names: tuple[str, ...]
    datatypes: tuple[str, ...]
    listed: list[str]
    optional: bool = False

    def given(self, results: Sequence[Any]) -> tuple[Outputs, Sequence[np.ndarray[Any, Any]]]:
        """The outputs that a run gave, and their values."""
        rows = [row for row in zip(self.names, self.datatypes, results, strict=True) if row[2] is not None]
        names = tuple(name for name, _, _ in rows)
        outputs = Outputs(self.model, names, tuple(datatype for _, datatype, _ in rows), list(names))
        return outputs, [value for _, _, value in rows]


class OpenModel:
    """One model, open.

    Args:
        name: Its name.
        open_session: Opens a session of it.
        clock: Seconds, monotonic.
        places: Calls that the server lets in at once, for clients to know; 0 where that is not said.
        statistics: The numbers of its calls.

    Attributes:
        outside: Inputs, outputs and metadata.
        config: Triton's model config as JSON.
        outputs: Output name -> the protocol's name of its type, ``None`` where it has none.
        at_once: Calls that run in their own threads, as long as no more are under way.
        users: Calls under way.
        used_at: When the last one ended.
        slowest: Seconds of the longest run until now.
        retired: Whether it is to be closed as soon as nobody uses it.
    """

    def __init__(
        self,
        name: str,
        open_session: OpenSession,
        clock: Callable[[], float],
        places: int = 0,
        statistics: Statistics | None = None,
    ) -> None:
        self.name = name
        self.statistics = Statistics() if statistics is None else statistics
        self._open = open_session
        self._opening = threading.Lock()
        self._sessions = {"": open_session("")}
        try:
            self.outside = Outside.of(self._sessions[""])
            self.config = _config(name, self.outside, places)
            self.outputs = {one.name: datatype_of(one.type) for one in self.outside.outputs}
            self._optional = {one.name for one in self.outside.outputs if one.type.startswith("optional")}
            self._asked: dict[tuple[str, ...], Outputs] = {}
        except BaseException:
            self._sessions[""].close()
            raise
        self.at_once = _at_once(self._sessions[""])
        self.users = 0
        self.used_at = clock()
        self.slowest = 0.0
        self.retired = False

    def session(self, priority: str) -> Any:
        """The session for a class of calls; the first call of a class opens it."""
        session = self._sessions.get(priority)
        if session is None:
            with self._opening:
                session = self._sessions.get(priority)
                if session is None:
                    session = self._sessions[priority] = self._open(priority)
        return session

    def asked(self, names: tuple[str, ...]) -> Outputs:
        """The outputs of these names, all for none; onnxruntime refuses those that are not there.

        Raises:
            Refusal: One of them is no tensor.
        """
        known = self._asked.get(names)
        if known is not None:
            return known
        wanted = names or tuple(self.outputs)
        datatypes = [self.outputs.get(name, "") for name in wanted]
        for name, datatype in zip(wanted, datatypes, strict=True):
            if datatype is None:
                text = f"output {name!r} cannot go over this protocol: only tensors of numbers and strings can be sent"
                raise Refusal("UNIMPLEMENTED", text, "NotImplemented")
        optional = not self._optional.isdisjoint(wanted)
        found = Outputs(self.name, wanted, tuple(map(str, datatypes)), list(wanted), optional)
        if "" not in datatypes and len(self._asked) < _MOST_CHOICES:
            self._asked[names] = found
        return found

    def metadata(self) -> dict[str, Any]:
        """The protocol's model metadata as JSON."""
        return {
            "name": self.name,
            "versions": [VERSION],
            "platform": self.config["platform"],
            "inputs": [_metadata(one) for one in (*self.outside.inputs, *self.outside.overridable)],
            "outputs": [_metadata(one) for one in self.outside.outputs],
        }

    def request_bytes(self) -> int | None:
        """Bytes of all inputs; ``None`` where a shape is open or strings have no size."""
        sizes = [_bytes(argument) for argument in (*self.outside.inputs, *self.outside.overridable)]
        return None if any(size is None for size in sizes) else sum(size or 0 for size in sizes)

    def close(self) -> None:
        """Finish what was accepted, and give everything back."""
        for session in self._sessions.values():
            session.close()


def _at_once(session: Any) -> int:
    """Calls that run in their own threads: one where there are cores, on the CPU alone what an engine runs at once.

    A core whose call has to come back through Python before the next one begins idles meanwhile, while one that takes
    from a queue does not: three cores of 5 ms are 95 % busy instead of 93 (measured on a PC of two CPUs).
    """
    engine = session._existing_engine()
    return 1 if isinstance(engine, Engine) and engine.plan().lanes else CPU_WORKERS


def datatype_shown(argument: Argument) -> str:
    """The protocol's name of an argument's type; onnxruntime's where it has none, which no call can use."""
    return datatype_of(argument.type) or argument.type


def dims_shown(argument: Argument) -> list[int]:
    """The shape as the protocol writes it: -1 where it is open."""
    return [dim if isinstance(dim, int) else -1 for dim in argument.shape]


def _metadata(argument: Argument) -> dict[str, Any]:
    return {"name": argument.name, "datatype": datatype_shown(argument), "shape": dims_shown(argument)}


def _bytes(argument: Argument) -> int | None:
    datatype = datatype_of(argument.type)
    if datatype in (None, STRINGS) or not argument.shape or not all(isinstance(dim, int) for dim in argument.shape):
        return None
    return math.prod(int(dim or 0) for dim in argument.shape) * ITEM_SIZES[str(datatype)]


def _config(name: str, outside: Outside, places: int) -> dict[str, Any]:
    """Triton's model config.

    The entry ``metadata`` is the model's own, as a Python dictionary in text: what Ultralytics' exporter for Triton
    writes and its client reads.
    """
    parameters: Mapping[str, str] = {
        "metadata": repr(dict(outside.custom)),
        OUTSIDE_KEY: json.dumps(outside.to_dict()),
        STUB_KEY: pack(stub_of(outside)),
        **({PLACES_KEY: str(places)} if places else {}),
    }
    return {
        "name": name,
        "platform": "onnxruntime_onnx",
        "backend": "ort_rknn",
        "max_batch_size": 0,
        "input": [
            {**_row(one), "optional": one.type.startswith("optional")}
            for one in (*outside.inputs, *outside.overridable)
        ],
        "output": [_row(one) for one in outside.outputs],
        "parameters": {key: {"string_value": text} for key, text in parameters.items()},
    }


def _row(argument: Argument) -> dict[str, Any]:
    datatype = datatype_of(argument.type)
    kind = {None: "TYPE_INVALID", STRINGS: "TYPE_STRING"}.get(datatype, f"TYPE_{datatype}")
    return {"name": argument.name, "data_type": kind, "dims": dims_shown(argument)}
