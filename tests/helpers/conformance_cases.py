"""What a conformance worker does in the runner's tests: the case's name says how it ends."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from ort_rknn_conformance.case import Case, Settings
from ort_rknn_conformance.flows import Flow
from ort_rknn_conformance.result import CaseResult


def act(case: Case, flow: Flow, settings: Settings) -> CaseResult:
    """Behave as the name says."""
    behaviour = case.name.partition("/")[0]
    if behaviour == "abort":
        os.write(2, b"terminate called: planted\n")
        os.abort()
    if behaviour == "exit":
        os._exit(3)
    if behaviour == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if behaviour == "hang":
        threading.Event().wait()
    verdict: Any = behaviour if behaviour in ("right", "wrong") else "right"
    return CaseResult(case.name, verdict, f"{flow.name} {settings.target} {os.getpid()}")
