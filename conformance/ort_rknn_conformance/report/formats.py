"""The report options that ``check`` and ``conformance`` share: the forms a run is written in, and the baseline."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from ort_rknn_conformance.case import CaseError
from ort_rknn_conformance.result import CaseResult
from ort_rknn_converters.util.frozen import frozen

__all__ = ["ReportFiles", "report_options"]

Command = TypeVar("Command", bound=Callable[..., Any])

_FORMS = {"junit": "junit", "markdown": "markdown", "html": "page"}  # option -> module with a function write


@frozen
class ReportFiles:
    """Files that a run is written to.

    Attributes:
        json: The JSON file, which ``--baseline`` and ``--resume`` read.
        junit: JUnit XML.
        markdown: Markdown.
        html: The page.
        baseline: JSON of an earlier run.
    """

    json: str | None = None
    junit: str | None = None
    markdown: str | None = None
    html: str | None = None
    baseline: str | None = None

    def earlier(self) -> tuple[str, list[CaseResult]] | None:
        """The name and the results of the baseline: read before anything runs, as a wrong one is better said at once.

        Raises:
            CaseError: It is no report of ours, or a folder a file is to be written to does not exist.
        """
        for name in ("json", *_FORMS):
            wanted = getattr(self, name)
            if wanted is not None and not Path(wanted).absolute().parent.is_dir():
                raise CaseError(f"{wanted} cannot be written: there is no folder {Path(wanted).parent}")
        if self.baseline is None:
            return None
        from ort_rknn_conformance.report import json_report

        head, results = json_report.read(self.baseline)
        return f"{Path(self.baseline).name} of {str(head.get('written', ''))[:10]}", results

    def write(
        self,
        title: str,
        head: dict[str, Any],
        results: Iterable[CaseResult],
        *,
        seconds: float,
        earlier: tuple[str, list[CaseResult]] | None,
    ) -> Any:
        """Write every form that was asked for.

        Args:
            title: What was looked at.
            head: The JSON report's header.
            results: All of them.
            seconds: Wall time.
            earlier: From :meth:`earlier`.

        Returns:
            The :class:`~ort_rknn_conformance.report.baseline.Difference`, or ``None`` without a baseline.

        Raises:
            CaseError: A file cannot be written.
        """
        from ort_rknn_conformance.report import json_report
        from ort_rknn_conformance.report.baseline import difference
        from ort_rknn_conformance.report.document import Document

        rows = tuple(sorted(results, key=lambda result: result.case))
        changed = difference(earlier[1], rows, earlier[0]) if earlier is not None else None
        document = Document(title, head, rows, seconds, changed)
        path = self.json
        try:
            if self.json is not None:
                json_report.write(self.json, head, rows)
            for name, module in _FORMS.items():
                path = getattr(self, name)
                if path is not None:
                    importlib.import_module(f"ort_rknn_conformance.report.{module}").write(path, document)
        except OSError as error:
            raise CaseError(f"{error.filename or path} cannot be written: {error.strerror}") from error
        return changed


def report_options(command: Command) -> Command:
    """Add the options to a click command; it gets them as ``files``, see :func:`ReportFiles`."""
    file = click.Path(dir_okay=False)
    for option in (
        click.option("--baseline", type=file, help="JSON of an earlier run: say what got better and what got worse."),
        click.option("--html", type=file, help="Write one page that opens from disk."),
        click.option("--markdown", type=file, help="Write Markdown."),
        click.option("--junit", type=file, help="Write JUnit XML."),
        click.option("--json", type=file, help="Write all results, as they come."),
    ):
        command = option(command)
    return command
