"""A pool of boards: one actor a board, and a map over them that is bounded, ordered, and outlives boards."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from ort_rknn.errors import DeviceUnavailable
from ort_rknn.ray.resources import RESOURCE
from ort_rknn.ray.worker import BoardSession

__all__ = ["Pool"]

_MORE = 2
"""Calls beyond a board's cores that are sent to it, so that it never waits for the wire (a guess)."""


_ASK_AGAIN_S = 0.5
"""Seconds between two questions to a board that is away (a guess: Ray restarts an actor in 1 to 2 s)."""


class _Board:
    """An actor, and the calls it has."""

    def __init__(self, actor: Any, cores: int) -> None:
        self.actor = actor
        self.depth = cores + _MORE
        self.flying = 0
        self.there = False  # until it has answered, the board gets nothing
        self.ping: Any = actor.ready.remote()
        self.ask_at = 0.0

    def lost(self) -> None:
        """Take note that it is away; Ray restarts it, and it is asked again after a while."""
        self.there, self.ping = False, None
        self.ask_at = time.monotonic() + _ASK_AGAIN_S


class _Call:
    """A feed on its way."""

    def __init__(self, number: int, feed: Mapping[str, Any]) -> None:
        self.number = number
        self.feed = feed
        self.tries = 0
        self.board: _Board | None = None


class Pool:
    """Sessions of one model on the boards of a Ray cluster; ``ray.init`` was called.

    Args:
        model: The model's bytes, or a path here; it is sent to each board once.
        num: Boards; all that have the resource when ``None``.
        options: Provider options of the sessions.
        resource: Ray's resource: ``rknpu``, or ``rknpu_rk3588`` for boards of one SoC.
        tries: Boards that a feed is tried on before its failure is the caller's.
        timeout: Seconds without any answer, of all boards, after which a map gives up.

    Raises:
        DeviceUnavailable: No node of the cluster has the resource.
    """

    def __init__(
        self,
        model: bytes | str | Path,
        num: int | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        resource: str = RESOURCE,
        tries: int = 3,
        timeout: float = 120.0,
    ) -> None:
        cores = [int(node["Resources"][resource]) for node in ray.nodes() if node["Alive"] and _has(node, resource)]
        if not cores:
            raise DeviceUnavailable(
                f"no node of the cluster has the resource {resource}: start them with "
                '`ray start --address=HEAD:6379 --resources="$(python -m ort_rknn.ray)"`'
            )
        # kept: a board that is restarted gets the model once more
        self._content = content = ray.put(model if isinstance(model, bytes) else Path(model).read_bytes())
        self._tries = tries
        self._timeout = timeout
        self._boards = [_Board(_actor(content, options, resource, count), count) for count in cores[:num]]

    def __len__(self) -> int:
        """Boards of the pool, also those that are away."""
        return len(self._boards)

    def wait_ready(self, timeout: float | None = None) -> list[dict[str, Any]]:
        """Wait until every board has made a run that was right; gives host, process, providers and SoC of each.

        Args:
            timeout: Seconds; the pool's own when ``None``.

        Raises:
            DeviceUnavailable: A board cannot open the model.
            Exception: What a board's session raised, or Ray's ``GetTimeoutError``.
        """
        limit = self._timeout if timeout is None else timeout
        try:
            found: list[dict[str, Any]] = ray.get([board.actor.ready.remote() for board in self._boards], timeout=limit)
        except RayTaskError as error:
            raise _cause(error) from error
        except RayActorError as error:
            raise DeviceUnavailable(f"a board cannot open the model: {_last_line(error)}") from error
        return found

    def map(self, feeds: Iterable[Mapping[str, Any]], output_names: Sequence[str] | None = None) -> Iterator[list[Any]]:
        """Run many feeds over the boards, and give the results in their order.

        Reads ``feeds`` only as far as the boards have room. A feed whose board dies is run on another: at least once.

        Args:
            feeds: Any iterable of feeds, endless ones too.
            output_names: As of ``run``.

        Raises:
            DeviceUnavailable: No board answered for as long as ``timeout``, or a feed's boards died one after another.
            Exception: What a session raised for a feed, when its turn comes.
        """
        names = None if output_names is None else list(output_names)
        source = enumerate(iter(feeds))
        again: deque[_Call] = deque()
        flying: dict[Any, _Call] = {}
        done: dict[int, Any] = {}
        turn, exhausted = 0, False
        window = 2 * sum(board.depth for board in self._boards)
        heard = time.monotonic()
        try:
            while True:
                while (board := self._room()) is not None and (again or not exhausted):
                    if not again:
                        if len(flying) + len(done) >= window:
                            break
                        following = next(source, None)
                        if following is None:
                            exhausted = True
                            break
                        again.append(_Call(*following))
                    call = again.popleft()
                    call.board = board
                    call.tries += 1
                    board.flying += 1
                    flying[board.actor.run.remote(names, call.feed)] = call
                if not flying and not again and exhausted:
                    break
                answered = self._answers(flying)
                if answered:
                    heard = time.monotonic()
                elif time.monotonic() - heard > self._timeout:
                    raise DeviceUnavailable(f"no board of {len(self)} has answered for {self._timeout:g} s")
                for reference in answered:
                    call = flying.pop(reference)
                    self._take(reference, call, done, again)
                while turn in done:
                    result = done.pop(turn)
                    turn += 1
                    if isinstance(result, Exception):
                        raise result
                    yield result
        finally:
            for reference, call in flying.items():
                ray.cancel(reference)
                if call.board is not None:
                    call.board.flying -= 1

    def _room(self) -> _Board | None:
        """The board with the most room, of those that are there."""
        there = [board for board in self._boards if board.there and board.flying < board.depth]
        return min(there, key=lambda board: board.flying / board.depth, default=None)

    def _answers(self, flying: Mapping[Any, _Call]) -> list[Any]:
        """The calls that have ended; meanwhile boards that came back are noted."""
        now = time.monotonic()
        for board in self._boards:
            if not board.there and board.ping is None and now >= board.ask_at:
                board.ping = board.actor.ready.remote()
        pings = {board.ping: board for board in self._boards if board.ping is not None}
        if not flying and not pings:
            time.sleep(_ASK_AGAIN_S)  # all are being restarted
            return []
        ready, _ = ray.wait([*flying, *pings], num_returns=1, timeout=_ASK_AGAIN_S)
        for reference in ready:
            if (pinged := pings.get(reference)) is not None:
                self._pinged(pinged, reference)
        return [reference for reference in ready if reference in flying]

    def _pinged(self, board: _Board, reference: Any) -> None:
        try:
            ray.get(reference)  # no limit: ray.wait said that it is there
        except RayActorError as error:
            if getattr(error, "actor_init_failed", False):
                raise DeviceUnavailable(f"a board cannot open the model: {_last_line(error)}") from error
            board.lost()
        except RayTaskError as error:
            raise _cause(error) from error
        else:
            board.there, board.ping = True, None

    def _take(self, reference: Any, call: _Call, done: dict[int, Any], again: deque[_Call]) -> None:
        board = call.board
        assert board is not None
        board.flying -= 1
        try:
            done[call.number] = ray.get(reference)  # no limit: ray.wait said that it is there
        except RayTaskError as error:
            done[call.number] = _cause(error)
        except RayActorError as error:
            board.lost()
            if call.tries < self._tries:
                again.append(call)
            else:
                text = f"feed {call.number} was tried {call.tries} times, and each time its board died: {error}"
                done[call.number] = DeviceUnavailable(text)

    def close(self) -> None:
        """End the actors."""
        for board in self._boards:
            ray.kill(board.actor)
        self._boards = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _has(node: Mapping[str, Any], resource: str) -> bool:
    return bool(node["Resources"].get(resource, 0) >= 1)


def _actor(content: Any, options: Mapping[str, Any] | None, resource: str, cores: int) -> Any:
    """An actor that takes all cores of a board: one a core would load the weights once each."""
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_concurrency=cores + _MORE, resources={resource: cores})
    return actor(BoardSession).remote(content, dict(options or {}))


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in reversed(lines) if line), type(error).__name__)


def _cause(error: Any) -> Exception:
    """The exception that was raised on the board."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, Exception) else error
