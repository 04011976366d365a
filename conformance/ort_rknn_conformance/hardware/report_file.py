"""The one JSON of ``ort-rknn board-test``: it grows after every trial, so that nothing learned is lost."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ort_rknn_conformance.hardware.trial import Trial
from ort_rknn_converters.util.own_files import read_regular
from ort_rknn_converters.util.plain_data import check_fields, parse_json

__all__ = ["FORMAT", "ReportFile"]

FORMAT = 2
"""Version of the file's layout; it grows when a field changes its meaning."""

_SAME = ("where", "target", "runs")


_MOST = 1 << 28  # bytes of a report; a guess: a board's has 1 MB


class ReportFile:
    """The file and its content.

    Args:
        path: Where it is.
        facts: What is known before the first trial: ``where``, ``target``, ``machine`` and so on.
        resume: Go on with what is there.

    Attributes:
        content: What is in the file.

    Raises:
        ValueError: What is there is no report, or one of something else.
        OSError: It cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], facts: Mapping[str, Any], *, resume: bool = False) -> None:
        self.path = Path(path)
        self.content: dict[str, Any] = {"format": FORMAT, **facts, "complete": False, "trials": []}
        if resume and self.path.exists():
            before = _read(self.path)
            for key in _SAME:
                if before.get(key) != self.content[key]:
                    raise ValueError(
                        f"{path} is of {key} {before.get(key)!r}, not {self.content[key]!r}: name another file"
                    )
            self.content |= {key: before[key] for key in ("trials", "contract", "cost", "device") if key in before}
        self.write()

    @property
    def done(self) -> set[tuple[str, str]]:
        """Group and name of the trials it has."""
        return {(row["group"], row["name"]) for row in self.content["trials"]}

    @property
    def trials(self) -> list[Trial]:
        """The trials it has."""
        return [Trial(**row) for row in self.content["trials"]]

    def add(self, trial: Trial) -> None:
        """Add a trial."""
        self.content["trials"].append(trial.to_dict())
        self.write()

    def put(self, key: str, value: Any) -> None:
        """Set another part."""
        self.content[key] = value
        self.write()

    def write(self) -> None:
        """Write all of it, whole or not at all.

        Raises:
            OSError: It cannot be written.
        """
        fresh = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            fresh.write_text(json.dumps(self.content, indent=1), encoding="utf-8")
            fresh.replace(self.path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise


def _read(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(read_regular(path, _MOST))
        if content["format"] != FORMAT:
            raise ValueError(f"its layout is {content['format']}, this release writes {FORMAT}")
        for row in content["trials"]:
            check_fields(Trial(**row))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be gone on with: no report of ort-rknn board-test ({error})") from error
    return dict(content)
