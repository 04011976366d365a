"""Limit of the NPU memory that this process may take, where nobody named one."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

__all__ = ["DOMAIN", "SHARE_OF_RAM", "default_budget"]

DOMAIN = 4 << 30
"""Bytes one IOMMU domain can address: the wall owners meet on boards of any size (rknn-toolkit2#287)."""

SHARE_OF_RAM = 0.8
"""Part of the RAM, which is the NPU's memory too, that may be taken before idle contexts are closed. A guess."""


@lru_cache(maxsize=1)
def default_budget() -> int:
    """Bytes: the NPU's address space, or a part of the RAM where that is less."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("MemTotal:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return DOMAIN
    return min(DOMAIN, int(kilobytes * 1024 * SHARE_OF_RAM))
