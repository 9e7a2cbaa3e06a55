"""A process that ends with the one that started it."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def outlive() -> None:
    """Undo ``die_with``: from now on this process notices the end of its parent by itself, and cleans up."""
    _set_death_signal(0)


def die_with(pid: int) -> None:
    """Let the kernel kill this process when its parent ``pid`` dies; end at once when it has died already."""
    _set_death_signal(signal.SIGKILL)
    if os.getppid() != pid:  # it died before we asked
        os._exit(1)


def _set_death_signal(number: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)
