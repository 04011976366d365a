"""Writes docs/errors.md: every text of an error or warning, read from the sources, with cause and cure.

python -m docs.list_errors           rewrites it
python -m docs.list_errors --check   exit code 1 when it is out of date
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from docs.error_texts import ErrorText, every_text
from docs.error_topics import INTERNAL, TOPICS, VENDOR, Topic
from docs.markdown import table, write_or_check
from ort_rknn.devices.vendor_errors import ERRORS

PAGE = Path(__file__).with_name("errors.md")
INTRODUCTION = """\
# Errors and warnings

Search this page for the words you saw. `…` stands for a value: a name, a number, a path. The lists are read from the sources, so they
are whole. Written by `python -m docs.list_errors`; do not edit.

Errors of our own derive from `RknnError` or, in conversions, from `ConvertError`; both are `RuntimeError`s, and those about values are
`ValueError`s, too. What onnxruntime would raise is raised as onnxruntime's class: `Fail`, `InvalidArgument`, `NoSuchFile` and others, of
`onnxruntime.capi.onnxruntime_pybind11_state`. Warnings go to the logger `ort_rknn`."""


def topic_of(one: ErrorText) -> Topic | None:
    """The topic of a text; ``None`` for what reaches nobody by itself. The longest beginning of its module's name counts."""
    found = [(prefix, topic) for topic in TOPICS for prefix in topic.modules] + [(name, None) for name in INTERNAL]
    there = [(len(prefix), topic) for prefix, topic in found if one.module.startswith(prefix)]
    if not there:
        raise LookupError(f"{one.module} has no topic in docs/error_topics.py: {one.text}")
    return max(there, key=lambda row: row[0])[1]


def lines() -> Iterator[str]:
    """The page."""
    yield INTRODUCTION
    yield from ("", "## Texts of the vendor's software, of pip and of onnxruntime", "")
    yield from table(("text", "cause", "cure"), [(f"`{text}`", cause, cure) for text, cause, cure in VENDOR])
    yield from ("", "## Return codes of librknnrt", "")
    yield from table(
        ("code", "name", "meaning"), [(str(code), f"`{name}`", said) for code, (name, said) in ERRORS.items()]
    )
    texts = every_text()
    for topic in TOPICS:
        rows = sorted((one.text, one.kind) for one in texts if topic_of(one) is topic)
        yield from ("", f"## {topic.title}", "", f"**Cause.** {topic.cause}", "", f"**Cure.** {topic.cure}", "")
        yield from table(("text", "raised as"), [(f"`{text.replace('`', chr(39))}`", kind) for text, kind in rows])


if __name__ == "__main__":
    raise SystemExit(write_or_check(PAGE, lines()))
