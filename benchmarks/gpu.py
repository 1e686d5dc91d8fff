"""Speed, memory and correctness on one GPU, in one call: no network, one JSON as the result.

    python benchmarks/gpu.py [--out FOLDER] [--only NAME ...] [--steps 8] [--minutes 9.5]
    python benchmarks/gpu.py --tiny     # on a CPU, a block of each shape: does it run?

Checkpoints have random weights of the published shapes and are made in a temporary folder; rows are
this repository's own replies, joined. Each measurement is a process of its own. First kft
(`kft bench`: the first step isn't timed), then correctness (`tests/gpu`: precisions, 4-bit kernels,
attention over documents, float16's scaler, resuming, the steps of the CPU), then the peers with
each of their settings, on the same rows and likewise without the first step: TRL's SFTTrainer and
transformers' Trainer where `trl` and `datasets` are installed, Unsloth where that is. When the
minutes are over, what is left is named in the result. kft alone needs neither `datasets` nor, but
for QLoRA, `bitsandbytes`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from gpu_workloads import SHAPES, WORK, make_checkpoint, make_recipe

from kft.models.precision import compute_dtype, dtype_name

_GOALS = {"utilization": 0.45, "against TRL": 1.5, "12.8B under": 12e9}


class Deadline:
    """How long is left; what would begin after it isn't begun."""

    def __init__(self, minutes: float) -> None:
        self._end = time.monotonic() + 60 * minutes

    @property
    def left(self) -> float:
        """Seconds."""
        return self._end - time.monotonic()


def run(command: list[str], deadline: Deadline) -> dict[str, Any]:
    """The JSON that a process ends with; what went wrong is a result too."""
    if deadline.left < 5:
        return {"error": ["no time was left"]}
    started = time.perf_counter()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=deadline.left
        )
    except subprocess.TimeoutExpired:
        return {"error": ["not over when the time was"]}
    seconds = time.perf_counter() - started
    found = last_json(done.stdout)
    if done.returncode or found is None:
        return {"error": done.stderr.strip().splitlines()[-12:], "whole_seconds": seconds}
    return {**found, "whole_seconds": seconds}


def last_json(text: str) -> dict[str, Any] | None:
    """The object that ends a text; trainers print their own dictionaries before it."""
    lines = text.splitlines()
    for start in range(len(lines) - 1, -1, -1):
        if lines[start].startswith("{"):
            with contextlib.suppress(json.JSONDecodeError):
                found: dict[str, Any] = json.loads("\n".join(lines[start:]))
                return found
    return None


def by_kft(place: Path, steps: int, deadline: Deadline) -> dict[str, Any]:
    """`kft bench` of a work."""
    words = ["-m", "kft", "bench", str(place / "recipe.yaml"), "--steps", str(steps), "--json"]
    return run([sys.executable, *words], deadline)


def by_peer(side: str, place: Path, settings: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
    """The same by a peer."""
    words = ["benchmarks/peer_runs.py", str(place), side, json.dumps(settings)]
    found = run([sys.executable, *words, "--warm-up", "1"], deadline)
    if "seconds" in found:
        found["tokens_per_second"] = found["tokens"] / found["seconds"]
    return found


def correctness(deadline: Deadline) -> dict[str, Any]:
    """What the tests for a GPU say, where pytest is installed."""
    command = [sys.executable, "-m", "pytest", "tests/gpu", "-m", "gpu", "-q"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=max(1.0, deadline.left)
        )
    except subprocess.TimeoutExpired:
        return {"error": ["not over when the time was"]}
    return {"returncode": done.returncode, "said": done.stdout.strip().splitlines()[-12:]}


def reason_without(name: str) -> str | None:
    """Why a work can't be measured here."""
    needs = WORK[name].keys.get("adapter.method") == "qlora" and "bitsandbytes"
    return f"{needs} isn't installed" if needs and not find_spec(needs) else None


def measure_kft(folder: Path, options: Any, deadline: Deadline, results: dict[str, Any]) -> None:
    """Every work by kft."""
    for name in options.only:
        shape = WORK[name].shape
        reason = reason_without(name)
        if reason:
            results["work"][name] = {"kft": {"error": [reason]}}
            continue
        if not (folder / shape).is_dir():
            make_checkpoint(folder / shape, shape, tiny=options.tiny)
        steps = options.steps + 1
        place = make_recipe(folder, name, steps, options.precision, tiny=options.tiny)
        found = by_kft(place, options.steps, deadline)
        results["work"][name] = {"kft": found}
        write(results, options.out)
        print(name, json.dumps(found)[:200], flush=True)


def measure_peers(folder: Path, options: Any, deadline: Deadline, results: dict[str, Any]) -> None:
    """Every work that kft did, by its peers; a setting of each work before the next of any."""
    turns: list[tuple[int, str, str, dict[str, Any], str]] = []
    for name in options.only:
        work = WORK[name]
        installed = {"trl": ["trl", "datasets"], "trainer": ["datasets"]}.get(work.peer or "", [])
        missing = [one for one in installed if not find_spec(one)]
        for number, (label, settings) in enumerate(work.grid.items()):
            if work.peer and not missing:  # their base in the precision that kft's has
                settings = {"model_dtype": options.precision, **settings}
                turns.append((number, name, work.peer, settings, label))
        if work.has_unsloth and find_spec("unsloth"):
            turns.append((0, name, "unsloth", {}, "Unsloth, its defaults"))
        if missing:
            results["work"][name]["peers"] = {"error": [f"{missing[0]} isn't installed"]}
    for _, name, side, settings, label in sorted(turns, key=lambda turn: turn[0]):
        place = folder / name
        if not place.is_dir() or (
            settings.get("use_liger_kernel") and not find_spec("liger_kernel")
        ):
            continue
        found = by_peer(side, place, settings, deadline)
        results["work"][name].setdefault("peers", {})[label] = found
        write(results, options.out)
        print(name, label, json.dumps(found)[:200], flush=True)


def summarize(results: dict[str, Any]) -> dict[str, Any]:
    """Each work's ratio to its best peer, and whether the goals are reached."""
    summary = {}
    for name, one in results["work"].items():
        mine = one["kft"]
        if "tokens_per_second" not in mine:
            continue
        line = {
            "tokens_per_second": mine["tokens_per_second"],
            "utilization": mine["utilization"],
            "peak_memory_bytes": mine["peak_memory_bytes"],
        }
        others = {
            label: found["tokens_per_second"]
            for label, found in one.get("peers", {}).items()
            if isinstance(found, dict) and "tokens_per_second" in found
        }
        if others:
            best = max(others, key=lambda label: others[label])
            line["best_peer"] = best
            line["ratio"] = mine["tokens_per_second"] / others[best]
        summary[name] = line
    return summary


def write(results: dict[str, Any], out: Path) -> Path:
    """After each measurement, so that a call that is cut off leaves what it had."""
    target = out / f"gpu-{results['device'].lower().replace(' ', '-')}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    results["summary"] = summarize(results)
    target.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return target


def roomy_folder(*, tiny: bool) -> str | None:
    """Where 45 GB of weights have room: memory, or the usual place."""
    shared = "/dev/shm"  # noqa: S108 -- weights of random numbers
    if tiny or not os.access(shared, os.W_OK) or shutil.disk_usage(shared).free < 50e9:
        return None
    return shared


def main() -> None:
    """Measure, and write one JSON as large as the work that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--only", nargs="+", choices=list(WORK), default=list(WORK))
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=9.5)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    deadline = Deadline(options.minutes)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    options.precision = dtype_name(compute_dtype("auto", device))
    if not options.tiny and not torch.cuda.is_available():
        raise SystemExit("There is no CUDA device; `--tiny` tries the script on a CPU.")
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    results: dict[str, Any] = {
        "device": name, "torch": torch.__version__, "goals": _GOALS, "steps": options.steps,
        "rows_per_step": {shape: one.rows for shape, one in SHAPES.items()}, "work": {},
    }  # fmt: skip
    with tempfile.TemporaryDirectory(dir=roomy_folder(tiny=options.tiny)) as temporary:
        measure_kft(Path(temporary), options, deadline, results)
        if not options.tiny:
            results["correctness"] = correctness(deadline)
        measure_peers(Path(temporary), options, deadline, results)
    print(json.dumps(results["summary"], indent=2))
    print(write(results, options.out))


if __name__ == "__main__":
    main()
