"""Runs NudeNet's detector on drawn pictures: the session is made without a list of providers. It finds nothing."""

from __future__ import annotations

import numpy as np
from nudenet import NudeDetector

detector = NudeDetector()
for seed in range(3):
    picture = np.random.default_rng(seed).integers(0, 255, (240, 320, 3), np.uint8)
    print(detector.detect(picture))
