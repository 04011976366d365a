"""What holds for all tests: neither the configuration of whoever runs them nor the speed of the machine has a say."""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

os.environ["ORT_RKNN_CONFIG"] = ""
os.environ["ORT_RKNN_RUNTIME_DIR"] = "off"
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts the tests in the background has them ignore Ctrl-C, and every program they start, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
