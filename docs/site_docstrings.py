"""Turns the roles of reStructuredText in docstrings into code, for the API pages, which are Markdown."""

from __future__ import annotations

import re
from typing import Any

try:
    import griffe
except ModuleNotFoundError:  # outside the site's environment only `plain` is of use
    griffe = None  # type: ignore[assignment]

_ROLE = re.compile(r":(?:\w+:)?\w+:`(~?)([^`<>]+)`")


def plain(text: str) -> str:
    """Replaces ``:class:`~a.b.C``` by ``C`` in code, and ``:meth:`run``` by ``run``."""
    return _ROLE.sub(lambda found: f"`{found[2].rpartition('.')[2] if found[1] else found[2]}`", text)


class PlainRoles(griffe.Extension if griffe else object):  # type: ignore[misc]
    """Applies :func:`plain` to every docstring."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Changes the docstring of an object that was read."""
        if obj.docstring is not None:
            obj.docstring.value = plain(obj.docstring.value)
