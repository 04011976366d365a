"""A line between two programs that is slow, is cut, or swallows everything: a TCP proxy in this process."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time

__all__ = ["BadLine"]

_REPEAT_S = 0.3


class BadLine:
    """Forwards connections to a port of this machine.

    Args:
        port: Where to.
        delay: Seconds that each piece of data takes.
        loss: Share of the pieces at which the connection is cut.
        late: Share of the pieces that come 0.3 s late, and all behind them: lost packets, as TCP repeats them.

    Attributes:
        port: Where it listens.
        dead: While set, nothing gets through and nobody is told: a cable that was pulled.
    """

    def __init__(self, port: int, *, delay: float = 0.0, loss: float = 0.0, late: float = 0.0) -> None:
        self._to = port
        self._delay = delay
        self._loss = loss
        self._late = late
        self._random = random.Random(0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.port = self._listener.getsockname()[1]
        self.dead = threading.Event()
        self.cuts = self.repeats = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._sockets += (near, far)
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._forward, args=ends, daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                while self.dead.is_set():
                    time.sleep(0.01)
                time.sleep(self._delay)
                if self._random.random() < self._late:
                    self.repeats += 1
                    time.sleep(_REPEAT_S)
                if self._random.random() < self._loss:
                    self.cuts += 1
                    break
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Cut all connections."""
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> BadLine:
        return self

    def __exit__(self, *_: object) -> None:
        self.dead.clear()
        self._listener.close()
        self.cut()
        for one in self._sockets:
            one.close()
