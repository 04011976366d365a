"""Version of the conversion: what is kept of an earlier one is used only where this number is the same."""

from __future__ import annotations

__all__ = ["CONVERTER"]

CONVERTER = 9
"""Version of the conversion itself. Raise it with every change that makes other compiled models of the same input."""
