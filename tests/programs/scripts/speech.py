"""Finds speech in a made sound, with the voice detector of faster-whisper: one session, a recurrent network."""

from __future__ import annotations

import numpy as np
from faster_whisper.vad import VadOptions, get_speech_timestamps, get_vad_model

RATE = 16_000
time = np.arange(RATE * 6) / RATE
wobble = 1 + 0.02 * np.sin(2 * np.pi * 3 * time)
voice = sum(np.sin(2 * np.pi * pitch * time * wobble) / n for n, pitch in enumerate((140, 280, 420, 700, 1100), 1))
speaking = (time % 2 < 1) * (0.5 + 0.5 * np.sin(2 * np.pi * 4 * time) ** 2)
noise = np.random.default_rng(0).normal(size=time.size)
sound = (0.25 * voice * speaking + 0.002 * noise).astype(np.float32)

detector = get_vad_model()
print(detector(sound[: time.size // 512 * 512]).size)
print(get_speech_timestamps(sound, VadOptions(threshold=0.6, min_silence_duration_ms=200)))
