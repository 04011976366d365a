"""Puts the vowels into Arabic and Hebrew text, with Piper's two networks: one made of GRUs, one of loops."""

from __future__ import annotations

from piper.hebrew import NakdimonDiacritizer
from piper.tashkeel import TashkeelDiacritizer

arabic, hebrew = TashkeelDiacritizer(), NakdimonDiacritizer()
for text in ("مرحبا بالعالم", "اللغة العربية جميلة", "ذهب الولد إلى المدرسة"):
    print(arabic(text))
for text in ("שלום עולם", "הילד הלך לבית הספר"):
    print(hebrew(text))
