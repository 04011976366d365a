"""Doors and keys: addresses that need a token, and tokens that are right."""

from __future__ import annotations

import hmac
import ipaddress
import re

from ort_rknn.errors import InvalidOption
from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.own_files import read_given

__all__ = ["Listen", "Tokens", "check_exposed"]

SHORTEST = 16
"""Characters of a token at least (a guess: `openssl rand -hex 16` gives 32)."""


_MOST = 1 << 20  # bytes of a file of tokens; a guess


@frozen
class Listen:
    """A place to listen at.

    Attributes:
        host: Name or number; ``""`` for a unix socket.
        port: Its port.
        unix: Path of a unix socket, or ``""``.
    """

    host: str = ""
    port: int = 0
    unix: str = ""

    @classmethod
    def parse(cls, text: str, *, host: str = "127.0.0.1") -> Listen:
        """Reads ``host:port``, ``port`` or ``unix:/path``.

        Raises:
            InvalidOption: It is none of them.
        """
        if text.startswith("unix:"):
            path = text.removeprefix("unix:").removeprefix("//")
            if not path.startswith("/") or len(path.encode()) > 100:  # the kernel takes 107
                raise InvalidOption(f"{text!r}: a unix socket is a whole path of at most 100 bytes: unix:/run/x.sock")
            return cls(unix=path)
        match = re.fullmatch(r"(?:(\[[0-9a-fA-F:.]+\]|[^:\[\]/\s]+):)?(\d{1,5})", text)
        if match is None or int(match.group(2)) > 65535:
            raise InvalidOption(f"{text!r} is no place to listen at: 127.0.0.1:8001, 8001 or unix:/run/ort_rknn.sock")
        return cls((match.group(1) or host).strip("[]"), int(match.group(2)))

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        if self.unix or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix:{self.unix}" if self.unix else f"{host}:{self.port}"


def check_exposed(places: list[Listen], *, token: bool, insecure: bool) -> None:
    """Refuse to let other machines in unasked.

    Raises:
        InvalidOption: A place that others can reach, no token, and no word that it is meant.
    """
    for place in places:
        if not (place.is_local or token or insecure):
            raise InvalidOption(
                f"other machines can reach {place}: give --token-file FILE (a line of {SHORTEST} characters or more, "
                "`openssl rand -hex 16 > FILE`), or --insecure if the network is yours alone"
            )


class Tokens:
    """The tokens that open the door.

    Args:
        tokens: The secrets; none lets everybody in.
    """

    def __init__(self, tokens: tuple[str, ...] = ()) -> None:
        self._tokens = tuple(token.encode() for token in tokens)

    @classmethod
    def read(cls, path: str) -> Tokens:
        """The tokens of a file, one a line.

        Raises:
            InvalidOption: The file cannot be read, has none, or a short one.
        """
        try:
            lines = read_given(path, _MOST).decode("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidOption(f"the token file {path} cannot be read: {error}") from error
        tokens = tuple(line.strip() for line in lines if line.strip())
        if not tokens or min(map(len, tokens)) < SHORTEST:
            raise InvalidOption(
                f"the token file {path} must have a token a line, each of {SHORTEST} characters or more"
            )
        return cls(tokens)

    @property
    def wanted(self) -> bool:
        """Whether a token is asked for."""
        return bool(self._tokens)

    def open_to(self, authorization: str | bytes | None) -> bool:
        """Whether the header ``Authorization`` shows a right token; takes equally long for every wrong one."""
        if not self._tokens:
            return True
        given = authorization.encode(errors="replace") if isinstance(authorization, str) else authorization or b""
        scheme, _, token = given.partition(b" ")
        found = [hmac.compare_digest(token.strip(), known) for known in self._tokens]
        return scheme.lower() == b"bearer" and any(found)
