"""The compiled variants of one model, by shapes and pinned values: what is ready, on its way, or not to be had.

A new shape is looked up in the cache at once. What is not there is compiled in the background while the CPU answers, or
at the first call, up to a number of shapes; beyond it new shapes are refused and stay on the CPU. They are refused
rather than the oldest thrown out: free widths would otherwise be compiled one after another for ever.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from ort_rknn.errors import RknnError
from ort_rknn.sessions.background_compile import Cancelled, CancelToken, compile_later
from ort_rknn.variant_keys import VariantKey, name_of, shapes_of, values_of, variant_key
from ort_rknn_converters.util.frozen import frozen, replace
from ort_rknn_converters.util.log import logger

if TYPE_CHECKING:
    from ort_rknn.sessions.npu import NpuSession
    from ort_rknn_converters.compiled.model import CompiledModel

__all__ = ["ShapeState", "State", "VariantFactory", "Variants"]

State = Literal["new", "waiting", "compiling", "ready", "cpu", "failed"]

_REMEMBERED = 1000
"""Shapes beyond the limit that are counted one by one, for the plan. A guess."""


@frozen
class ShapeState:
    """State of one set of input shapes and pinned values.

    Attributes:
        shapes: Input name -> shape.
        state: ``new`` (not asked to be compiled), ``waiting`` for the shape before it, ``compiling``, ``ready`` on the
            device, ``cpu`` (compiled, but nothing of it is for the NPU), or ``failed``.
        detail: Why, where it did not become ready.
        seconds: From the request until it was ready.
        values: Input name -> pinned value as JSON text, where several are pinned.
    """

    shapes: Mapping[str, tuple[int, ...]]
    state: State
    detail: str = ""
    seconds: float | None = None
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The shapes and values as users write them: ``x=1x3x48x320;ratio=0.25``."""
        return name_of(variant_key(self.shapes, self.values))

    def __str__(self) -> str:
        words = {
            "new": "on the CPU",
            "waiting": "waits to be compiled; the CPU answers",
            "compiling": "compiling; the CPU answers",
            "ready": "ready",
            "cpu": f"on the CPU: {self.detail}",
            "failed": f"on the CPU, failed because {self.detail}",
        }
        took = f" after {self.seconds:.1f} s" if self.state == "ready" and self.seconds else ""
        return f"{self.name}: {words[self.state]}{took}"


@frozen
class VariantFactory:
    """Functions that make a variant. None of these may keep the session alive.

    Attributes:
        lookup: The compiled model in the cache, or ``None``; raises ``ConvertError`` for a failure that is remembered.
        now: Compiles it, in the caller's thread.
        build: Compiles it in the background thread; the token ends that.
        open: Makes the native session of it; ``None`` when nothing of it is for the NPU.
    """

    lookup: Callable[[VariantKey], CompiledModel | None]
    now: Callable[[VariantKey], CompiledModel]
    build: Callable[[VariantKey, CancelToken], CompiledModel]
    open: Callable[[VariantKey, CompiledModel], NpuSession | None]


class Variants:
    """Compiled variants of one model, keyed by input shapes and pinned values. Thread-safe.

    Args:
        factory: How variants come to be.
        limit: Most shapes that get one.
        mode: When: ``background``, ``load`` or ``never``.
    """

    def __init__(self, factory: VariantFactory, *, limit: int, mode: str) -> None:
        self._factory = factory
        self._limit = limit
        self._mode = mode
        self._changed = threading.Condition()
        self._states: dict[VariantKey, ShapeState] = {}
        self._ready: dict[VariantKey, NpuSession] = {}
        self._beyond: set[VariantKey] = set()
        self._said_beyond = False
        self._stopped = ""
        self._closed = False
        self._token = CancelToken()
        weakref.finalize(self, self._token.cancel).atexit = False

    def find(self, key: VariantKey) -> NpuSession | None:
        """The session for these shapes, when there is one. A shape that is new is looked up first."""
        session = self._ready.get(key)
        if session is None and key not in self._states:
            if self._admit(key):
                self._meet(key, self._mode)
                session = self._ready.get(key)
            elif self._beyond:
                self._say_beyond(key)
        return session

    def load(self, key: VariantKey, mode: str) -> None:
        """Have a listed shape ready before it comes."""
        if self._admit(key):
            self._meet(key, mode)
            if mode == "background":
                self.want(key)

    def want(self, key: VariantKey) -> None:
        """The CPU answered for these shapes: compile them in the background."""
        known = self._states.get(key)
        if self._mode != "background" or known is None or known.state != "new" or self._stopped:
            return
        with self._changed:
            if self._closed or key not in self._states or self._states[key].state != "new":
                return
            beyond = self._full()
            if beyond:
                del self._states[key]
                self._remember(key)
            else:
                self._states[key] = replace(known, state="waiting")
        if beyond:
            self._say_beyond(key)
            return
        compile_later(self._token, partial(_compile, weakref.ref(self), key, self._factory.build))

    def states(self) -> tuple[ShapeState, ...]:
        """Every shape met so far, in the order of their coming, without those beyond the limit."""
        with self._changed:
            return tuple(self._states.values())

    def notes(self) -> tuple[str, ...]:
        """Describes the states in sentences, for the plan."""
        lines = [str(state) for state in self.states()]
        if self._beyond:
            count = f"{len(self._beyond)}{'+' if len(self._beyond) >= _REMEMBERED else ''}"
            why = f"max_shapes is {self._limit}" if self._mode != "never" else "there is no code for them"
            lines.append(f"{count} more on the CPU: {why}")
        if self._stopped:
            lines.append(f"no new shape is compiled: {self._stopped}")
        return tuple(lines)

    def sessions(self) -> tuple[NpuSession, ...]:
        """Sessions that are ready, in the order of their coming."""
        with self._changed:
            return tuple(self._ready.values())

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing waits or is compiling.

        Args:
            timeout: Seconds; ``None`` waits for ever.

        Returns:
            Whether that came to be.
        """

        def settled() -> bool:
            return not any(one.state in ("waiting", "compiling") for one in self._states.values())

        with self._changed:
            return self._changed.wait_for(settled, timeout)

    def close(self) -> None:
        """End what is under way at once. The sessions that are ready are closed by whoever uses them."""
        self._token.cancel()
        with self._changed:
            self._closed = True
            for key, known in self._states.items():
                if known.state in ("waiting", "compiling"):
                    self._states[key] = replace(known, state="new")
            self._changed.notify_all()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _admit(self, key: VariantKey) -> bool:
        """Enter a new shape, if there is room; whoever is told so looks after it."""
        with self._changed:
            if self._closed or key in self._states:
                return False
            if self._full() or len(self._states) >= _REMEMBERED:
                self._remember(key)
                return False
            self._states[key] = ShapeState(shapes_of(key), "waiting", values=values_of(key))
            return True

    def _full(self) -> bool:
        return sum(one.state != "new" for one in self._states.values()) >= self._limit

    def _remember(self, key: VariantKey) -> None:
        if len(self._beyond) < _REMEMBERED:
            self._beyond.add(key)

    def _say_beyond(self, key: VariantKey) -> None:
        """One warning for the first shape beyond the limit; where nothing is compiled at all there is no limit."""
        if self._said_beyond or self._mode == "never":
            return
        self._said_beyond = True
        logger().warning(
            "%s and other new shapes run on the CPU: max_shapes is %d. Raise it, or list the shapes that matter (option"
            " shapes)",
            name_of(key),
            self._limit,
        )

    def _meet(self, key: VariantKey, mode: str) -> None:
        """From the cache, or compiled now where that is wanted."""
        began = time.perf_counter()
        try:
            compiled = self._factory.lookup(key)
            if compiled is None and mode == "load" and not self._stopped:
                self._set(key, "compiling")
                compiled = self._factory.now(key)
            if compiled is not None:
                self._open(key, compiled, began)
            else:
                self._set(key, "new")
        except Exception as error:
            self._fail(key, error)

    def _open(self, key: VariantKey, compiled: CompiledModel, began: float) -> None:
        session = self._factory.open(key, compiled)
        if session is None:
            reason = compiled.plan.main_reason or "it has no node to run"
            self._set(key, "cpu", f"no part of it is for the NPU (mostly: {reason})")
            return
        with self._changed:
            if not self._closed:
                self._ready[key] = session
                self._states[key] = replace(self._states[key], state="ready", seconds=time.perf_counter() - began)
                self._changed.notify_all()
                return
        session.engine.close(wait=False)

    def _fail(self, key: VariantKey, error: Exception) -> None:
        from ort_rknn_converters.errors import ConvertError, ToolkitMissing

        if isinstance(error, Cancelled):
            self._set(key, "new")
            return
        if not isinstance(error, (ConvertError, RknnError)):
            logger().debug("a shape could not be compiled", exc_info=error)
        if isinstance(error, ToolkitMissing):
            self._stopped = str(error)
        logger().warning("%s stays on the CPU: %s", name_of(key), error)
        self._set(key, "failed", str(error))

    def _set(self, key: VariantKey, state: State, detail: str = "") -> None:
        with self._changed:
            if not self._closed:
                self._states[key] = replace(self._states[key], state=state, detail=detail)
            self._changed.notify_all()


def _compile(
    owner: weakref.ref[Variants],
    key: VariantKey,
    build: Callable[[VariantKey, CancelToken], CompiledModel],
    token: CancelToken,
) -> None:
    """In the background thread. The session may be dropped meanwhile: only a weak reference is held while compiling."""
    variants = owner()
    if variants is None or variants._stopped:
        if variants is not None:
            variants._set(key, "new")
        return
    variants._set(key, "compiling")
    del variants
    began = time.perf_counter()
    outcome: Any
    try:
        outcome = build(key, token)
    except Exception as error:
        outcome = error
    variants = owner()
    if variants is None:
        return
    try:
        if isinstance(outcome, Exception):
            raise outcome
        variants._open(key, outcome, began)
    except Exception as error:
        variants._fail(key, error)
