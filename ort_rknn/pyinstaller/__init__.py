"""Hooks for PyInstaller, which finds them by this package's entry point: frozen programs convert and run models."""

from __future__ import annotations

from pathlib import Path

__all__ = ["hook_dirs"]


def hook_dirs() -> list[str]:
    """The folders with hooks."""
    return [str(Path(__file__).parent)]
