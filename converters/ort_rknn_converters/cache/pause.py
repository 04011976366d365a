"""Failures of the moment: not kept as a fact, only not tried at every single start.

The first failure is tried again at the next start. From the second on there is a pause before, which grows: a board
that is always short of memory would spend a minute of every start on it. Until it is over, the parts that did compile
are used, which a pause keeps beside it.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ort_rknn_converters.compiled.model import CompiledModel
from ort_rknn_converters.errors import FROZEN, CompiledModelError, ConvertError, ToolkitMissing, freeze, thaw
from ort_rknn_converters.util.frozen import replace
from ort_rknn_converters.util.log import logger
from ort_rknn_converters.util.own_files import make_private, read_own, write_own
from ort_rknn_converters.util.plain_data import COUNT, NUMBER, TEXT, parse_json, record

__all__ = ["Pauses"]

FIRST_S, TIMES, LONGEST_S = 60.0, 4.0, 86400.0
"""Seconds of the first pause, growth of the next, and the longest. Guesses: a start in a loop meets the first, and
the second day of a machine that was short of memory begins with another try."""

_NOTE = "pause.json"
_MOST = 1 << 20  # bytes of a note: a failure carries the end of the compiler's log
_FORM = record({"tries": COUNT, "since": NUMBER, "until": NUMBER, "failure": FROZEN, "toolkit": TEXT})


class Pauses:
    """The pauses in one cache folder. Whoever writes one holds the lock of its key; what cannot be written is not.

    Args:
        folder: The cache's.
        toolkit: Which toolkit there is; another one is tried at once.
    """

    def __init__(self, folder: Path, toolkit: str) -> None:
        self.folder = folder / "paused"
        self._toolkit = toolkit

    @classmethod
    def of(cls, folder: Path) -> Pauses:
        """The pauses in a cache folder, with the toolkit there is now."""
        from ort_rknn_converters.toolkit.setup.environment import find_python

        try:
            toolkit = find_python()
        except ToolkitMissing:
            return cls(folder, "")
        stamps = []
        with suppress(OSError):
            packages = Path(toolkit.python).parent.parent.glob("lib/python3*/site-packages")
            stamps = [place.stat().st_mtime_ns for place in packages]  # whoever repairs it changes them
        return cls(folder, f"{toolkit.python} {toolkit.version} {max(stamps, default=0)}")

    def enforce(self, key: str) -> CompiledModel | None:
        """Returns what to use as long as this model is not to be tried; ``None`` when it is.

        Raises:
            ConvertError: There is nothing to use: the failure, and when it will be tried again.
        """
        facts = self._facts(key)
        if not facts or not facts["since"] <= time.time() < facts["until"]:  # a clock that was set back ends a pause
            return None
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(facts["until"]))
        note = f" (failed {facts['tries']} times; tried again from {when} on, or after `ort-rknn cache clear`)"
        with suppress(OSError, ValueError, KeyError, TypeError, CompiledModelError):
            found = CompiledModel.load_folder(self.folder / key)
            return replace(found, provisional=facts["failure"]["message"] + note)
        raise thaw(facts["failure"], note)

    def begin(self, key: str, failure: ConvertError, made: CompiledModel | None) -> None:
        """Note one more failure.

        Args:
            key: Of the model.
            failure: Why.
            made: What was made all the same.
        """
        tries = self._facts(key).get("tries", 0) + 1
        pause = min(LONGEST_S, FIRST_S * TIMES ** (tries - 2)) if tries > 1 else 0.0
        now = time.time()
        facts = {"tries": tries, "since": now, "until": now + pause, "failure": freeze(failure)}
        folder = self.folder / key
        try:
            self.end(key)
            make_private(folder)
            if made is not None and made.npu_steps and pause:
                made.save_folder(folder)
            new = folder / f"{_NOTE}.new"
            write_own(new, json.dumps({**facts, "toolkit": self._toolkit}))
            new.replace(folder / _NOTE)
        except OSError as error:
            logger().debug("the failure is tried again at every start: %s", error)

    def end(self, key: str) -> None:
        """Forget the failures of a model."""
        if (self.folder / key).exists():
            from shutil import rmtree

            rmtree(self.folder / key, ignore_errors=True)

    def clear(self) -> None:
        """Forget all."""
        with suppress(OSError):
            for folder in self.folder.iterdir():
                self.end(folder.name)

    def _facts(self, key: str) -> dict[str, Any]:
        try:
            facts: dict[str, Any] = parse_json(read_own(self.folder / key / _NOTE, _MOST), _FORM)
        except (OSError, ValueError):
            return {}
        bounded = facts["until"] - facts["since"] <= LONGEST_S  # or a damaged note would keep a model off for ever
        return facts if bounded and facts["toolkit"] == self._toolkit else {}
