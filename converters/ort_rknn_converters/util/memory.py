"""Memory that is free, and memory a process holds, as the system says it."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path

__all__ = ["free_memory", "peaks", "resident"]


def resident(process: int | None = None) -> int:
    """Bytes of memory a process holds; 0 where nobody says.

    Args:
        process: Its number; this one by default.
    """
    try:
        statm = Path(f"/proc/{'self' if process is None else process}/statm").read_text()
        return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def peaks() -> tuple[int, int]:
    """Largest resident size this process had, and that of the largest of its children that have ended, in bytes.

    What a child held before it became its program is the parent's, and counts: a small child of a large process is
    reported as large.
    """
    own = 0
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        own = int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return own or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, children


def free_memory(*, swap: bool = False) -> float:
    """Bytes of memory that are free, in this container if it is one; infinite where nobody says.

    Args:
        swap: Count the free swap, too.
    """
    names = ("MemAvailable:", "SwapFree:") if swap else ("MemAvailable:",)
    found = [float("inf")]
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        sizes = [int(line.split()[1]) * 1024.0 for line in lines if line.startswith(names)]
        found += [sum(sizes)] if sizes else []
    with suppress(OSError, ValueError):  # "max" is no number: no limit
        group = Path("/sys/fs/cgroup")
        found.append(float(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())))
    return max(0.0, min(found))
