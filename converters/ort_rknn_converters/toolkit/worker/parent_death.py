"""Child processes that end with their parent, however it ends: nobody would want what they make.

The toolkit's process reads this file by itself: it must run on Python 3.8 and import nothing of ours.
"""

from __future__ import annotations

import ctypes
import os
import signal

__all__ = ["end_with_parent"]

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """Let the kernel kill this process when its parent goes.

    Args:
        parent: Its process id; one that has gone already ends this process at once.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
