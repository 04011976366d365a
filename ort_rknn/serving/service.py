"""The logic of the server, whatever the protocol at its door: one call from its inputs to its outputs.

Back-pressure goes from end to end. A call that would be one too many is refused at once; one that was let in waits for
a core until its deadline, and is withdrawn when its client has gone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from importlib.metadata import version
from typing import Any

import numpy as np

from ort_rknn.engine.submission import Submission
from ort_rknn.errors import SubmitTimeout
from ort_rknn.remote.failures import Refusal, failure_of
from ort_rknn.remote.tensors import TensorError
from ort_rknn.serving.model import OpenModel
from ort_rknn.serving.repository import Repository
from ort_rknn.serving.statistics import Statistics
from ort_rknn_converters.util.frozen import frozen

__all__ = ["EXTENSIONS", "NAME", "Answer", "Call", "LetIn", "Service", "model_statistics", "server_version"]

NAME = "ort_rknn"
EXTENSIONS = ["model_repository", "model_configuration", "statistics", "binary_tensor_data", "parameters"]
"""Triton's names of what is spoken beside the protocol's core."""

_LOOK_S = 0.2  # how long a waiting call may not notice that its client has gone (a guess)
PRIORITIES = {"": "", 0: "", "high": "high", "normal": "normal", "medium": "medium", "low": "low"}
PRIORITIES |= {1: "high", 2: "normal", 3: "low", "0": "", "1": "high", "2": "normal", "3": "low"}
"""Request parameter ``priority``, Triton's number or a name -> the option ``priority`` of the session that runs it."""


@frozen
class Call:
    """One inference as it is asked for.

    Attributes:
        model: The model's name.
        version: ``""`` or ``"1"``.
        inputs: Name to array.
        outputs: Names of the outputs wanted, in order; empty for all.
        parameters: Of the request: ``priority`` and ``timeout`` (microseconds, Triton's unit) are heeded.
        time_left: Seconds that the client waits; ``None`` when it does not say.
        gone: Whether the client has gone.
    """

    model: str
    version: str
    inputs: Mapping[str, np.ndarray[Any, Any]]
    outputs: Sequence[str]
    parameters: Mapping[str, Any]
    time_left: float | None
    gone: Callable[[], bool]


@frozen
class Answer:
    """The outputs of a call.

    Attributes:
        model: The model's own name.
        names: Of the outputs.
        datatypes: The protocol's name of each one's type.
        arrays: The values.
    """

    model: str
    names: tuple[str, ...]
    datatypes: tuple[str, ...]
    arrays: tuple[np.ndarray[Any, Any], ...]


class Service:
    """The logic that the doors call.

    Args:
        repository: The models.
        pending: Calls let in at once.
        limit: Seconds a call may take when its client does not say.
        load_limit: Seconds that a call of the repository may take.
        priority: Class of the sessions as the server opens them.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        pending: int,
        limit: float = 60.0,
        load_limit: float = 1800.0,
        priority: str = "normal",
    ) -> None:
        self.repository = repository
        self.pending = pending
        self.load_limit = load_limit
        self._limit = limit
        self._own = priority
        self._lock = threading.Lock()  # the condition's: it is taken thrice a call, which by the condition takes longer
        self._changed = threading.Condition(self._lock)
        self._under_way = self._owed = 0
        self._draining = False
        self._loaded = threading.Event()

    # --- life ---------------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether calls are welcome: what was to be loaded is, and the server is not going down."""
        return self._loaded.is_set() and not self._draining

    def all_loaded(self) -> None:
        """Say that all that was to be loaded at the start is."""
        self._loaded.set()

    def drain(self, timeout: float) -> bool:
        """Be ready no more, and wait until the calls under way have ended; whether they have."""
        with self._changed:
            self._draining = True
            return self._changed.wait_for(lambda: self._owed == 0, timeout)

    @property
    def draining(self) -> bool:
        """Whether the server is going down."""
        return self._draining

    @property
    def under_way(self) -> int:
        """Calls that were let in and have not ended."""
        return self._under_way

    # --- inference ----------------------------------------------------------------------------------------------------

    def let_in(self) -> LetIn:
        """A place for one call: take it before the request's bytes are read, give it back when the answer is made.

        Raises:
            Refusal: There are as many calls under way as may be.
        """
        with self._lock:
            if self._under_way >= self.pending:
                text = f"{self.pending} calls are under way, which is all this server takes (--pending): try again"
                raise Refusal("RESOURCE_EXHAUSTED", text, "SubmitTimeout")
            self._under_way += 1
            self._owed += 1
        return LetIn(self._free, self._answered)

    def _free(self) -> None:
        with self._lock:
            self._under_way -= 1

    def _answered(self) -> None:
        with self._lock:
            self._owed -= 1
            if self._draining:
                self._changed.notify_all()

    def infer(self, call: Call) -> Answer:
        """Run a call that was let in.

        Raises:
            Exception: What the session raises, or a :class:`~ort_rknn.remote.failures.Refusal`.
        """
        begun = time.monotonic()
        name, path = self.repository.find(call.model, call.version)
        statistics = self.repository.statistics(name)
        try:
            deadline = begun + self._time_left(call)
            model = self.repository.acquire(name, path, deadline - begun)
            try:
                answer, queue, infer = self._run(model, call, deadline)
            finally:
                self.repository.release(model)
        except BaseException as error:
            statistics.failed(failure_of(error).code, time.monotonic() - begun)
            raise
        statistics.answered(time.monotonic() - begun, queue, infer)
        return answer

    def _time_left(self, call: Call) -> float:
        left = self._limit if call.time_left is None else call.time_left
        given = call.parameters.get("timeout", 0)
        if isinstance(given, bool) or not isinstance(given, (int, str)) or not str(given).isdecimal():
            raise TensorError(f"the parameter timeout is a whole number of microseconds, not {given!r}")
        return min(left, int(given) / 1e6) if int(given) else left

    def _run(self, model: OpenModel, call: Call, deadline: float) -> tuple[Answer, float, float]:
        """The answer, and the seconds it waited and ran."""
        names = tuple(call.outputs) or tuple(model.outputs)
        datatypes = [model.outputs.get(name, "") for name in names]  # onnxruntime refuses those that are not there
        for name, datatype in zip(names, datatypes, strict=True):
            if datatype is None:
                text = f"output {name!r} cannot go over this protocol: only tensors of numbers and strings can be sent"
                raise Refusal("UNIMPLEMENTED", text, "NotImplemented")
        priority = _priority(call.parameters)
        session = model.session("" if priority == self._own else priority)
        # Where a core is idle the call runs here, with no thread between: half of its cost. A gRPC client keeps its
        # deadline itself; who gives a limit as a parameter is to be freed by the server.
        if model.users <= model.at_once and not call.parameters.get("timeout"):
            begun = time.monotonic()
            results = session.run(list(names), call.inputs)
            return _answer(model, names, datatypes, results), 0.0, time.monotonic() - begun
        job = self._submitted(session, names, call, deadline)
        try:
            while not job.wait(max(0.0, min(_LOOK_S, deadline - time.monotonic()))):
                if time.monotonic() >= deadline:
                    text = f"model {model.name!r} gave no answer in time"
                    raise Refusal("DEADLINE_EXCEEDED", text, "InferenceTimeout")
                if call.gone():
                    raise Refusal("CANCELLED", "the client has gone")
            results = job.result()  # no limit: it has ended
        except CancelledError:
            raise Refusal("UNAVAILABLE", "the model was closed meanwhile: try again", "SessionClosed") from None
        finally:
            job.cancel()  # what has ended stays as it is
        timing = job.timing
        return _answer(model, names, datatypes, results), timing.queue, max(0.0, timing.total - timing.queue)

    def _submitted(self, session: Any, names: Sequence[str], call: Call, deadline: float) -> Any:
        while True:
            left = deadline - time.monotonic()
            try:
                return session._job(
                    Submission(list(names), call.inputs, timeout=max(0.0, min(_LOOK_S, left)), copy=False)
                )
            except SubmitTimeout:
                if left <= _LOOK_S:
                    raise
                if call.gone():
                    raise Refusal("CANCELLED", "the client has gone") from None


def _answer(model: OpenModel, names: Sequence[str], datatypes: Sequence[str | None], results: Sequence[Any]) -> Answer:
    given = [row for row in zip(names, datatypes, results, strict=True) if row[2] is not None]  # optional ones
    return Answer(
        model.name,
        tuple(name for name, _, _ in given),
        tuple(str(datatype) for _, datatype, _ in given),
        tuple(np.asarray(value) for _, _, value in given),
    )


class LetIn:
    """A place among the calls under way, from before the request is read until the answer is written.

    Args:
        freed: Called once, when the place is another call's.
        answered: Called once, at the end.
    """

    def __init__(self, freed: Callable[[], None], answered: Callable[[], None]) -> None:
        self._freed: Callable[[], None] | None = freed
        self._answered = answered

    def free(self) -> None:
        """Give the place to the next call; the answer is made and is still to be written."""
        freed, self._freed = self._freed, None
        if freed is not None:
            freed()

    def __enter__(self) -> LetIn:
        return self

    def __exit__(self, *_: object) -> None:
        self.free()
        self._answered()


def _priority(parameters: Mapping[str, Any]) -> str:
    given = parameters.get("priority", "")
    if isinstance(given, bool) or not isinstance(given, (int, str)) or given not in PRIORITIES:
        raise TensorError(f"the parameter priority is high, normal, low, or 0 (as the server says) to 3, not {given!r}")
    return PRIORITIES[given]


def server_version() -> str:
    """The release of this package."""
    return version("ort-rknn")


def model_statistics(repository: Repository, name: str, model_version: str) -> list[dict[str, Any]]:
    """The statistics of one model, or of all that were called when ``name`` is empty.

    Raises:
        Refusal: There is no such model.
    """
    if not name:
        return [_row(known, numbers) for known, numbers in repository.all_statistics().items()]
    known, _ = repository.find(name, model_version)
    return [_row(known, repository.statistics(known))]


def _row(name: str, statistics: Statistics) -> dict[str, Any]:
    now = statistics.snapshot()
    return {
        "name": name,
        "version": "1",
        "last_inference": now.last,
        "inference_count": now.answered,
        "execution_count": now.answered,
        "inference_stats": {
            "success": _duration(now.answered, now.seconds),
            "fail": _duration(now.failed, now.failed_seconds),
            "queue": _duration(now.answered, now.queue_seconds),
            "compute_input": _duration(now.answered, 0.0),
            "compute_infer": _duration(now.answered, now.infer_seconds),
            "compute_output": _duration(now.answered, 0.0),
        },
    }


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": int(seconds * 1e9)}
