"""A runtime's answers to the project's questions, model by model: return codes, attributes, log lines, crashes.

Asks mistakes that kill a process, so it is a program of its own, without threads, that forks for each section::

    python -m ort_rknn_conformance.hardware.contract.ask /usr/lib/librknnrt.so model.rknn
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ort_rknn_conformance.hardware.contract.calls import questions
from ort_rknn_conformance.hardware.contract.memory import memory_questions
from ort_rknn_conformance.hardware.contract.raw_runtime import RawRuntime
from ort_rknn_conformance.hardware.contract.sections import LIMIT, Section, Teller, run_section
from ort_rknn_converters.util.plain_data import parse_json

__all__ = ["FORMAT", "ask_all", "ask_apart", "main"]

FORMAT = 1
"""Version of the answers' layout."""


def ask_all(library: str, model: bytes, *, dynamic: bool, limit: float = LIMIT) -> list[Section]:
    """Ask everything about one model. The library is opened in the children only.

    Args:
        library: The runtime's path.
        model: A ``.rknn``.
        dynamic: Whether it was compiled for several sets of input shapes.
        limit: Seconds a section may take.
    """
    names = [name for _, name in _sections(None, model, dynamic)]
    found = []
    for number, name in enumerate(names):

        def ask(tell: Teller, number: int = number) -> None:
            runtime = RawRuntime(library)
            asks = [ask for ask, _ in _sections(runtime, model, dynamic)]
            asks[number](tell)

        found.append(run_section(name, ask, limit))
    return found


def ask_apart(
    library: str,
    model: bytes,
    *,
    dynamic: bool,
    limit: float = LIMIT,
    environment: Mapping[str, str] | None = None,
    tell: Callable[[Section], None] | None = None,
) -> list[Section]:
    """Ask everything about one model in a light process of its own, as this one may have threads and be large.

    Args:
        library: The runtime's path.
        model: A ``.rknn``.
        dynamic: Whether it was compiled for several sets of input shapes.
        limit: Seconds a section may take.
        environment: Of the process; default: this one's.
        tell: Called with each section as soon as it is there.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.rknn"
        path.write_bytes(model)
        more = ["--dynamic"] if dynamic else []
        command = [sys.executable, "-m", __name__, library, str(path), "--limit", str(limit), *more]
        found = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
            assert child.stdout is not None
            for line in child.stdout:
                found.append(Section.from_dict(parse_json(line)))
                if tell is not None:
                    tell(found[-1])
        return found


def _sections(runtime: RawRuntime | None, model: bytes, dynamic: bool) -> list[tuple[Any, str]]:
    later: Any = runtime  # None where only the names are wanted
    rows = [*questions(later, model), *memory_questions(later, model, dynamic=dynamic)]
    return [(ask, name) for name, ask in rows]


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask and print one JSON object a section, line by line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("library")
    parser.add_argument("model", type=Path)
    parser.add_argument("--dynamic", action="store_true")
    parser.add_argument("--limit", type=float, default=LIMIT)
    chosen = parser.parse_args(arguments)
    for section in ask_all(chosen.library, chosen.model.read_bytes(), dynamic=chosen.dynamic, limit=chosen.limit):
        print(json.dumps(section.to_dict()), flush=True)


if __name__ == "__main__":
    main()
