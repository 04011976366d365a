"""What holds for all tests: the configuration of whoever runs them has no say."""

from __future__ import annotations

import os

os.environ["ORT_RKNN_CONFIG"] = ""
