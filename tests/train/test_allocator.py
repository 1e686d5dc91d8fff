"""Freed arrays are kept: the system is asked for their pages once."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from kft.train.allocator import keep_freed_memory, return_freed_memory
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def held(): return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
print(keep_freed_memory() if sys.argv[1] == "keep" else None)
before = faults()
for _ in range(10):
    b"x" * (64 << 20)
print(faults() - before)
kept = held()
return_freed_memory()
print(kept - held())
"""


def faults(way: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, way],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_arrays_of_the_next_step_take_the_same_pages() -> None:
    done, kept, returned = faults("keep")
    assert done == "True"
    _, by_itself, _ = faults("leave")
    assert int(kept) < int(by_itself) / 5
    assert int(returned) > 48 << 20  # of the 64 MiB that were kept


def test_what_the_environment_says_counts() -> None:
    assert faults("keep", MALLOC_TRIM_THRESHOLD_="1000000")[0] == "False"
