"""The run's log: ``metrics.jsonl``, and the numbers of a step as plain values."""

from __future__ import annotations

import json
import math
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from kft.train.loop import StepStats
from kft.train.trackers import Trackers


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory this process has held: on a GPU the device's, else resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes on Linux


def step_record(stats: StepStats, accelerator: Any) -> dict[str, float]:
    """A step's numbers as they stand in ``metrics.jsonl``."""
    loss, grad_norm = float(stats.loss), float(stats.grad_norm)
    return {
        "step": stats.step,
        "loss": loss,
        "learning_rate": stats.learning_rate,
        "grad_norm": grad_norm,
        "num_targets": int(stats.num_targets),
        "tokens_per_second": int(stats.num_tokens) / stats.seconds,
        "peak_memory_bytes": peak_memory_bytes(accelerator.device),
    }


def checkpoint_record(step: int, seconds: float, folder: Path) -> dict[str, float]:
    """What a checkpoint took, as it stands in ``metrics.jsonl``: seconds, and bytes on disk."""
    size = sum(path.stat().st_size for path in folder.iterdir())
    return {"step": step, "checkpoint_seconds": seconds, "checkpoint_bytes": size}


def finite(value: Any) -> Any:
    """The same with every number that isn't finite as ``None``: JSON has no infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(below) for key, below in value.items()}
    return [finite(below) for below in value] if isinstance(value, list | tuple) else value


class RunLog:
    """Appends lines to ``metrics.jsonl``; a line is on disk once it was written.

    Args:
        folder: The run folder; must exist.
        trackers: Told of every line too, and closed with the log.
    """

    def __init__(self, folder: Path, trackers: Trackers | None = None) -> None:
        self._trackers = trackers
        self.path = folder / "metrics.jsonl"
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one line."""
        line = json.dumps(finite(record), ensure_ascii=False, allow_nan=False)
        self._file.write(line + "\n")
        self._file.flush()
        if self._trackers is not None:
            self._trackers.log(record)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        if self._trackers is not None:
            self._trackers.close()


def cut_log(folder: Path, first_step: int) -> None:
    """Drop the lines from ``first_step`` on: these steps are about to be taken again."""
    kept = [line for line in read_log(folder) if line["step"] < first_step]
    part = folder / "metrics.jsonl.part"
    part.write_text(
        "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept), encoding="utf-8"
    )
    part.replace(folder / "metrics.jsonl")


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's ``metrics.jsonl``, in order."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    # A killed run may have left half of its last line.
    return [json.loads(line) for line in lines if line.endswith("\n") and line.strip()]
