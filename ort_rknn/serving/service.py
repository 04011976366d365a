"""The logic of the server, whatever the protocol at its door: one call from its inputs to its outputs.

Back-pressure goes from end to end. A call that would be one too many is refused at once; one that was let in waits for
a core until its deadline, and is withdrawn when its client has gone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np

from ort_rknn.engine.submission import Submission
from ort_rknn.errors import SubmitTimeout
from ort_rknn.remote.failures import Refusal, failure_of
from ort_rknn.remote.tensors import TensorError
from ort_rknn.serving.model import Outputs
from ort_rknn.serving.repository import Repository
from ort_rknn.serving.statistics import Statistics
from ort_rknn_converters.util.frozen import frozen

__all__ = [
    "EXTENSIONS",
    "NAME",
    "Call",
    "Client",
    "LetIn",
    "Service",
    "check_spoken",
    "model_statistics",
    "server_version",
]

NAME = "ort_rknn"
EXTENSIONS = ["model_repository", "model_configuration", "statistics", "binary_tensor_data", "parameters"]
"""Triton's names of what is spoken beside the protocol's core."""

_NOT_SPOKEN = {
    "classification": "answers as class names, the classification extension: ask for the tensor and sort it",
    "shared_memory_region": "tensors in shared memory: send them with the request",
}
"""Parameters of a tensor, and what they ask for: without it an answer would be another than was asked for."""

_FAR = 50  # times the slowest run of a model is a limit that no run is expected to reach (a guess)
_LOOK_S = 0.2  # how long a waiting call may not notice that its client has gone (a guess)
_MOST_MICROSECONDS, _MOST_DIGITS = 10**13, 20  # four months, which is no limit any more; and of Triton's 64 bits
PRIORITIES = {"": "", 0: "", "high": "high", "normal": "normal", "medium": "medium", "low": "low"}
PRIORITIES |= {1: "high", 2: "normal", 3: "low", "0": "", "1": "high", "2": "normal", "3": "low"}
"""Request parameter ``priority``, Triton's number or a name -> the option ``priority`` of the session that runs it."""


@frozen
class Call:
    """One inference as it is asked for, but for its tensors: all pictures of a stream have the one.

    Attributes:
        model: The model's name.
        version: ``""`` or ``"1"``.
        outputs: Names of the outputs wanted, in order; empty for all.
        parameters: Of the request: ``priority`` and ``timeout`` (microseconds, Triton's unit) are heeded.
    """

    model: str
    version: str
    outputs: tuple[str, ...]
    parameters: Mapping[str, Any]


class Client(Protocol):
    """A client that waits for an answer; asked only where its call has to wait for something."""

    def time_left(self) -> float | None:
        """Seconds that it waits; ``None`` when it does not say."""

    def gone(self) -> bool:
        """Whether it has gone."""


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
            Refusal: As :meth:`enter`.
        """
        self.enter()
        return LetIn(self)

    def enter(self) -> None:
        """Take a place as :meth:`let_in` does, to be given back by :meth:`leave`.

        Raises:
            Refusal: There are as many calls under way as may be, or the server is going down.
        """
        with self._lock:
            if self._draining:
                raise Refusal("UNAVAILABLE", "the server is going down")
            if self._under_way >= self.pending:
                text = f"{self.pending} calls are under way, which is all this server takes (--pending): try again"
                raise Refusal("RESOURCE_EXHAUSTED", text, "SubmitTimeout")
            self._under_way += 1
            self._owed += 1

    def leave(self, *, held: bool = True) -> None:
        """Say that an answer is made and written, and give its place back unless that was done before."""
        with self._lock:
            self._owed -= 1
            if held:
                self._under_way -= 1
            if self._draining:
                self._changed.notify_all()

    def free(self) -> None:
        """Give a place to the next call; the answer is made and is still to be written."""
        with self._lock:
            self._under_way -= 1

    def infer(
        self, call: Call, inputs: Mapping[str, np.ndarray[Any, Any]], client: Client
    ) -> tuple[Outputs, Sequence[np.ndarray[Any, Any]]]:
        """Run a call that was let in; its outputs and their values.

        Args:
            call: How it is asked for.
            inputs: Name to array.
            client: Who waits.

        Raises:
            Exception: What the session raises, or a :class:`~ort_rknn.remote.failures.Refusal`.
        """
        begun = time.monotonic()
        name, path = self.repository.find(call.model, call.version)
        try:
            priority, limit = _terms(call.parameters) if call.parameters else ("", 0.0)
            model = self.repository.acquired(name)
            if model is None:
                model = self.repository.acquire(name, path, self._deadline(begun, client, limit) - begun)
            try:
                outputs = model.asked(call.outputs)
                session = model.session("" if priority == self._own else priority)
                # Where a core is idle the call runs here, with no thread between: half of its cost. A gRPC client keeps
                # its deadline itself; who gives a limit as a parameter is freed by the server if a run may reach it.
                if model.users <= model.at_once and (not limit or 0.0 < _FAR * model.slowest <= limit):
                    queue, ran = 0.0, time.monotonic()
                    results = session.run(outputs.listed, inputs)
                    infer = time.monotonic() - ran
                else:
                    deadline = self._deadline(begun, client, limit)
                    results, queue, infer = self._queued(session, outputs, inputs, client, deadline)
                if infer > model.slowest:
                    model.slowest = infer
            finally:
                self.repository.release(model)
        except BaseException as error:
            self.repository.statistics(name).failed(failure_of(error).code, time.monotonic() - begun)
            raise
        model.statistics.answered(time.monotonic() - begun, queue, infer)
        return outputs.given(results) if outputs.optional else (outputs, results)

    def _deadline(self, begun: float, client: Client, limit: float) -> float:
        left = client.time_left()
        ends = begun + self._limit if left is None else time.monotonic() + left
        return min(ends, begun + limit) if limit else ends

    def _queued(
        self,
        session: Any,
        outputs: Outputs,
        inputs: Mapping[str, np.ndarray[Any, Any]],
        client: Client,
        deadline: float,
    ) -> tuple[Sequence[Any], float, float]:
        """The results, and the seconds the job waited for a core and ran."""
        job = self._submitted(session, outputs, inputs, client, deadline)
        try:
            while not job.wait(max(0.0, min(_LOOK_S, deadline - time.monotonic()))):
                if time.monotonic() >= deadline:
                    text = f"model {outputs.model!r} gave no answer in time"
                    raise Refusal("DEADLINE_EXCEEDED", text, "InferenceTimeout")
                if client.gone():
                    raise Refusal("CANCELLED", "the client has gone")
            results = job.result()  # no limit: it has ended
        except CancelledError:
            raise Refusal("UNAVAILABLE", "the model was closed meanwhile: try again", "SessionClosed") from None
        finally:
            job.cancel()  # what has ended stays as it is
        timing = job.timing
        return results, timing.queue, max(0.0, timing.total - timing.queue)

    def _submitted(
        self,
        session: Any,
        outputs: Outputs,
        inputs: Mapping[str, np.ndarray[Any, Any]],
        client: Client,
        deadline: float,
    ) -> Any:
        while True:
            left = deadline - time.monotonic()
            try:
                wait = max(0.0, min(_LOOK_S, left))
                return session._job(Submission(outputs.listed, inputs, timeout=wait, copy=False))
            except SubmitTimeout:
                if left <= _LOOK_S:
                    raise
                if client.gone():
                    raise Refusal("CANCELLED", "the client has gone") from None


class LetIn:
    """A place among the calls under way, from before the request is read until the answer is written.

    Args:
        service: Whose place it is.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._held = True

    def free(self) -> None:
        """Give the place to the next call; the answer is made and is still to be written."""
        held, self._held = self._held, False
        if held:
            self._service.free()

    def __enter__(self) -> LetIn:
        return self

    def __exit__(self, *_: object) -> None:
        self._service.leave(held=self._held)
        self._held = False


def _terms(parameters: Mapping[str, Any]) -> tuple[str, float]:
    """The class of a call, and the seconds that its request allows; 0 where it does not say."""
    given = parameters.get("priority", "")
    if isinstance(given, bool) or not isinstance(given, (int, str)) or given not in PRIORITIES:
        raise TensorError(f"the parameter priority is high, normal, low, or 0 (as the server says) to 3, not {given!r}")
    limit = parameters.get("timeout", 0)
    if isinstance(limit, str) and limit.isdecimal() and len(limit) <= _MOST_DIGITS:
        limit = int(limit)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise TensorError(f"the parameter timeout is a whole number of microseconds, not {str(limit)[:40]!r}")
    return PRIORITIES[given], min(limit, _MOST_MICROSECONDS) / 1e6


def check_spoken(name: str, parameters: Mapping[str, Any]) -> None:
    """Refuses a tensor whose parameters ask for what is not spoken here.

    Raises:
        Refusal: They do.
    """
    for key, text in _NOT_SPOKEN.items():
        if parameters.get(key):
            raise Refusal("UNIMPLEMENTED", f"tensor {name!r}: there are no {text}", "NotImplemented")


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
