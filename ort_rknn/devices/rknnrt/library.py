"""The vendor's runtime library: where it is, its entry points, and its return codes as errors that say what to do."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ort_rknn.devices.library_name import ENVIRONMENT, FOLDERS, NAMES, open_library, version_in
from ort_rknn.devices.rknnrt.abi import prototypes
from ort_rknn.devices.vendor_errors import ERRORS
from ort_rknn.errors import DeviceError, DeviceUnavailable
from ort_rknn_converters.util.own_files import is_file

__all__ = ["RuntimeLibrary", "error_name", "failure", "find_library", "load"]

_OPTIONAL = frozenset(
    {"rknn_create_mem_from_fd", "rknn_register_custom_ops", "rknn_set_input_shapes"}
)  # not in every 1.x library
_HOT = frozenset(
    {"rknn_inputs_set", "rknn_run", "rknn_outputs_get", "rknn_outputs_release", "rknn_set_io_mem", "rknn_mem_sync"}
)  # calls of an inference, whose time limit is the lanes'


def error_name(code: int) -> str:
    """The constant of a return code, ``RKNN_ERR_TIMEOUT``; ``error -99`` for one the vendor does not document."""
    return ERRORS[code][0] if code in ERRORS else f"error {code}"


def failure(call: str, code: int, more: str = "") -> DeviceError:
    """The error for a return code: the call, the constant, a sentence."""
    name, sentence = ERRORS.get(code, (f"error {code}", "the vendor does not document this code"))
    text = f"{call} failed: {name} ({code}): {sentence}"
    return DeviceError(f"{text}. {more}" if more else text, call=call, code=code, code_name=name)


class RuntimeLibrary:
    """An opened librknnrt. Its functions give the interpreter's lock away while they run.

    Args:
        path: A file, or a name for the loader to search.

    Raises:
        DeviceUnavailable: It cannot be opened, or is no librknnrt.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._library = open_library(path)
        except OSError as error:
            raise DeviceUnavailable(f"{path} cannot be opened: {error}") from None
        self._functions: dict[str, Any] = {}
        self._watched: dict[str, Callable[..., Any]] = {}
        self._under_way: dict[int, str] = {}
        for name, (result, arguments) in prototypes().items():
            function = getattr(self._library, name, None)
            if function is None:
                if name in _OPTIONAL:
                    continue
                raise DeviceUnavailable(f"{path} has no {name}: it is no librknnrt, or one before version 1.4")
            function.restype = result
            function.argtypes = arguments
            self._functions[name] = function
            self._watched[name] = function if name in _HOT else self._watch(name, function)

    def _watch(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        under_way, this_thread = self._under_way, threading.get_ident

        def call(*arguments: Any) -> Any:
            under_way[this_thread()] = name
            try:
                return function(*arguments)
            finally:
                del under_way[this_thread()]

        return call

    def call_under_way(self, thread: int | None) -> str | None:
        """The call that a thread is in, except for those of an inference."""
        return self._under_way.get(thread or 0)

    def trace(self, wrap: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> None:
        """Put something around every call from Python, e.g. to know the last one when the process dies."""
        self._watched = {name: wrap(name, function) for name, function in self._watched.items()}

    def function(self, name: str) -> Callable[..., Any]:
        """An entry point.

        Raises:
            DeviceError: This library does not have it.
        """
        if name not in self._functions:
            raise DeviceError(f"{self.path} has no {name}; install a newer librknnrt", call=name)
        return self._watched[name]

    def has(self, name: str) -> bool:
        """Whether it has an entry point."""
        return name in self._functions

    def address(self, name: str) -> int:
        """Address of an entry point, for native code."""
        return ctypes.cast(self._functions[name], ctypes.c_void_p).value or 0

    def call(self, name: str, *arguments: Any) -> None:
        """Call an entry point that returns a code.

        Raises:
            DeviceError: It returned an error.
        """
        code = self.function(name)(*arguments)
        if code:
            raise failure(name, code)

    def version_on_disk(self) -> str | None:
        """The version written into the file, e.g. ``2.3.2``: known even when no model can be opened."""
        for folder in ("", *FOLDERS):
            path = Path(folder) / self.path
            if is_file(path):
                return version_in(path)
        return None


_loaded: dict[str, RuntimeLibrary] = {}
_lock = threading.Lock()


def load(path: str | os.PathLike[str] | None = None) -> RuntimeLibrary:
    """Open the runtime library, once per process and name.

    Args:
        path: Where it is; default: what the environment names, else the usual names and folders.

    Raises:
        DeviceUnavailable: There is none; the message lists what was tried.
    """
    tried = []
    for candidate in find_library(path):
        with _lock:
            library = _loaded.get(candidate)
            if library is None:
                try:
                    library = _loaded[candidate] = RuntimeLibrary(candidate)
                except DeviceUnavailable as error:
                    tried.append(str(error))
                    continue
        return library
    raise DeviceUnavailable(
        "the NPU's runtime library librknnrt.so was not found; install it (github.com/airockchip/rknn-toolkit2, folder "
        f"rknpu2/runtime) or name it with {ENVIRONMENT[0]} or the option runtime_library. Tried: {'; '.join(tried)}"
    )


def find_library(path: str | os.PathLike[str] | None = None) -> Sequence[str]:
    """The names to try, in order. A name that was given is the only one: a wrong one must not pass unnoticed."""
    if path:
        return (os.fspath(path),)
    for variable in ENVIRONMENT:
        if os.environ.get(variable):
            return (os.environ[variable],)
    return (*NAMES, *(f"{folder}/{NAMES[0]}" for folder in FOLDERS))
