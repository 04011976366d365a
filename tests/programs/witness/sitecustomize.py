"""Writes down which sessions a program under test has: at its end, and when it gets a signal.

``WITNESS`` names a file for the end, ``WITNESS_ASKED`` a named pipe: SIGUSR1 asks for the sessions as they are,
SIGUSR2 for the sessions when nothing compiles any more.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import sys
from pathlib import Path


def _sessions() -> list[object]:
    if "onnxruntime" not in sys.modules:
        return []
    base = sys.modules["onnxruntime.capi.onnxruntime_inference_collection"].InferenceSession
    return [item for item in gc.get_objects() if isinstance(item, base)]


def _rows(sessions: list) -> list[dict[str, object]]:
    return [
        {
            "class": f"{type(session).__module__}.{type(session).__name__}",
            "model": str(session._model_path or "bytes"),
            "providers": session.get_providers(),
            "plan": str(getattr(session, "plan", "")),
            "shapes": [
                {
                    "shapes": {name: list(shape) for name, shape in one.shapes.items()},
                    "state": one.state,
                    "words": str(one),
                }
                for one in getattr(session, "shape_states", ())
            ],
            "runs": session.stats().runs if getattr(session, "shape_states", ()) else None,
        }
        for session in sessions
    ]


def _answer(number: int, _frame: object) -> None:
    sessions = [one for one in _sessions() if hasattr(one, "wait_compiled")]
    if number == signal.SIGUSR2:
        for session in sessions:
            session.wait_compiled()
    Path(os.environ["WITNESS_ASKED"]).write_text(json.dumps(_rows(sessions)), encoding="utf-8")


if "WITNESS" in os.environ:
    atexit.register(lambda: Path(os.environ["WITNESS"]).write_text(json.dumps(_rows(_sessions())), encoding="utf-8"))
if "WITNESS_ASKED" in os.environ:
    signal.signal(signal.SIGUSR1, _answer)
    signal.signal(signal.SIGUSR2, _answer)
