"""Servers for tests: in this process, or as the command in one of its own, which can be killed and frozen."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from ort_rknn.serving.security import Listen
from ort_rknn.serving.server import Server, ServeSettings
from tests.helpers.ort_models import model

__all__ = ["ServerProcess", "publishing", "put_models", "served", "token_file"]

TOKEN = "0123456789abcdef0123456789abcdef"
FREE = Listen("127.0.0.1", 0)


def put_models(folder: Path, *names: str) -> Path:
    """Writes models of ``tests.helpers.ort_models`` into a folder, and gives it."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / f"{name}.onnx").write_bytes(model(name))
    return folder


def token_file(folder: Path) -> str:
    """A file with :data:`TOKEN`."""
    path = folder / "token"
    path.write_text(TOKEN + "\n")
    return str(path)


@contextmanager
def served(folder: Path, **settings: Any) -> Iterator[Server]:
    """A server in this process, on free ports."""
    given: dict[str, Any] = {"listen": (FREE,), "http": FREE, "options": {"device": "cpu"}, "grace": 5.0, **settings}
    server = Server(ServeSettings(folder, **given))
    server.start()
    try:
        yield server
    finally:
        server.stop()


class ServerProcess:
    """``ort-rknn serve`` in a process of its own.

    Args:
        folder: The models.
        arguments: More of the command's.
        port: Of gRPC; 0 takes a free one.
        environment: More variables.
    """

    def __init__(
        self, folder: Path, *arguments: str, port: int = 0, environment: Mapping[str, str] | None = None
    ) -> None:
        command = [sys.executable, "-m", "ort_rknn.cli", "serve", str(folder), "--listen", f"127.0.0.1:{port}"]
        if "--device" not in arguments:
            arguments = ("--device", "cpu", *arguments)
        self.process = subprocess.Popen(
            [*command, *arguments],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "ORT_RKNN_CONFIG": "", **(environment or {})},
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port = int(self.wait_for(r"gRPC at \S+:(\d+)").group(1))
        self.http_port = int(self.wait_for(r"HTTP at \S+:(\d+)").group(1)) if "--http" in arguments else 0

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first line of the log that matches, from here on."""
        while True:
            line = self._lines.get(timeout=60)
            if line is None:
                self.end()
                raise AssertionError("the server ended: " + "".join(self.log))
            self.log.append(line)
            if found := re.search(pattern, line):
                return found

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGKILL) -> int:
        """End it, and give its exit code."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
        code = self.process.wait(timeout=60)
        self._reader.join(10)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def publishing(package: Any, folder: Path, address: str = "") -> Any:
    """onnxruntime, or ``ort_rknn``, with sessions that put their model into a folder and open it there.

    Args:
        package: The module.
        folder: The folder; its path stands in messages.
        address: Of the server of that folder: ``grpc://127.0.0.1:8001``; empty opens the file.
    """

    class InferenceSession(package.InferenceSession):  # type: ignore[misc,name-defined]
        def __init__(self, path_or_bytes: Any, sess_options: Any = None, *rest: Any, **more: Any) -> None:
            source = path_or_bytes
            if isinstance(source, (str, os.PathLike)) and Path(source).is_file():
                source = Path(source).read_bytes()
            if isinstance(source, bytes) and source:
                name = f"m{abs(hash(source))}"
                (folder / f"{name}.onnx").write_bytes(source)
                source = f"{address}/{name}" if address else str(folder / f"{name}.onnx")
            super().__init__(source, sess_options, *rest, **more)

    InferenceSession.__module__ = package.InferenceSession.__module__
    InferenceSession.__qualname__ = "InferenceSession"
    module = ModuleType(package.__name__)
    module.__getattr__ = lambda name: getattr(package, name)  # type: ignore[method-assign]
    module.InferenceSession = InferenceSession  # type: ignore[attr-defined]
    module.__file__ = package.__file__
    return module
