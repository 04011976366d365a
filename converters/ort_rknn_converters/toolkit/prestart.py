"""A toolkit's process that runs before there is anything to compile. Importing this is quick: that is its use."""

from __future__ import annotations

from contextlib import suppress

from ort_rknn_converters.errors import ToolkitMissing
from ort_rknn_converters.toolkit.setup.environment import ToolkitPython, find_python
from ort_rknn_converters.toolkit.worker_process import Child

__all__ = ["Standby", "Started"]


class Standby:
    """A child that is started before there is anything to compile, because its imports take half a second.

    Without a toolkit nothing happens: whoever compiles will be told. Use it as a context manager.
    """

    def __init__(self) -> None:
        self._waiting: list[Started] = []

    def __enter__(self) -> Standby:
        with suppress(ToolkitMissing, OSError):
            self._waiting.append(Started(find_python()))
        return self

    def __exit__(self, *_: object) -> None:
        while (started := self.take()) is not None:
            started.__exit__(None, None, None)

    def take(self) -> Started | None:
        """The child, once; whoever takes it ends it."""
        try:
            return self._waiting.pop()
        except IndexError:
            return None


class Started:
    """A child that runs from the start, as a context manager that ends it."""

    def __init__(self, toolkit: ToolkitPython) -> None:
        self._child = Child(toolkit).__enter__()
        try:
            self._child.start()
        except BaseException:
            self._child.__exit__()
            raise

    def __enter__(self) -> Child:
        return self._child

    def __exit__(self, *_: object) -> None:
        self._child.__exit__()
