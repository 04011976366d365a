"""Shows text of strangers: names in a model, messages of a compiler, contents of files.

Such text can move a terminal's cursor, forge a line of a log, turn the reading direction round, or be a page of markup.
:func:`shown` makes it a harmless piece of one line; :func:`markdown` and :func:`html` also keep it from being markup.
What a program prints, logs or raises goes through :func:`shown_lines`, which leaves the line breaks of our own texts.
"""

from __future__ import annotations

import re

__all__ = ["LONGEST", "code", "html", "in_markup", "lines_in_markup", "markdown", "shown", "shown_lines"]

LONGEST = 200
"""Characters of a name that are shown; the longest of real models have 150. A guess."""

_LONGEST_TEXT = 20_000  # characters of a whole message; a guess: the longest of ours, a log's end, has 12,500

# Controls (C0, DEL, C1), marks that change the reading direction, that have no width or that end a line, surrogates
# (which no terminal's encoding has), tags and what is reserved for other programs' own use; and accents from the fourth
# on one letter, which would cover the lines above and below.
# Patterns are compiled when they are first used: a start from the cache shows no foreign text (a millisecond).
_CODES = (
    "\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff\ud800-\udfff\U00013430-\U0001345f\U0001bca0-\U0001bcaf"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff\U000f0000-\U0010ffff"
)
_ACCENT = "[\u0300-\u036f\u0483-\u0489\u0610-\u061a\u064b-\u065f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_UNSAFE = f"[{_CODES}]|(?<={_ACCENT}{_ACCENT}{_ACCENT}){_ACCENT}"
_UNSAFE_IN_LINES = _UNSAFE.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f")
_MARKDOWN = r"[\\`*_\[\]<>|~&$]|!(?=\[)|(?<=\])\(|^[#>+-]|@(?=\w)|(?<=\w)(?=://)|(?i:www)(?=\.)"
_PLAIN = r"[\w./:@+=, ()-]+"
_LONGEST_LINE = 2000  # characters of a reason or an advice; a guess: the longest of ours has 700


def shown(text: object, most: int = LONGEST) -> str:
    """A foreign text as part of a line: nothing in it controls anything, and it is not long.

    Args:
        text: The text; anything else by its ``str``.
        most: Characters at most; of a longer one the middle is left out.
    """
    plain = str(text)
    if len(plain) > most:
        half = max(1, most // 2 - 1)
        plain = f"{plain[:half]}..{plain[-half:]}"
    return plain if plain.isascii() and plain.isprintable() else re.sub(_UNSAFE, _escaped, plain)


def shown_lines(text: object, most: int = _LONGEST_TEXT) -> str:
    """A text of ours with foreign parts, maybe of several lines: as :func:`shown`, but for its line breaks and tabs."""
    plain = str(text)
    if len(plain) > most:
        plain = f"{plain[: most // 2]} [...] {plain[-most // 2 :]}"
    return plain if plain.isascii() and plain.isprintable() else re.sub(_UNSAFE_IN_LINES, _escaped, plain)


def markdown(text: object, most: int = LONGEST) -> str:
    """A foreign text inside Markdown, a table's cell included: shown as it is, never a link, an image or markup."""
    return re.sub(_MARKDOWN, _in_markdown, shown(text, most))


def _in_markdown(found: re.Match[str]) -> str:
    sign = found[0]
    if sign in ("<", ">", "&"):
        return {"<": "&lt;", ">": "&gt;", "&": "&amp;"}[sign]
    return f"\\{sign}" if sign and not sign.isalpha() and sign != "@" else f"{sign}&#8203;"


def html(text: object, most: int = LONGEST) -> str:
    """A foreign text inside HTML or SVG, attributes in quotes included."""
    from html import escape

    return escape(shown(text, most), quote=True)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code in (9, 10, 13):
        return {9: "\\t", 10: "\\n", 13: "\\r"}[code]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def in_markup(text: object) -> str:
    """A foreign text as part of a line that rich prints: nothing in it is rich's markup."""
    from rich.markup import escape  # not at the start of a session

    return escape(shown(text, _LONGEST_LINE))


def lines_in_markup(text: object) -> str:
    """A message of ours with foreign parts, maybe of several lines, as rich prints it."""
    from rich.markup import escape

    return escape(shown_lines(text))


def code(text: object) -> str:
    """A foreign name inside Markdown: as code where it is plain, else escaped, for a backtick would end the code."""
    plain = shown(text)
    return f"`{plain}`" if re.fullmatch(_PLAIN, plain) else markdown(text)
