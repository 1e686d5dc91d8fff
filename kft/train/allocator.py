"""What glibc does with freed arrays: kept for the next step, or returned to the system."""

from __future__ import annotations

import ctypes
import os
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT_AT_THE_TOP = (1 << 31) - 1  # bytes; the most that an int says
_OWN_PAGES_FROM = 256 << 20  # bytes
_SAID_BY_USERS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Keep what a step frees for the next one, which makes arrays of the same sizes.

    By itself glibc returns arrays above 32 MiB at once, and what lies free at the heap's top; each
    step then waits for the system to clear the same pages again. The peak stays as it is.

    Returns:
        Whether it was done: with glibc, where the environment says nothing of its own.

    Source:
        mallopt(3).
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _SAID_BY_USERS):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    kept = mallopt(_TRIM_THRESHOLD, _KEPT_AT_THE_TOP)
    return bool(kept and mallopt(_MMAP_THRESHOLD, _OWN_PAGES_FROM))


def return_freed_memory() -> None:
    """Give back to the system what was kept, once no further step will want it."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
