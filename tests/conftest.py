"""What holds for all tests: neither the configuration of whoever runs them nor the speed of the machine has a say."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

os.environ["ORT_RKNN_CONFIG"] = ""
os.environ["ORT_RKNN_RUNTIME_DIR"] = "off"
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
