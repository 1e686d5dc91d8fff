"""The memory there is: free on the machine, allowed to the process, held by it."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

_CGROUP = Path("/sys/fs/cgroup")


def held_bytes(device: torch.device) -> int:
    """What the process holds now: on a CPU resident memory, on CUDA what torch has allocated."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return int(psutil.Process().memory_info().rss)


def free_bytes(device: torch.device, cgroup: Path = _CGROUP) -> int:
    """What the process can still take.

    On a CPU the smaller of what the machine has available and what the process's control group
    has left of its limit; on CUDA what is free on the device or cached by torch.

    Args:
        device: Where the run computes.
        cgroup: Where the control group's files are; of interest to tests.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    available = int(psutil.virtual_memory().available)
    return min([available, *_cgroup_left(cgroup)])


def _cgroup_left(cgroup: Path) -> list[int]:
    """What is left of the control group's limit, in version 2's files or 1's; nothing without one.

    Pages of files that are cached count as used, and are given up when memory is short.
    """
    for limit, used, caches in (
        ("memory.max", "memory.current", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "total_inactive_file",
        ),
    ):
        try:
            allowed = (cgroup / limit).read_text(encoding="ascii").strip()
            taken = int((cgroup / used).read_text(encoding="ascii"))
            lines = (cgroup / used).with_name("memory.stat").read_text(encoding="ascii").split("\n")
        except (OSError, ValueError):
            continue
        if not allowed.isdigit():  # "max"
            return []
        facts = dict(line.split() for line in lines if line)
        return [max(0, int(allowed) - taken + int(facts.get(caches, 0)))]
    return []
