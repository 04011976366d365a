"""A run as JUnit XML, which every CI system shows: bad cases are failures or errors, unsupported ones are skipped."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from ort_rknn_conformance.report.document import Document
from ort_rknn_conformance.result import CaseResult
from ort_rknn_converters.util.foreign_text import shown_lines
from ort_rknn_converters.util.own_files import write_given

__all__ = ["render", "write"]

_FAILURES = frozenset({"wrong", "xpassed"})
_ERRORS = frozenset({"error", "crashed", "timeout"})
_SKIPPED = frozenset({"unsupported", "skipped", "xfailed"})
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(path: str | Path, document: Document) -> None:
    """Write the file.

    Raises:
        OSError: It cannot be written.
    """
    write_given(path, render(document))


def render(document: Document) -> str:
    """The XML as text."""
    counts = document.counts
    suite = ElementTree.Element(
        "testsuite",
        name=_clean(f"{document.title} ({document.setting})"),
        tests=str(len(document.results)),
        failures=str(sum(counts[verdict] for verdict in counts if verdict in _FAILURES)),
        errors=str(sum(counts[verdict] for verdict in counts if verdict in _ERRORS)),
        skipped=str(sum(counts[verdict] for verdict in counts if verdict in _SKIPPED)),
        time=f"{document.seconds:.3f}",
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name, version in document.head["versions"].items():
        ElementTree.SubElement(properties, "property", name=name, value=str(version))
    for result in document.results:
        _case(suite, result, document.head["flow"])
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ElementTree.Element, result: CaseResult, flow: str) -> None:
    group, _, name = result.case.rpartition("/")
    case = ElementTree.SubElement(
        suite,
        "testcase",
        classname=_clean(".".join(filter(None, (flow, group)))),
        name=_clean(name),
        time=f"{result.seconds:.3f}",
    )
    for kind, verdicts in (("failure", _FAILURES), ("error", _ERRORS), ("skipped", _SKIPPED)):
        if result.verdict in verdicts:
            ElementTree.SubElement(case, kind, type=result.verdict, message=_clean(result.message))


def _clean(text: str) -> str:
    """XML cannot say some characters at all, not even escaped."""
    return _NOT_XML.sub("?", shown_lines(text))
